#!/usr/bin/env python
"""Draw reconstructions of a pre-trained model: the units that each branch sees, the assembled image, the error."""

from _cli import run

if __name__ == '__main__':
    run('visualize')
