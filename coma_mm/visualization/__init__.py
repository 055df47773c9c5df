from .reconstruction import Reconstructions, draw_reconstructions, reconstruct_images

__all__ = ['Reconstructions', 'draw_reconstructions', 'reconstruct_images']
