"""Checkpoints: files that are read without running anything, within a bound of memory and time."""
