"""From answers to scores and comparisons."""
