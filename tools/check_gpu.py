#!/usr/bin/env python
"""Check on a GPU what the tests, which run on CPUs, cannot show; then benchmark it. Ends with one page of text."""

from _cli import run

if __name__ == '__main__':
    run('check_gpu')
