"""Linear fits in latent space: the direction along which a measured property grows."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from latentd.training.directions.dataset import FloatArray, LatentDataset

_HOLD_OUT = 4
"""One of so many latents is not fitted."""
_TINY = 1e-300


def held_out(dataset: LatentDataset) -> LatentDataset:
    """Return the last quarter of the latents, which no fit uses."""
    return dataset[-(len(dataset) // _HOLD_OUT) :]


@dataclass(frozen=True)
class LinearFit:
    """A direction, and how well it predicts the property of the held-out latents."""

    unit: FloatArray
    """A unit vector [dim]."""
    predicted: FloatArray
    """[held out]"""
    measured: FloatArray
    """[held out]"""

    @property
    def r_squared(self) -> float:
        """Return the fraction of the held-out variance that is explained. Below 0 is worse than the mean."""
        residual = np.square(self.measured - self.predicted).sum()
        return float(1.0 - residual / max(np.square(self.measured - self.measured.mean()).sum(), _TINY))


def fit(dataset: LatentDataset, measured: FloatArray, controls: Sequence[FloatArray] = ()) -> LinearFit:
    """Fit a property `measured` [N] to the latents [N, dim] by least squares, after removing what `controls` predict.

    A linear fit in latent space as in InterFaceGAN (Shen et al. 2020, https://arxiv.org/abs/1907.10786, section 3;
    controls are its "conditional manipulation"). For conditional generators, all values are relative to their class.
    """
    fitted = len(dataset) - len(held_out(dataset))
    values = dataset.centred(measured, fitted)
    if controls:
        others = np.stack([dataset.centred(each, fitted) for each in controls], axis=1)  # [N, controls]
        values = values - others @ _least_squares(others[:fitted], values[:fitted])
    latents = dataset.centred(dataset.latents, fitted)
    weights = _least_squares(latents[:fitted], values[:fitted])
    return LinearFit(weights / max(float(np.linalg.norm(weights)), _TINY), latents[fitted:] @ weights, values[fitted:])


def _least_squares(rows: FloatArray, values: FloatArray) -> FloatArray:
    solution: FloatArray = np.linalg.lstsq(rows, values, rcond=None)[0].astype(np.float64)
    return solution
