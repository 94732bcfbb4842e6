"""What a discriminator thinks of every place of the plane, in a file beside the checkpoint that it was trained with."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from latentd.models.checkpoint import Shapes
from latentd.models.sidecars import SidecarCard, read_sidecar, require_version, sidecar_path, write_sidecar

SURFACE_ENDING = ".surface"
_MOST = 128
_LOGITS = "logits"


class DecisionSurfaceCard(SidecarCard):
    """The extent and the mesh: `rows` × `columns` places, evenly from edge to edge, the edges among them."""

    extent: tuple[float, float, float, float]
    """x of the first and of the last column, y of the first and of the last row."""
    rows: int = Field(ge=2, le=_MOST)
    columns: int = Field(ge=2, le=_MOST)

    @model_validator(mode="after")
    def _extent_is_one(self) -> Self:
        left, right, bottom, top = self.extent
        if not (left < right and bottom < top):
            raise ValueError("the extent goes from left to right and from bottom to top")
        return self


Extent = tuple[float, float, float, float]


@dataclass(frozen=True)
class DecisionSurface:
    """A discriminator's logits [rows, columns], the row of the lowest y first; larger means more real."""

    logits: Tensor
    extent: Extent

    @classmethod
    def read(cls, checkpoint: Path, version: str) -> Self:
        """What lies beside `checkpoint` of `version`; CheckpointError where it cannot be used, or is of another one."""
        path = sidecar_path(checkpoint, SURFACE_ENDING)
        card, tensors, _ = read_sidecar(path, DecisionSurfaceCard, _shapes)
        require_version(path, card, version, "train again, or remove it")
        return cls(tensors[_LOGITS], card.extent)

    def write(self, checkpoint: Path, version: str) -> Path:
        """Write it beside `checkpoint` of `version`, atomically, and return where.

        CheckpointError where it is not finite.
        """
        path = sidecar_path(checkpoint, SURFACE_ENDING)
        rows, columns = self.logits.shape
        card = DecisionSurfaceCard(of=version, extent=self.extent, rows=rows, columns=columns)
        write_sidecar(path, card, {_LOGITS: self.logits.float()})
        return path


def _shapes(card: DecisionSurfaceCard) -> Shapes:
    return {_LOGITS: (torch.Size([card.rows, card.columns]), torch.float32)}
