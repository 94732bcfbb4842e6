"""The decision surface: a discriminator's logits over a part of the plane, in a file beside the checkpoint."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from latentd.models.file_names import SURFACE_ENDING, sidecar_path
from latentd.models.sidecars import SidecarCard, read_sidecar, require_version, write_sidecar
from latentd.models.tensor_files import Shapes

_MAX_SIDE = 128
_LOGITS = "logits"

Extent = tuple[float, float, float, float]
"""x of the first and of the last column, y of the first and of the last row."""


class DecisionSurfaceCard(SidecarCard):
    """The grid of points: `rows` × `columns`, evenly spaced over `extent`, with points on its edges."""

    extent: Extent
    rows: int = Field(ge=2, le=_MAX_SIDE)
    columns: int = Field(ge=2, le=_MAX_SIDE)

    @model_validator(mode="after")
    def _extent_is_ordered(self) -> Self:
        left, right, bottom, top = self.extent
        if not (left < right and bottom < top):
            raise ValueError("the extent must go from left to right and from bottom to top")
        return self


@dataclass(frozen=True)
class DecisionSurface:
    """A discriminator's logits on a grid of points. Larger means more real."""

    logits: Tensor
    """[rows, columns], float32; the first row has the lowest y."""
    extent: Extent

    @classmethod
    def read(cls, checkpoint: Path, version: str) -> Self:
        """Read the decision surface beside `checkpoint`, which is of `version`.

        Raises CheckpointError if there is none, if it cannot be used, or if it was made for another version.
        """
        path = sidecar_path(checkpoint, SURFACE_ENDING)
        card, tensors, _ = read_sidecar(path, DecisionSurfaceCard, _shapes)
        require_version(path, card, version, "train again, or remove the file")
        return cls(tensors[_LOGITS], card.extent)

    def write(self, checkpoint: Path, version: str) -> Path:
        """Write the decision surface beside `checkpoint`, which is of `version`, and return the path.

        Raises CheckpointError if a logit is not finite, ValidationError if the extent or the size is not allowed.
        """
        path = sidecar_path(checkpoint, SURFACE_ENDING)
        rows, columns = self.logits.shape
        card = DecisionSurfaceCard(of=version, extent=self.extent, rows=rows, columns=columns)
        write_sidecar(path, card, {_LOGITS: self.logits.float()})
        return path


def _shapes(card: DecisionSurfaceCard) -> Shapes:
    return {_LOGITS: (torch.Size([card.rows, card.columns]), torch.float32)}
