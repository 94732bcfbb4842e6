"""Directions in latent space that change one thing a person has a word for, in a file beside the checkpoint.

How they are found: training/directions. A direction of z is as long as one standard deviation of latents along it (1
where latents are normal); one of w is as long as w's standard deviation along it, and is added to every layer.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from latentd.models.checkpoint import VERSION_KEY, CheckpointError, Shapes, content_version
from latentd.models.interpolation import Vector
from latentd.models.sidecars import SidecarCard, read_sidecar, require_version, sidecar_path, write_sidecar
from latentd.models.spec import GeneratorSpec

DIRECTIONS_ENDING = ".directions"
MAX_DIRECTIONS = 64
_LONGEST_PREVIEW = 2**18


class DirectionCard(BaseModel):
    """One direction, in words and figures."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: str = Field(pattern="^[a-z0-9]+(-[a-z0-9]+)*$", max_length=64)
    method: str = Field(max_length=64)
    """How it was found."""
    about: str = Field(max_length=500)
    """What a person sees, in a sentence."""
    score: float
    scored: str = Field(max_length=200)
    """What the score is."""
    range: float = Field(gt=0, le=100)
    """The largest amount that a slider should offer, to either side."""
    preview: Annotated[str, Field(pattern="^iVBORw0KGgo[A-Za-z0-9+/]*=*$", max_length=_LONGEST_PREVIEW)] | None = None
    """A PNG in base64: a row a seed, seven samples from -range to +range; None where samples are no pictures."""


class DirectionsCard(SidecarCard):
    """All directions of a model; `samples` and `seed` are what they were found with."""

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
    """A card and its vectors [dim], by name."""

    card: DirectionsCard
    vectors: Mapping[str, Vector]

    @cached_property
    def version(self) -> str:
        """First 12 hex digits of a sha256 over the checkpoint's version, the space, the names and the vectors."""
        text = json.dumps({"of": self.card.of, "space": self.card.space}, sort_keys=True)
        return content_version(text, {name: torch.from_numpy(vector) for name, vector in self.vectors.items()})

    @property
    def names(self) -> list[str]:
        """In the order of the card."""
        return [each.name for each in self.card.directions]

    def offset(self, amounts: Mapping[str, float]) -> NDArray[np.float64]:
        """The sum [dim] of so much of each direction named, in one order; KeyError where there is none of a name."""
        total = np.zeros(self.card.dim)
        for name in sorted(amounts):
            with np.errstate(over="ignore", invalid="ignore"):  # whoever asks for finite places finds it
                total += amounts[name] * self.vectors[name].astype(np.float64)
        return total

    @classmethod
    def read(cls, checkpoint: Path, version: str, spec: GeneratorSpec) -> Self:
        """What lies beside `checkpoint`, which is of `version` and has `spec`.

        CheckpointError where it cannot be used, or was found for another version.
        """
        path = sidecar_path(checkpoint, DIRECTIONS_ENDING)
        card, tensors, written_version = read_sidecar(path, DirectionsCard, _shapes)
        require_version(path, card, version, "find them anew with latentd directions")
        if (card.space, card.dim) != direction_space(spec):
            raise CheckpointError(f"{path.name}: its directions are not in the latent space of {checkpoint.name}")
        read = cls(card, {name: tensor.numpy() for name, tensor in tensors.items()})
        if written_version != read.version:
            raise CheckpointError(f"{path.name}: its numbers are not those that it was written with")
        return read

    def write(self, checkpoint: Path) -> Path:
        """Write them beside `checkpoint`, atomically, and return where; CheckpointError where they are not finite."""
        path = sidecar_path(checkpoint, DIRECTIONS_ENDING)
        tensors = {name: torch.from_numpy(vector) for name, vector in self.vectors.items()}
        write_sidecar(path, self.card, tensors, **{VERSION_KEY: self.version})
        return path


def direction_space(spec: GeneratorSpec) -> tuple[Literal["z", "w"], int]:
    """Where a generator's directions lie, and of how many numbers: w where it has two stages."""
    return ("z", spec.input.dim) if spec.input.w is None else ("w", spec.input.w.dim)


def add_offset(places: NDArray[np.float32], shift: NDArray[np.float64]) -> NDArray[np.float32]:
    """Places [N, dim], or w [N, layers, dim], moved by `shift` [dim]; numbers too large for float32 become infinite."""
    with np.errstate(over="ignore", invalid="ignore"):
        return (places.astype(np.float64) + shift).astype(np.float32)


def _shapes(card: DirectionsCard) -> Shapes:
    names: Sequence[str] = [each.name for each in card.directions]
    return {name: (torch.Size([card.dim]), torch.float32) for name in names}
