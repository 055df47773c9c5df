#!/usr/bin/env python
"""Kill a small pre-training again and again, resume it, and compare its end with that of a run left alone."""

from _cli import run

if __name__ == '__main__':
    run('chaos')
