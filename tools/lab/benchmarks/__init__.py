"""What tools/lab/benchmark.py compares (workloads) and how it measures (timing)."""
