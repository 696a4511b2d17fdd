"""DeepSpeed: its configuration for this machine, and its operators. What it leaves out on resuming: `patches`."""
