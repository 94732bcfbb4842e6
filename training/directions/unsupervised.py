"""Unsupervised directions, without names: those that the generator's first layers amplify most (SeFa, GANSpace)."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from latentd.models.sampling import run_stages
from latentd.training.directions.dataset import FloatArray, LatentDataset

_MAX_ACTIVATIONS = 1024
"""Latents whose activations are kept; their Gram matrix has so many rows."""
_ONE_PASS = 16
"""Latents in a pass that only looks at the layers' inputs."""
_LAYERS = nn.Linear | nn.Conv2d | nn.ConvTranspose2d


@dataclass(frozen=True)
class UnsupervisedDirection:
    """A unit vector [dim], and the fraction of the total variance along it."""

    unit: FloatArray
    explained: float


def closed_form(dataset: LatentDataset, count: int) -> list[UnsupervisedDirection]:
    """Return eigenvectors of AᵀA, the largest first. A stacks the weights of all linear layers that take the latent.

    SeFa: Shen and Zhou 2020, https://arxiv.org/abs/2007.06600, eq. 6. The result is empty if there is no such layer.
    """
    weights = _latent_weights(dataset)
    if not weights:
        return []
    stacked = np.concatenate(weights)  # [outputs of all layers, dim]
    eigenvalues, eigenvectors = np.linalg.eigh(stacked.T @ stacked)
    return _largest(eigenvalues, eigenvectors.T, count)


def principal_components(dataset: LatentDataset, count: int) -> list[UnsupervisedDirection]:
    """Return principal components of w, or of the first activations mapped back to z.

    GANSpace: Härkönen et al. 2020, https://arxiv.org/abs/2004.02546, section 2.1 (w) and 2.2 (regression of z on the
    components' coordinates). For conditional generators, all values are relative to their class. The result is empty if
    there is no activation to use.
    """
    part = dataset[:_MAX_ACTIVATIONS]
    latents = part.centred(part.latents)
    if dataset.stage_input.inputs.ndim > latents.ndim:  # w
        variances, vectors = np.linalg.eigh(np.cov(latents.T))
        return _largest(variances, vectors.T, count)
    activations = _first_activations(part)
    if activations is None:
        return []
    centred = part.centred(activations)
    variances, coordinates = np.linalg.eigh(centred @ centred.T)  # [N], [N, N] with a column for each component
    return _largest(variances, coordinates.T @ latents, count)


def _largest(variances: FloatArray, vectors: FloatArray, count: int) -> list[UnsupervisedDirection]:
    """`variances` [K] ascend; `vectors` [K, dim]. The sign makes the largest component of each result positive."""
    found = []
    for index in range(len(variances) - 1, max(-1, len(variances) - 1 - min(count, vectors.shape[1])), -1):
        unit = vectors[index] / np.linalg.norm(vectors[index])
        sign = np.sign(unit[np.abs(unit).argmax()])
        found.append(UnsupervisedDirection(sign * unit, float(variances[index] / variances.sum())))
    return found


def _latent_weights(dataset: LatentDataset) -> list[FloatArray]:
    """Return, for each linear layer whose input starts with the latent, the weights [outputs, dim] of the latent."""
    dim = dataset.latents.shape[1]
    return [
        module.weight.detach()[:, :dim].numpy().astype(np.float64)
        for module, layer_input in _layer_inputs(dataset)
        if isinstance(module, nn.Linear) and _starts_with_latent(layer_input, dataset)
    ]


def _first_activations(dataset: LatentDataset) -> NDArray[np.float32] | None:
    """Return the input [N, values] of the first layer that depends on the latent but does not take it directly."""
    layer = next(
        (
            module
            for module, layer_input in _layer_inputs(dataset)
            if _varies(layer_input) and not _starts_with_latent(layer_input, dataset)
        ),
        None,
    )
    if layer is None:
        return None
    inputs: list[Tensor] = []
    hook = layer.register_forward_pre_hook(lambda _, args: inputs.append(args[0].flatten(1).clone()))
    try:
        run_stages(dataset.stages, dataset.stage_input)
    finally:
        hook.remove()
    activations: NDArray[np.float32] = torch.cat(inputs)[: len(dataset)].numpy()
    return activations


def _layer_inputs(dataset: LatentDataset) -> list[tuple[nn.Module, Tensor]]:
    """Return each layer with weights and its input, in the order of a forward pass. All rows have the same class."""
    inputs: list[tuple[nn.Module, Tensor]] = []

    def record(module: nn.Module, args: tuple[Tensor, ...]) -> None:
        inputs.append((module, args[0].clone()))

    layers = [module for module in dataset.generator.modules() if isinstance(module, _LAYERS)]
    hooks = [layer.register_forward_pre_hook(record) for layer in layers]
    rows = dataset.stage_input[:_ONE_PASS]
    if rows.condition is not None:
        rows = replace(rows, condition=np.repeat(rows.condition[:1], len(rows), axis=0))
    try:
        run_stages(dataset.stages, rows)
    finally:
        for hook in hooks:
            hook.remove()
    return inputs


def _starts_with_latent(layer_input: Tensor, dataset: LatentDataset) -> bool:
    """Whether a layer's input [rows, …] starts with z, or with w of any layer."""
    dim = dataset.latents.shape[1]
    latents = torch.from_numpy(dataset.stage_input.inputs[: len(layer_input)])
    layers = latents[:, None] if latents.dim() == 2 else latents  # [rows, layers, dim]
    count = len(latents)
    return layer_input.dim() == 2 and any(
        torch.equal(layer_input[:count, :dim], layers[:, layer]) for layer in range(layers.shape[1])
    )


def _varies(layer_input: Tensor) -> bool:
    return bool((layer_input != layer_input[0]).any())
