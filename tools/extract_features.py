#!/usr/bin/env python
"""Write the features of images, one vector each, to a file that numpy reads: features, paths, labels and classes."""

from _cli import run

if __name__ == '__main__':
    run('embed')
