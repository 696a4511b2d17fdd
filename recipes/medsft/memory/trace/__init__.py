"""Real training steps on fake tensors: what they allocate, and when."""
