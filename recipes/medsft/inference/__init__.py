"""Answers of an arm to patients: engines, the generations file, adapters that share a base model."""
