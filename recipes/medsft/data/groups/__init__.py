"""Near-duplicate questions share a group, and groups are split into train, dev and test."""
