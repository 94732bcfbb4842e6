"""Straight lines through latent space along which something measured grows, judged on latents that were not fitted."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.directions.studied import Studied, Wide

_HELD_OUT = 4
"""One latent of so many judges."""


@dataclass(frozen=True)
class Fit:
    """A unit vector [dim], and how well the measured is told from where latents lie along it."""

    unit: Wide
    predicted: Wide
    """Of the latents that judge, [N / 4]."""
    measured: Wide

    @property
    def r_squared(self) -> float:
        """Share of the variance that is explained, on latents that were not fitted; below 0 is worse than the mean."""
        rest = np.square(self.measured - self.predicted).sum()
        return float(1.0 - rest / max(np.square(self.measured - self.measured.mean()).sum(), 1e-300))


def fit(studied: Studied, measured: Wide, held: Sequence[Wide] = ()) -> Fit:
    """Least squares of what was `measured` [N], less what follows from `held` [N], on latents [N, dim].

    A linear fit in latent space, as InterFaceGAN's: Shen et al. 2020, https://arxiv.org/abs/1907.10786, section 3;
    "conditional manipulation" there takes out what is held. Of conditional generators within classes.
    """
    judges = len(studied) // _HELD_OUT
    values = studied.within_classes(measured)
    if held:
        others = np.stack([studied.within_classes(each) for each in held], axis=1)  # [N, held]
        values = values - others @ _solve(others[:-judges], values[:-judges])
    latents = studied.within_classes(studied.places)
    weights = _solve(latents[:-judges], values[:-judges])
    return Fit(weights / max(float(np.linalg.norm(weights)), 1e-300), latents[-judges:] @ weights, values[-judges:])


def area_under_curve(found: Fit, belongs: NDArray[np.bool_]) -> float:
    """Share of pairs, one that `belongs` [N] and one that does not, that the fit puts in order; 0.5 is chance.

    On the latents that judge; NaN where there is no pair.
    """
    inside = belongs[-len(found.predicted) :]
    ranks = found.predicted.argsort().argsort()  # no two latents lie alike
    pairs = inside.sum() * (~inside).sum()
    below = ranks[inside].sum() - inside.sum() * (inside.sum() - 1) / 2
    return float(below / pairs) if pairs else float("nan")


def _solve(rows: Wide, values: Wide) -> Wide:
    return np.linalg.lstsq(rows, values, rcond=None)[0]
