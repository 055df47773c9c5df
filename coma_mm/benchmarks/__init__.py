"""What tools/benchmark.py compares (workloads) and how it measures (timing); its suites: cli/benchmark.py."""
