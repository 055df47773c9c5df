#!/usr/bin/env python
"""Write the report of a run, one page with its curves, pictures and settings, from what lies in its work dir."""

from _cli import run

if __name__ == '__main__':
    run('report')
