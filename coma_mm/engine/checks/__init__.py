"""Checks before the first step: settings of a config, channels, classes, data."""
