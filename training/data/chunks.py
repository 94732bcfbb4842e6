"""How many samples are held in memory at once."""

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

_BYTES = 2**26
"""Of the float32 samples in a chunk, at most. The C library gives blocks of more than 32 MB back to the system."""
_MAX_ROWS = 8000
_MULTIPLE = 16
"""Forward passes have this many rows, or a multiple."""


def chunks(count: int, shape: Sequence[int]) -> Iterator[slice]:
    """Yield the rows of `count` samples of `shape`, a chunk at a time: 64 MB of them, or 16 if they are large."""
    fitting = _BYTES // (4 * math.prod(shape))
    rows = min(max(fitting // _MULTIPLE, 1) * _MULTIPLE, _MAX_ROWS)
    for first in range(0, count, rows):
        yield slice(first, min(first + rows, count))


def joined(parts: Sequence[Tensor | None]) -> Tensor | None:
    """Concatenate what was computed of each chunk; None if there is nothing."""
    found = [part for part in parts if part is not None]
    return torch.cat(found) if found else None
