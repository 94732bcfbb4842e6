"""Signs of mode collapse, measured on samples and on the discriminator."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from latentd.training.clusters import Clusters
from latentd.training.data.source import Batch

_CLUSTERS = 32
_FEWEST_IN_A_CLUSTER = 4
_REACHED = 0.25
"""A cluster is reached where samples have this part of the share that the data has."""

Critic = Callable[[Batch], Tensor | None]
"""Samples and their condition → logits; None where there is no discriminator."""


@dataclass(frozen=True)
class ProbeReading:
    """One look at an algorithm. Distances are of samples in the space of the data, flattened."""

    diversity: float
    """Share of the data's clusters that the samples reach, 0 … 1; real samples reach nearly all."""
    distance: float
    """How much farther than real samples they lie from the nearest real one, over how far real ones lie apart; ≤ 0 is
    as near."""
    movement: float
    """How far samples of the same latents went since the last look, over how far real ones lie apart; 0 at first."""
    certainty: float | None
    """Share of pairs of a real and a generated sample that the discriminator puts in order; 0.5 is a draw.

    None where there is no discriminator.
    """


class CollapseProbe:
    """Looks at what a generator makes of always the same latents, beside always the same real samples.

    It looks on the CPU, wherever the samples are.
    """

    def __init__(self, known: Tensor, shown: Batch, random: torch.Generator) -> None:
        self._known = _flat(known)
        self._shown = shown
        self._clusters = Clusters(self._known, min(_CLUSTERS, len(known) // _FEWEST_IN_A_CLUSTER), random)
        self._near = _nearest(_flat(shown.samples), self._known)
        self._apart = _spread(_flat(shown.samples))
        self._before: Tensor | None = None

    @torch.no_grad()
    def look(self, fake: Batch, critic: Critic) -> ProbeReading:
        """At generated samples."""
        flat = _flat(fake.samples)
        moved = 0.0 if self._before is None else float((flat - self._before).norm(dim=1).mean()) / self._apart
        self._before = flat
        reached = self._clusters.shares_of(flat) >= _REACHED * self._clusters.shares
        return ProbeReading(
            diversity=float(reached.float().mean()),
            distance=(_nearest(flat, self._known) - self._near) / self._apart,
            movement=moved,
            certainty=_order(critic(self._shown), critic(fake)),
        )


def _flat(samples: Tensor) -> Tensor:
    return samples.flatten(1).float().cpu()


def _nearest(samples: Tensor, among: Tensor) -> float:
    """Mean distance to the nearest."""
    return float(torch.cdist(samples, among).amin(dim=1).mean())


def _spread(samples: Tensor) -> float:
    """Mean distance of two of them; never 0."""
    return max(float(torch.pdist(samples).mean()), 1e-12)


def _order(real: Tensor | None, fake: Tensor | None) -> float | None:
    """Share of pairs with the larger logit on the real side, ties counted half (the area under the ROC curve)."""
    if real is None or fake is None:
        return None
    difference = real[:, None] - fake[None, :]
    return float(((difference > 0).float() + 0.5 * (difference == 0).float()).mean())
