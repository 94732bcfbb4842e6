"""Straight lines through latent space along which something measured grows, judged on latents that were not fitted."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from latentd.training.directions.dataset import Studied, Wide

_ONE_JUDGES_OF = 4
_TINY = 1e-300


def judging(studied: Studied) -> Studied:
    """The last of the latents, which no line is fitted to."""
    return studied[-(len(studied) // _ONE_JUDGES_OF) :]


@dataclass(frozen=True)
class Fit:
    """A unit vector [dim], and how well the measured is told from where latents lie along it."""

    unit: Wide
    predicted: Wide
    """Of the latents that judge, [judges]."""
    measured: Wide
    """The same, as they were measured."""

    @property
    def r_squared(self) -> float:
        """Share of the variance that is explained, on latents that were not fitted; below 0 is worse than the mean."""
        rest = np.square(self.measured - self.predicted).sum()
        return float(1.0 - rest / max(np.square(self.measured - self.measured.mean()).sum(), _TINY))


def fit(studied: Studied, measured: Wide, held: Sequence[Wide] = ()) -> Fit:
    """Least squares of what was `measured` [N], less what follows from `held` [N], on latents [N, dim].

    A linear fit in latent space, as InterFaceGAN's: Shen et al. 2020, https://arxiv.org/abs/1907.10786, section 3;
    "conditional manipulation" there takes out what is held. Of conditional generators within classes.
    """
    fitted = len(studied) - len(judging(studied))
    values = studied.within_classes(measured, fitted)
    if held:
        others = np.stack([studied.within_classes(each, fitted) for each in held], axis=1)  # [N, held]
        values = values - others @ _solve(others[:fitted], values[:fitted])
    latents = studied.within_classes(studied.places, fitted)
    weights = _solve(latents[:fitted], values[:fitted])
    return Fit(weights / max(float(np.linalg.norm(weights)), _TINY), latents[fitted:] @ weights, values[fitted:])


def _solve(rows: Wide, values: Wide) -> Wide:
    solution: Wide = np.linalg.lstsq(rows, values, rcond=None)[0].astype(np.float64)
    return solution
