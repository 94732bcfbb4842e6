"""What a discriminator thinks of every place of the plane, in a file beside the checkpoint that it was trained with."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from models.checkpoint import CheckpointError, Shapes
from models.companions import CompanionCard, beside, read_companion, require_made_for, write_companion

ENDING = ".surface"
_MOST = 128
_VALUES = "logits"


class SurfaceCard(CompanionCard):
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


@dataclass(frozen=True)
class Surface:
    """A discriminator's logits [rows, columns], the lowest y first; larger means more real."""

    card: SurfaceCard
    logits: Tensor

    @classmethod
    def read(cls, checkpoint: Path, version: str) -> Self:
        """What lies beside `checkpoint` of `version`; CheckpointError where it cannot be used, or is of another one."""
        path = beside(checkpoint, ENDING)
        card, tensors, _ = read_companion(path, SurfaceCard, _shapes)
        require_made_for(path, card, version, "train again, or remove it")
        return cls(card, tensors[_VALUES])

    @classmethod
    def of(cls, version: str, logits: Tensor, reach: float) -> Self:
        """Of `logits` [rows, columns] on [-reach, reach]²; CheckpointError where that is no surface."""
        rows, columns = logits.shape
        try:
            card = SurfaceCard(of=version, extent=(-reach, reach, -reach, reach), rows=rows, columns=columns)
        except ValueError as problem:
            raise CheckpointError(f"the discriminator's surface cannot be kept: {problem}") from problem
        return cls(card, logits.detach().float().cpu())

    def write(self, checkpoint: Path) -> Path:
        """Write it beside `checkpoint`, atomically, and return where; CheckpointError where it is not finite."""
        path = beside(checkpoint, ENDING)
        write_companion(path, self.card, {_VALUES: self.logits})
        return path


def _shapes(card: SurfaceCard) -> Shapes:
    return {_VALUES: (torch.Size([card.rows, card.columns]), torch.float32)}
