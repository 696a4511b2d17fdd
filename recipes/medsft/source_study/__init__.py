"""The published study that this project starts from: its facts, scores and memory claims."""
