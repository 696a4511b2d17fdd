"""The forgetting gate: a bundled suite asked of every arm, and what each lost against the untrained model."""
