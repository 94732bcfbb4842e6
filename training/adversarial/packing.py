"""Packing: the discriminator judges several samples together, and so sees when they are all alike.

PacGAN: Lin et al. 2018, https://arxiv.org/abs/1712.04086, section 3.
"""

from torch import Tensor


def pack(samples: Tensor, count: int) -> Tensor:
    """Join each `count` neighbors along dimension 1: [N, C, ...] → [N / count, count · C, ...]."""
    return samples if count == 1 else samples.reshape(len(samples) // count, -1, *samples.shape[2:])


def unpack(packed: Tensor, count: int) -> Tensor:
    """Undo `pack`: [N / count, count · C, ...] → [N, C, ...]."""
    return packed if count == 1 else packed.reshape(len(packed) * count, -1, *packed.shape[2:])
