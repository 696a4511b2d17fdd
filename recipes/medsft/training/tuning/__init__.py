"""What is tried before an arm is trained: its learning rate, and how many rows there is time for."""
