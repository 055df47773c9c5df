#!/usr/bin/env python
"""Make a file of pre-trained weights that others can use: encoder and decoder in float16, and what they are worth."""

from _cli import run

if __name__ == '__main__':
    run('release')
