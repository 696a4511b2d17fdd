"""What a run settles before a weight is loaded."""
