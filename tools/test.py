#!/usr/bin/env python
"""Evaluate a checkpoint: any config of mmpretrain, mmdetection or mmsegmentation, this package's included."""

from _cli import run

if __name__ == '__main__':
    run('test')
