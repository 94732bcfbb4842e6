"""Signs of mode collapse, measured on samples and on the discriminator. Cheap enough to be taken again and again."""

from dataclasses import dataclass

import torch
from torch import Tensor

from latentd.training.run.clusters import Clusters

_MAX_CLUSTERS = 32
_MIN_CLUSTER_SIZE = 4
_REACHED = 0.25
"""A cluster is reached if the fraction of samples in it is at least this part of the data's."""


@dataclass(frozen=True)
class ProbeReading:
    """One measurement. Distances are Euclidean, of samples' features, in units of the mean distance of real samples."""

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
    """Compares samples of fixed latents with fixed real samples, by the features that their output kind gives."""

    def __init__(self, known: Tensor, shown: Tensor, random: torch.Generator) -> None:
        """`known`: features [N, F] of real samples that stand for the data. `shown`: those of others."""
        self._known = known
        self._clusters = Clusters(known, min(_MAX_CLUSTERS, len(known) // _MIN_CLUSTER_SIZE), random)
        self._real_distance = _nearest_distance(shown, known)
        self._unit = _mean_distance(shown)
        self._last: Tensor | None = None

    def read(self, features: Tensor, real_logits: Tensor | None, fake_logits: Tensor | None) -> ProbeReading:
        """Measure generated samples by their features [N, F]. They must be of the same latents each time.

        `real_logits`, `fake_logits`: the discriminator's, of real samples and of these; None without a discriminator.
        """
        moved = 0.0 if self._last is None else float((features - self._last).norm(dim=1).mean()) / self._unit
        self._last = features
        reached = self._clusters.fractions(features) >= _REACHED * self._clusters.real_fractions
        return ProbeReading(
            diversity=float(reached.float().mean()),
            distance=(_nearest_distance(features, self._known) - self._real_distance) / self._unit,
            movement=moved,
            discriminator_auc=_auc(real_logits, fake_logits),
        )


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
