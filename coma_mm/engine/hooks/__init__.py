"""Hooks that evaluate and visualize a model while it trains, one file for each concern."""
