"""Directions that need no words: those that the generator's first layers stretch most."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from latentd.models.sampling import StageInput, run_stage
from latentd.training.directions.dataset import Studied, Wide

_MOST_STUDIED = 1024
"""Latents whose activations are kept: so many by as many are compared."""
_ONE_PASS = 16
_LAYERS = nn.Linear | nn.Conv2d | nn.ConvTranspose2d


@dataclass(frozen=True)
class Stretched:
    """A unit vector [dim], and the share of all variance that is its."""

    unit: Wide
    share: float


def closed_form(studied: Studied, count: int) -> list[Stretched]:
    """Eigenvectors of AᵀA, the largest first; A is the weight of all linear layers that see the latent itself.

    SeFa: Shen and Zhou 2020, https://arxiv.org/abs/2007.06600, eq. 6. None where no linear layer does.
    """
    weights = _weights_on_the_latent(studied)
    if not weights:
        return []
    stacked = np.concatenate(weights)  # [outputs of all, dim]
    stretches, vectors = np.linalg.eigh(stacked.T @ stacked)
    return _largest(stretches, vectors.T, count)


def components(studied: Studied, count: int) -> list[Stretched]:
    """Principal components of w, or of the first activation behind the latent's own layer, led back to z.

    GANSpace: Härkönen et al. 2020, https://arxiv.org/abs/2004.02546, section 2.1 (w), and 2.2 (led back to z by a
    regression on the components' coordinates). Of conditional generators within classes. None where there is no such
    activation.
    """
    part = studied[:_MOST_STUDIED]
    places = part.within_classes(part.places)
    if studied.rows.latents.ndim > places.ndim:  # w
        variances, vectors = np.linalg.eigh(np.cov(places.T))
        return _largest(variances, vectors.T, count)
    activations = _first_activations(part)
    if activations is None:
        return []
    centred = part.within_classes(activations)
    variances, coordinates = np.linalg.eigh(centred @ centred.T)  # [N], [N, N]: a column a component
    return _largest(variances, coordinates.T @ places, count)


def _largest(variances: Wide, vectors: Wide, count: int) -> list[Stretched]:
    """Of eigenvalues [K], the smallest first, and vectors [K, dim]; each points to where its largest number is > 0."""
    found = []
    for index in range(len(variances) - 1, max(-1, len(variances) - 1 - min(count, vectors.shape[1])), -1):
        unit = vectors[index] / np.linalg.norm(vectors[index])
        sign = np.sign(unit[np.abs(unit).argmax()])
        found.append(Stretched(sign * unit, float(variances[index] / variances.sum())))
    return found


def _weights_on_the_latent(studied: Studied) -> list[Wide]:
    """Of every linear layer whose input begins with the latent: the columns [outputs, dim] that weigh it."""
    dim = studied.places.shape[1]
    return [
        module.weight.detach()[:, :dim].numpy().astype(np.float64)
        for module, seen in _first_inputs(studied)
        if isinstance(module, nn.Linear) and _is_latent(seen, studied)
    ]


def _first_activations(studied: Studied) -> NDArray[np.float32] | None:
    """What the first layer gets that depends on the latent but does not see it itself, flattened [N, values]."""
    behind = next(
        (module for module, seen in _first_inputs(studied) if _depends(seen) and not _is_latent(seen, studied)), None
    )
    if behind is None:
        return None
    kept: list[Tensor] = []
    hook = behind.register_forward_pre_hook(lambda _, inputs: kept.append(inputs[0].flatten(1).clone()))
    try:
        run_stage(studied.synthesis, studied.rows)
    finally:
        hook.remove()
    activations: NDArray[np.float32] = torch.cat(kept)[: len(studied)].numpy()
    return activations


def _first_inputs(studied: Studied) -> list[tuple[nn.Module, Tensor]]:
    """Every layer with weights, in the order of a forward pass, with its first input; all rows are of one class."""
    seen: list[tuple[nn.Module, Tensor]] = []

    def note(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        seen.append((module, inputs[0].clone()))

    layers = [module for module in studied.synthesis.modules() if isinstance(module, _LAYERS)]
    hooks = [layer.register_forward_pre_hook(note) for layer in layers]
    rows = studied.rows[:_ONE_PASS]
    if rows.condition is not None:
        rows = StageInput(rows.latents, np.repeat(rows.condition[:1], len(rows), axis=0))
    try:
        run_stage(studied.synthesis, rows)
    finally:
        for hook in hooks:
            hook.remove()
    return seen


def _is_latent(seen: Tensor, studied: Studied) -> bool:
    """Whether the input [rows, …] of a layer begins with z, or with a layer's w."""
    dim = studied.places.shape[1]
    latents = torch.from_numpy(studied.rows.latents[: len(seen)])
    layers = latents[:, None] if latents.dim() == 2 else latents  # [rows, layers, dim]
    count = len(latents)
    return seen.dim() == 2 and any(
        torch.equal(seen[:count, :dim], layers[:, layer]) for layer in range(layers.shape[1])
    )


def _depends(seen: Tensor) -> bool:
    return bool((seen != seen[0]).any())
