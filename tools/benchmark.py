#!/usr/bin/env python
"""Time this package against what else there is: every model takes its turn in each round of one run."""

from _cli import run

if __name__ == '__main__':
    run('benchmark')
