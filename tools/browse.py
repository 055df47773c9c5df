#!/usr/bin/env python
"""Draw random training images as the training pipeline delivers them, with their masks."""

from _cli import run

if __name__ == '__main__':
    run('browse')
