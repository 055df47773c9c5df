"""Encoders with the depth, heads and options of shipped ones, and a fourth of their width."""

from coma_mm.models.architectures import ARCHITECTURES


def narrow(arch):
    """Return the arch dict of a named or given DyViT, with a fourth of its channels."""
    arch = dict(ARCHITECTURES.get(arch, arch) if isinstance(arch, str) else arch)
    return dict(arch, dims=tuple(dim // 4 for dim in arch['dims']))
