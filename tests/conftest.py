"""Shared by all tests: modules beside a test file can be imported by it, and threads suit a small machine."""

import torch

torch.set_num_threads(2)
