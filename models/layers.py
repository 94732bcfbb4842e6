"""Layers that several families use."""

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import spectral_norm

_MIN_ROWS = 4


class BatchInvariantLinear(nn.Linear):
    """A linear layer that gives a row the same bits in a small batch as in a large one.

    For fewer than four rows, matrix libraries choose other kernels, which round differently. Such batches are padded to
    four rows.
    """

    def forward(self, input: Tensor) -> Tensor:
        missing = _MIN_ROWS - len(input)
        if missing <= 0:
            return super().forward(input)
        return super().forward(functional.pad(input, (0, 0, 0, missing)))[: len(input)]


class FourierFeatures(nn.Module):
    """Sines and cosines of the inputs at fixed random frequencies, which show a network fine detail from the start.

    Tancik et al. 2020, https://arxiv.org/abs/2006.10739, section 4. Frequencies are drawn from N(0, bandwidth²), in
    radians per unit of the input.
    """

    frequencies: Tensor

    def __init__(self, inputs: int, count: int, bandwidth: float) -> None:
        super().__init__()
        self.register_buffer("frequencies", torch.randn(inputs, count) * bandwidth)

    def forward(self, x: Tensor) -> Tensor:
        """Append the features to the inputs: [N, inputs] → [N, inputs + 2 count]."""
        phases = x @ self.frequencies  # [N, count]
        return torch.cat([x, phases.sin(), phases.cos()], dim=1)


class MinibatchStd(nn.Module):
    """One more feature that shows a discriminator how much the samples of a group differ.

    Karras et al. 2017, https://arxiv.org/abs/1710.10196, section 3: the standard deviation of each feature over a group
    of neighbors, averaged over features.
    """

    def __init__(self, group_size: int) -> None:
        super().__init__()
        self.group_size = group_size

    def forward(self, x: Tensor) -> Tensor:
        """Append the feature: [N, C, ...] → [N, C + 1, ...]. N is a multiple of `group_size`."""
        groups = x.reshape(len(x) // self.group_size, self.group_size, -1)  # [N / group_size, group_size, values]
        deviation = (groups.var(dim=1, correction=0) + 1e-8).sqrt().mean(dim=1)  # [N / group_size]
        feature = deviation.repeat_interleave(self.group_size).view(-1, *[1] * (x.dim() - 1))  # [N, 1, ...]
        return torch.cat([x, feature.expand(-1, 1, *x.shape[2:])], dim=1)


def maybe_spectral_norm(layer: nn.Module, norm: str) -> nn.Module:
    """Return `layer`, with its largest singular value kept at 1 if `norm` is `spectral`.

    Miyato et al. 2018, https://arxiv.org/abs/1802.05957, algorithm 1.
    """
    return spectral_norm(layer) if norm == "spectral" else layer
