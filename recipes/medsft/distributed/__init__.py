"""DeepSpeed: its configuration for this machine, its operators, resuming from its checkpoints."""
