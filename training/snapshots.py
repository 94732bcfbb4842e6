"""How a generator's samples look at one step, as a file: a picture, or points with the discriminator's surface."""

import orjson
import torch
from pydantic import JsonValue
from torch import Tensor

from latentd.models.decision_surface import DecisionSurface
from latentd.models.family import Generator
from latentd.models.outputs import ImageOutput
from latentd.training.data.source import Batch
from latentd.training.evaluation.evaluate import generate_set
from latentd.training.evaluation.evaluator import Evaluator
from latentd.training.loop import Algorithm

_PICTURED, _PLOTTED = 64, 512
"""Seeds from 0."""
_MESH = 48
"""Points of the surface in each direction."""
_NEIGHBOURED = 16
_DIGITS = 3
_PLANE = (2,)


def snapshot_of(algorithm: Algorithm, reach: float) -> tuple[bytes, str]:
    """The file's content and its suffix: samples of seeds 0, 1, 2, … of the averaged generator.

    A `png` where samples can be laid out as one picture. Else a `json` with `samples` and, for points of the plane
    where there is a discriminator, its `surface`: logits on a mesh of [-reach, reach]², rows from below; the `reach`.
    """
    generator = algorithm.ema.generator
    output = generator.spec.output
    if "png" in output.grid_formats:
        return output.encode_grid(generate_set(generator, range(_PICTURED)).samples.numpy(), "png"), "png"
    content: dict[str, object] = {"samples": _short(generate_set(generator, range(_PLOTTED)).samples)}
    if (surface := surface_of(algorithm, reach)) is not None:
        content |= {"surface": _short(surface.logits), "reach": reach}
    return orjson.dumps(content), "json"


@torch.no_grad()
def surface_of(algorithm: Algorithm, reach: float) -> DecisionSurface | None:
    """The discriminator's logits on [-reach, reach]²; None without one, or where samples are no points of the plane."""
    generator = algorithm.ema.generator
    if generator.spec.output.shape != _PLANE:
        return None
    device = next(generator.parameters()).device
    across = torch.linspace(-reach, reach, _MESH, device=device)
    mesh = torch.cartesian_prod(across, across).flip(1)  # [MESH², 2], x running first
    logits = algorithm.logits(Batch(mesh))
    if logits is None or len(logits) != len(mesh):
        return None
    return DecisionSurface(logits.view(_MESH, _MESH), (-reach, reach, -reach, reach))


def nearest_training(generator: Generator, evaluator: Evaluator) -> tuple[bytes, dict[str, JsonValue]] | None:
    """A picture of samples, each with the nearest of the training data to its right, and how far these are."""
    output = generator.spec.output
    if not isinstance(output, ImageOutput):
        return None
    samples = generate_set(generator, range(_NEIGHBOURED)).samples
    found = evaluator.nearest_training(samples)
    if found is None:
        return None
    distances, nearest = found
    pair = output.model_copy(update={"width": 2 * output.width})
    picture = pair.encode_grid(torch.cat([samples, nearest], dim=3).numpy(), "png")
    real = evaluator.real_samples(0).samples[:_NEIGHBOURED]
    of_real = evaluator.nearest_training(real)
    return picture, {
        "distances": [round(value, _DIGITS) for value in distances.tolist()],
        "of_real": of_real and round(float(of_real[0].median()), _DIGITS),
    }


def _short(values: Tensor) -> object:
    return [[round(value, _DIGITS) for value in row] for row in values.flatten(1).tolist()]
