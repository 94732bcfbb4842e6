"""A generator's samples at one step as a file: a picture, or points with the discriminator's decision surface."""

import orjson
import torch
from pydantic import JsonValue
from torch import Tensor

from latentd.models.decision_surface import DecisionSurface
from latentd.training.algorithms.base import Algorithm
from latentd.training.data.source import Batch
from latentd.training.evaluation.evaluator import Evaluator
from latentd.training.run.callback import ActiveRun, Callback, PeriodicCallback, SampleFile

_PICTURED_SEEDS, _PLOTTED_SEEDS = range(64), range(512)
_NEAREST_SEEDS = range(16)
_SURFACE_SIDE = 48
"""Points of the decision surface in each direction."""
_DIGITS = 3
_PLANE = (2,)
"""The shape of samples that are points of the plane."""
_TIMES = 40
"""How often in a run snapshots are taken, at most."""


class Snapshots(PeriodicCallback):
    """Shows samples of the same latents at several steps."""

    time_fraction = 1 / 30

    def __init__(self, reach: float) -> None:
        """`reach`: the part of the plane that the decision surface shows."""
        self._reach = reach

    def is_due(self, run: ActiveRun) -> bool:
        return run.step % max(1, run.steps // _TIMES) == 0

    def act(self, run: ActiveRun) -> None:
        run.tell(Callback.on_samples, SampleFile(*render_snapshot(run.algorithm, self._reach)))


def render_snapshot(algorithm: Algorithm, reach: float) -> tuple[bytes, str]:
    """Return samples of the averaged generator as a file's content, and its suffix.

    `png`: a grid of images. `json`: `samples`, rounded, and for points of the plane, if there is a discriminator, its
    `surface` (logits on a grid over [-reach, reach]², the bottom row first) and the `reach`.
    """
    generator = algorithm.ema.generator
    output = generator.spec.output
    if output.picture_size:
        return output.preview(_samples(algorithm, _PICTURED_SEEDS).numpy())
    content: dict[str, object] = {"samples": _rounded(_samples(algorithm, _PLOTTED_SEEDS))}
    if (surface := decision_surface(algorithm, reach)) is not None:
        content |= {"surface": _rounded(surface.logits), "reach": reach}
    return orjson.dumps(content), "json"


@torch.no_grad()
def decision_surface(algorithm: Algorithm, reach: float) -> DecisionSurface | None:
    """Return the discriminator's logits on a grid over [-reach, reach]².

    None if there is no discriminator, if it judges several samples together, if its logits depend on a condition, or
    if samples are not points of the plane.
    """
    generator = algorithm.ema.generator
    if generator.spec.output.shape != _PLANE or generator.spec.condition.size:
        return None
    device = next(generator.parameters()).device
    axis = torch.linspace(-reach, reach, _SURFACE_SIDE, device=device)
    grid = torch.cartesian_prod(axis, axis).flip(1)  # [side², 2], x varies fastest
    logits = algorithm.logits(Batch(grid))
    if logits is None or len(logits) != len(grid):
        return None
    return DecisionSurface(logits.view(_SURFACE_SIDE, _SURFACE_SIDE), (-reach, reach, -reach, reach))


def render_nearest_training(algorithm: Algorithm, evaluator: Evaluator) -> tuple[bytes, dict[str, JsonValue]] | None:
    """Return a picture (PNG) of samples, each with its nearest training image to the right, and the distances.

    None if samples are not images, or if the evaluator has no training images.
    """
    output = algorithm.ema.generator.spec.output
    if output.picture_size is None:
        return None
    samples = _samples(algorithm, _NEAREST_SEEDS)
    found = evaluator.nearest_training(samples)
    if found is None:
        return None
    distances, nearest = found
    picture, _ = output.preview(torch.cat([samples, nearest], dim=3).numpy())
    real, _ = evaluator.real_samples(0).read(slice(len(samples)))
    of_real = evaluator.nearest_training(real)
    return picture, {
        "distances": [round(value, _DIGITS) for value in distances.tolist()],
        "of_real": of_real and round(float(of_real[0].median()), _DIGITS),
    }


def _samples(algorithm: Algorithm, seeds: range) -> Tensor:
    samples, _ = algorithm.evaluation_set(seeds).read(slice(None))
    return samples


def _rounded(values: Tensor) -> object:
    return [[round(value, _DIGITS) for value in row] for row in values.flatten(1).tolist()]
