"""Sidecar files: data about one version of a checkpoint, in a file beside it. They can be made again.

`NAME.directions.safetensors` and `NAME.surface.safetensors` are safetensors files with a card, checked as strictly as
checkpoints are.
"""

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from latentd.models.card import CARD_KEY, VERSION_KEY, open_safetensors, parse_card
from latentd.models.errors import CheckpointError
from latentd.models.file_names import SIDECAR_ENDINGS, sidecar_path
from latentd.models.files import atomic_write
from latentd.models.tensor_files import Shapes, read_tensors, write_tensors


class SidecarCard(BaseModel):
    """What the card of every sidecar file has."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    of: str = Field(pattern="^[0-9a-f]{12}$")
    """Version of the checkpoint that the file was made for."""


AnySidecarCard = TypeVar("AnySidecarCard", bound=SidecarCard)


def copy_sidecars(checkpoint: Path, version: str, to: Path) -> None:
    """Copy the sidecar files of `checkpoint`, those that were made for `version`, beside `to`. Raises OSError."""
    for ending in SIDECAR_ENDINGS:
        source = sidecar_path(checkpoint, ending)
        if _made_for(source) == version:
            with atomic_write(sidecar_path(to, ending)) as temporary:
                shutil.copyfile(source, temporary)


def _made_for(path: Path) -> str | None:
    """Return the version of the checkpoint that a sidecar file is for; None if it is missing or damaged."""
    try:
        with open_safetensors(path, framework="np") as file:
            card = json.loads((file.metadata() or {}).get(CARD_KEY, "{}"))
            return str(card.get("of"))
    except CheckpointError:
        return None


def read_sidecar(
    path: Path, kind: type[AnySidecarCard], shapes: Callable[[AnySidecarCard], Shapes]
) -> tuple[AnySidecarCard, dict[str, Tensor], str | None]:
    """Return a sidecar file's card, its tensors, and the version in its header (None if there is none).

    `shapes` returns the shapes of the tensors that belong to a card. Raises CheckpointError if the file is missing,
    damaged or invalid.
    """
    with open_safetensors(path) as file:
        metadata = file.metadata() or {}
        _, card = parse_card(metadata, kind)
        return card, read_tensors(file, shapes(card)), metadata.get(VERSION_KEY)


def require_version(path: Path, card: SidecarCard, version: str, hint: str) -> None:
    """Raise CheckpointError if the sidecar file at `path` was made for another version. `hint`: what to do then."""
    if card.of != version:
        raise CheckpointError(f"{path.name}: it was made for version {card.of}, the checkpoint is {version}; {hint}")


def write_sidecar(path: Path, card: SidecarCard, tensors: Mapping[str, Tensor], version: str | None = None) -> None:
    """Write a sidecar file atomically. `version`: a version of its own, for the header.

    Raises CheckpointError if a number is not finite.
    """
    metadata = {"format": "pt", CARD_KEY: card.model_dump_json()}
    if version is not None:
        metadata[VERSION_KEY] = version
    write_tensors(path, tensors, metadata)
