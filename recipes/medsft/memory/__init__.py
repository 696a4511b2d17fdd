"""The memory plan: strategies, predicted peaks, seconds a step, and what fits."""
