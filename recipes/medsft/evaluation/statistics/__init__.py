"""Intervals, paired tests and power over groups of rows."""
