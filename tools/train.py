#!/usr/bin/env python
"""Train a model: any config of mmpretrain, mmdetection or mmsegmentation, this package's included."""

from _cli import run

if __name__ == '__main__':
    run('train')
