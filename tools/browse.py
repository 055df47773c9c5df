#!/usr/bin/env python
"""Show what training gets to see: images drawn at random, as its pipeline hands them over, with their masks."""

from _cli import run

if __name__ == '__main__':
    run('browse')
