#!/usr/bin/env python
"""Write features of images, one vector for each image, to a NumPy file: features, paths, labels and classes."""

from _cli import run

if __name__ == '__main__':
    run('embed')
