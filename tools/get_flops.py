#!/usr/bin/env python
"""Count parameters and multiply-accumulates, including attention, of a config's backbone or of the DyViT variants."""

from _cli import run

if __name__ == '__main__':
    run('flops')
