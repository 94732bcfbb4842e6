"""Signs of mode collapse, measured on samples and on the discriminator. Cheap enough to be taken again and again."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from latentd.training.data.source import Batch
from latentd.training.run.clusters import Clusters

_MAX_CLUSTERS = 32
_MIN_CLUSTER_SIZE = 4
_REACHED = 0.25
"""A cluster is reached if the fraction of samples in it is at least this part of the data's."""

Critic = Callable[[Batch], Tensor | None]
"""Batch of N samples → logits [N]; None if there is no discriminator."""


@dataclass(frozen=True)
class ProbeReading:
    """One measurement. Distances are Euclidean, of flattened samples, in units of the mean distance of real samples."""

    diversity: float
    """Fraction of the data's clusters that samples reach, from 0 to 1. Real samples reach nearly all."""
    distance: float
    """Mean distance from the nearest real sample, minus the same of held-out real samples. Near 0 or below is good."""
    movement: float
    """Mean distance that samples of the same latents moved since the last reading; 0 in the first."""
    discriminator_auc: float | None
    """AUC of the discriminator: the fraction of pairs of a real and a generated sample in which the real one has the
    larger logit. 0.5 is chance. None without a discriminator."""


class CollapseProbe:
    """Compares samples of fixed latents with fixed real samples. Distances are computed on the CPU."""

    def __init__(self, known: Tensor, shown: Batch, random: torch.Generator) -> None:
        """`known`: real samples [N, *shape] that stand for the data. `shown`: others, for the discriminator."""
        self._known = _flat(known)
        self._shown = shown
        self._clusters = Clusters(self._known, min(_MAX_CLUSTERS, len(known) // _MIN_CLUSTER_SIZE), random)
        self._real_distance = _nearest_distance(_flat(shown.samples), self._known)
        self._unit = _mean_distance(_flat(shown.samples))
        self._last: Tensor | None = None

    @torch.no_grad()
    def read(self, fake: Batch, critic: Critic) -> ProbeReading:
        """Measure generated samples. They must be of the same latents each time."""
        flat = _flat(fake.samples)
        moved = 0.0 if self._last is None else float((flat - self._last).norm(dim=1).mean()) / self._unit
        self._last = flat
        reached = self._clusters.fractions(flat) >= _REACHED * self._clusters.real_fractions
        return ProbeReading(
            diversity=float(reached.float().mean()),
            distance=(_nearest_distance(flat, self._known) - self._real_distance) / self._unit,
            movement=moved,
            discriminator_auc=_auc(critic(self._shown), critic(fake)),
        )


def _flat(samples: Tensor) -> Tensor:
    return samples.flatten(1).float().cpu()


def _nearest_distance(samples: Tensor, others: Tensor) -> float:
    """Return the mean distance of `samples` from their nearest of `others`."""
    return float(torch.cdist(samples, others).amin(dim=1).mean())


def _mean_distance(samples: Tensor) -> float:
    """Return the mean distance between two samples. Never 0."""
    return max(float(torch.pdist(samples).mean()), 1e-12)


def _auc(real: Tensor | None, fake: Tensor | None) -> float | None:
    """Return the area under the ROC curve of logits. Ties count half."""
    if real is None or fake is None:
        return None
    difference = real[:, None] - fake[None, :]
    return float(((difference > 0).float() + 0.5 * (difference == 0).float()).mean())
