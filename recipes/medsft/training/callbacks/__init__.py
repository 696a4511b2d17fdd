"""Callbacks of a training run: what it is trained on, when it stops, how its loss goes."""
