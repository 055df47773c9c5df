"""Files, arguments and settings: plain Python, without torch."""
