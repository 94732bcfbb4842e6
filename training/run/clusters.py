"""Clusters of real samples, to see which of them a generator reaches.

Richardson and Weiss 2018, https://arxiv.org/abs/1805.12462, section 3: bins of real samples, and the fractions of
generated samples in them.
"""

import torch
from torch import Tensor

_ITERATIONS = 10


class Clusters:
    """K-means clusters of real samples: Lloyd's algorithm, begun as k-means++ (Arthur and Vassilvitskii 2007)."""

    def __init__(self, real: Tensor, count: int, random: torch.Generator) -> None:
        """`real`: samples [N, values]. `count`: number of clusters."""
        self._centers = _initial_centers(real, count, random)
        for _ in range(_ITERATIONS):
            nearest = self.nearest(real)
            sizes = torch.bincount(nearest, minlength=count)
            sums = torch.zeros_like(self._centers).index_add_(0, nearest, real)
            self._centers = torch.where(sizes[:, None] > 0, sums / sizes[:, None].clamp(min=1), self._centers)
        self.real_fractions = self.fractions(real)
        """The fraction of the real samples in each cluster, [count]."""

    def fractions(self, samples: Tensor) -> Tensor:
        """Return the fraction of samples [N, values] in each cluster: [count]."""
        return torch.bincount(self.nearest(samples), minlength=len(self._centers)) / len(samples)

    def nearest(self, samples: Tensor) -> Tensor:
        """Return the cluster of each of the samples [N, values]: [N]."""
        return torch.cdist(samples, self._centers).argmin(dim=1)


def _initial_centers(real: Tensor, count: int, random: torch.Generator) -> Tensor:
    """Draw rows of `real`, with probabilities proportional to the squared distance from the rows drawn before."""
    centers = real[torch.randint(len(real), (1,), generator=random)]
    squared = torch.cdist(real, centers).square().squeeze(1)
    for _ in range(count - 1):
        row = torch.multinomial(squared.clamp(min=1e-12), 1, generator=random)
        centers = torch.cat([centers, real[row]])
        squared = torch.minimum(squared, torch.cdist(real, real[row]).square().squeeze(1))
    return centers
