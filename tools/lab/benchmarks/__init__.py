"""Workloads that tools/lab/benchmark.py compares, and their timing."""
