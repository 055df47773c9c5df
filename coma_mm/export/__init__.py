"""Backbones for use elsewhere: files of weights, graphs, folders for the hub."""

# Endings of files.
WEIGHTS = '.pth', '.safetensors'
GRAPHS = '.onnx', '.pt2'
