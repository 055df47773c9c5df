#!/usr/bin/env python
"""Answer a question of ``configs/studies`` by a grid of small runs, and write what they show."""

from _cli import run

if __name__ == '__main__':
    run('study')
