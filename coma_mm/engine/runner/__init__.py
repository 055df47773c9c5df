"""Adaptations of mmengine, for any config: from config to runner, loops, resuming, checkpoints, signals, loggers."""
