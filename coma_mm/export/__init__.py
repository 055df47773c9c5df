"""Backbones for use elsewhere: files of weights, graphs, folders for the hub."""

WEIGHTS, GRAPHS = ('.pth', '.safetensors'), ('.onnx', '.pt2')  # endings of files
