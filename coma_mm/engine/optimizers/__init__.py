"""Mixed precision where it is fast, and layer decay."""
