"""Layers that families share."""

from torch import Tensor, nn
from torch.nn import functional

_FEWEST_ROWS = 4


class BatchFreeLinear(nn.Linear):
    """A linear layer whose rows do not depend on how few there are.

    For fewer than four rows matrix libraries take other kernels, which round differently; such batches are padded with
    zeros, which costs next to nothing and lets a lone sample be computed nearly alone.
    """

    def forward(self, input: Tensor) -> Tensor:
        missing = _FEWEST_ROWS - len(input)
        if missing <= 0:
            return super().forward(input)
        return super().forward(functional.pad(input, (0, 0, 0, missing)))[: len(input)]
