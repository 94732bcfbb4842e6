"""What the data's samples gather around, so that one can count how much of it a generator reaches.

Bins of real samples and the shares that generated ones have in them: Richardson and Weiss 2018,
https://arxiv.org/abs/1805.12462, section 3.
"""

import torch
from torch import Tensor

_ROUNDS = 10


class Clusters:
    """`count` clusters of real samples [N, values], found by Lloyd's algorithm from far-apart beginnings.

    Beginnings: Arthur and Vassilvitskii 2007 (k-means++).
    """

    def __init__(self, real: Tensor, count: int, random: torch.Generator) -> None:
        self._centers = _spread(real, count, random)
        for _ in range(_ROUNDS):
            nearest = self._nearest(real)
            sizes = torch.bincount(nearest, minlength=count)
            sums = torch.zeros_like(self._centers).index_add_(0, nearest, real)
            self._centers = torch.where(sizes[:, None] > 0, sums / sizes[:, None].clamp(min=1), self._centers)
        self.shares = self.shares_of(real)

    def shares_of(self, samples: Tensor) -> Tensor:
        """Samples [N, values] → the share of them in each cluster [count]."""
        return torch.bincount(self._nearest(samples), minlength=len(self._centers)) / len(samples)

    def _nearest(self, samples: Tensor) -> Tensor:
        return torch.cdist(samples, self._centers).argmin(dim=1)


def _spread(real: Tensor, count: int, random: torch.Generator) -> Tensor:
    """StageInput of `real`, each drawn with a chance in proportion to its squared distance from those before it."""
    chosen = real[torch.randint(len(real), (1,), generator=random)]
    nearest = torch.cdist(real, chosen).square().squeeze(1)
    for _ in range(count - 1):
        row = torch.multinomial(nearest.clamp(min=1e-12), 1, generator=random)
        chosen = torch.cat([chosen, real[row]])
        nearest = torch.minimum(nearest, torch.cdist(real, real[row]).square().squeeze(1))
    return chosen
