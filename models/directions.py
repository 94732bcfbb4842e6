"""Directions in latent space, each of which changes one property of samples, in a file beside the checkpoint.

training/directions finds them. A direction of z has the length of one standard deviation of latents along it (1 for
normal latents). A direction of w has the length of w's standard deviation along it, and is added to every layer.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from latentd.models.errors import CheckpointError
from latentd.models.file_names import DIRECTIONS_ENDING, sidecar_path
from latentd.models.inputs.base import DirectionSpace
from latentd.models.interpolation import Vector
from latentd.models.sidecars import SidecarCard, read_sidecar, require_version, write_sidecar
from latentd.models.spec import GeneratorSpec
from latentd.models.tensor_files import Shapes, content_version

MAX_DIRECTIONS = 64
_MAX_PREVIEW = 2**18


class DirectionCard(BaseModel):
    """What is known of one direction."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: str = Field(pattern="^[a-z0-9]+(-[a-z0-9]+)*$", max_length=64)
    method: str = Field(max_length=64)
    """How it was found."""
    about: str = Field(max_length=500)
    """What changes in a sample, in one sentence."""
    score: float
    scored: str = Field(max_length=200)
    """What the score measures."""
    range: float = Field(gt=0, le=100)
    """The largest amount that a slider should offer, in both directions."""
    preview: Annotated[str, Field(pattern="^iVBORw0KGgo[A-Za-z0-9+/]*=*$", max_length=_MAX_PREVIEW)] | None = None
    """A PNG in base64, one row for each seed, with seven samples from -range to +range; None unless samples are
    images."""


class DirectionsCard(SidecarCard):
    """All directions of a model, found with `samples` samples whose seeds count up from `seed`."""

    space: Literal["z", "w"]
    dim: int = Field(ge=1, le=65536)
    directions: tuple[DirectionCard, ...] = Field(min_length=1, max_length=MAX_DIRECTIONS)
    samples: int = Field(ge=1)
    seed: int = Field(ge=0)

    @model_validator(mode="after")
    def _names_are_distinct(self) -> Self:
        if len({each.name for each in self.directions}) != len(self.directions):
            raise ValueError("names of directions must be distinct")
        return self


@dataclass(frozen=True)
class Directions:
    """The directions of a model: a card, and a vector [dim] for each name."""

    card: DirectionsCard
    vectors: Mapping[str, Vector]

    @cached_property
    def version(self) -> str:
        """The first 12 hex digits of a sha256 over the checkpoint's version, the space, the names and the vectors."""
        text = json.dumps({"of": self.card.of, "space": self.card.space}, sort_keys=True)
        return content_version(text, {name: torch.from_numpy(vector) for name, vector in self.vectors.items()})

    @property
    def names(self) -> list[str]:
        """The names of the directions, in the card's order."""
        return [each.name for each in self.card.directions]

    def offset(self, amounts: Mapping[str, float]) -> NDArray[np.float64]:
        """Return the sum [dim] of the named directions, each times its amount; it may be infinite.

        The order of `amounts` changes no bit. Raises KeyError if a name is unknown.
        """
        total = np.zeros(self.card.dim)
        for name in sorted(amounts):
            with np.errstate(over="ignore", invalid="ignore"):
                total += amounts[name] * self.vectors[name].astype(np.float64)
        return total

    @classmethod
    def read(cls, checkpoint: Path, version: str, spec: GeneratorSpec) -> Self:
        """Read the directions beside `checkpoint`, which is of `version` and has `spec`.

        Raises CheckpointError if there are none, if they cannot be used, or if they were found for another version.
        """
        path = sidecar_path(checkpoint, DIRECTIONS_ENDING)
        card, tensors, written_version = read_sidecar(path, DirectionsCard, _shapes)
        require_version(path, card, version, "find them again with latentd directions")
        if (card.space, card.dim) != spec.input.direction_space:
            raise CheckpointError(f"{path.name}: its directions are not in the latent space of {checkpoint.name}")
        directions = cls(card, {name: tensor.numpy() for name, tensor in tensors.items()})
        if written_version != directions.version:
            raise CheckpointError(f"{path.name}: its numbers are not the ones it was written with")
        return directions

    def write(self, checkpoint: Path) -> Path:
        """Write the directions beside `checkpoint`, and return the path.

        Raises CheckpointError if a number is not finite.
        """
        path = sidecar_path(checkpoint, DIRECTIONS_ENDING)
        tensors = {name: torch.from_numpy(vector) for name, vector in self.vectors.items()}
        write_sidecar(path, self.card, tensors, self.version)
        return path


def require_direction_space(spec: GeneratorSpec) -> DirectionSpace:
    """Return the space of a generator's directions and its dimension.

    Raises ValueError if such a generator cannot have directions.
    """
    if spec.input.direction_space is None:
        raise ValueError(f"generators with {spec.input.kind} inputs have no directions")
    return spec.input.direction_space


def add_offset(latents: NDArray[np.float32], offset: NDArray[np.float64]) -> NDArray[np.float32]:
    """Add `offset` [dim] to z [N, dim], or to every layer of w [N, layers, dim]. The sum may overflow to infinity."""
    with np.errstate(over="ignore", invalid="ignore"):
        return (latents.astype(np.float64) + offset).astype(np.float32)


def _shapes(card: DirectionsCard) -> Shapes:
    return {each.name: (torch.Size([card.dim]), torch.float32) for each in card.directions}
