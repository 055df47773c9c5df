#!/usr/bin/env python
"""Write model-index.yml and configs/*/metafile.yml, which ``mim search`` and mmpretrain's ModelHub read."""

from _cli import run

if __name__ == '__main__':
    run('metafiles')
