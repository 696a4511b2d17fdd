"""What this machine has: GPUs, host memory and its limits, speed of products and disk, energy."""
