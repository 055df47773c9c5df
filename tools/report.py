#!/usr/bin/env python
"""Write the report of a run from the files in its work dir: one page with curves, pictures and settings."""

from _cli import run

if __name__ == '__main__':
    run('report')
