"""Source rows to train, dev and test splits: read, clean, de-identify, group near-duplicates, fit the token budget."""
