"""A latent vector drawn from a seed."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer

from latentd.models.inputs.base import DirectionSpace, InputKind, Operation
from latentd.models.interpolation import Method, neighbor, normalized_weights, spherical_mean, weighted_mean
from latentd.models.provenance import encode_latent
from latentd.models.stage_input import Rows

if TYPE_CHECKING:
    import torch

_OPERATIONS: frozenset[Operation] = frozenset(("seed", "interpolate", "mix", "neighbors", "truncate", "directions"))


class StyleSpace(BaseModel):
    """w, the output of a two-stage generator's mapping network: a style [dim] for each layer."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    layers: int = Field(ge=1, le=256)
    dim: int = Field(ge=1, le=65536)


class LatentInput(InputKind):
    """A latent vector z, which a mapping network may turn into w."""

    kind: Literal["latent"] = "latent"
    dim: int = Field(ge=1, le=65536)
    distribution: Literal["normal", "uniform"] = "normal"
    """`normal`: independent N(0, 1). `uniform`: independent U(-1, 1)."""
    w: StyleSpace | None = None
    """None for one-stage generators."""

    @model_serializer(mode="wrap")
    def _leave_out_absent_w(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Serialize one-stage specs as before `w` existed, because versions are made from this text."""
        return {name: value for name, value in handler(self).items() if name != "w" or value is not None}

    @property
    def operations(self) -> frozenset[Operation]:
        return _OPERATIONS

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.dim,)

    @property
    def spaces(self) -> tuple[str, ...]:
        return ("z",) if self.w is None else ("z", "w")

    @property
    def _is_normal(self) -> bool:
        return self.distribution == "normal"

    def draw(self, stream: np.random.RandomState) -> Rows:
        drawn = stream.standard_normal(self.dim) if self._is_normal else stream.uniform(-1.0, 1.0, self.dim)  # float64
        return drawn.astype(np.float32)

    def parse(self, value: Any) -> Rows:
        if len(value) != self.dim:
            raise ValueError(f"has {len(value)} numbers; this model takes {self.dim}")
        with np.errstate(over="ignore"):
            latent = np.array(value, dtype=np.float32)
        if not np.isfinite(latent).all():
            raise ValueError("has a number that is too large for float32")
        return latent

    def provenance(self, row: Rows) -> dict[str, Any]:
        return {"latent": encode_latent(row)}

    def describe(self) -> dict[str, Any]:
        numbers = {"type": "array", "items": {"type": "number"}, "minItems": self.dim, "maxItems": self.dim}
        return {"latent": numbers, "latents": {"type": "array", "items": numbers}}

    @property
    def direction_space(self) -> DirectionSpace:
        return DirectionSpace("z", self.dim) if self.w is None else DirectionSpace("w", self.w.dim)

    @property
    def layers(self) -> int | None:
        return None if self.w is None else self.w.layers

    def interpolation_method(self, space: str) -> Method:
        return "slerp" if self._is_spherical(space) else "lerp"

    def _is_spherical(self, space: str) -> bool:
        """Return whether rows of `space` are near a sphere, as normal latents are."""
        return space == "z" and self._is_normal

    def mean(self, rows: Rows, weights: Sequence[float], space: str) -> Rows:
        """Return the spherical mean of normal latents, and the weighted mean of uniform ones and of w."""
        mean = spherical_mean if self._is_spherical(space) else weighted_mean
        return mean(rows, weights)

    def check_weights(self, weights: Sequence[float], space: str) -> None:
        if not self._is_spherical(space):
            normalized_weights(weights)

    def neighbor(self, row: Rows, degrees: float, seed: int) -> Rows:
        """Keep the length of normal latents. Clip uniform ones to the cube that they fill."""
        found = neighbor(row, degrees, seed)
        return found if degrees == 0.0 or self._is_normal else found.clip(-1.0, 1.0)

    def draw_tensor(self, count: int, random: "torch.Generator") -> "torch.Tensor":
        import torch  # a spec is read without it

        shape = (count, self.dim)
        if self._is_normal:
            return torch.randn(shape, generator=random)
        return torch.rand(shape, generator=random) * 2 - 1

    @property
    def deviation(self) -> float:
        return 1.0 if self._is_normal else 1 / math.sqrt(3)


KIND = LatentInput
