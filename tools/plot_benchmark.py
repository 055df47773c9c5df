#!/usr/bin/env python
"""Draw the tables of benchmark.py's JSON files: a bar or a line per row, medians with their ranges."""

from _cli import run

if __name__ == '__main__':
    run('plot_benchmark')
