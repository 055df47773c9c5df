#!/usr/bin/env python
"""Pack a folder of images into tar files, which disks and networks read faster than a million small files."""

from _cli import run

if __name__ == '__main__':
    run('shards')
