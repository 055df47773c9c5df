"""The commands, one module each; ``tools/*.py`` are their shims."""
