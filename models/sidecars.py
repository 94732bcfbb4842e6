"""Files beside a checkpoint `NAME.safetensors`: what was found out about one version of it, and may be found anew.

`NAME.directions.safetensors` and `NAME.surface.safetensors` are safetensors files with a card under `latentd.card`,
read as strictly as checkpoints are: no pickle, and no memory for a tensor before the card and the header agree.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from latentd.models.checkpoint import (
    CARD_KEY,
    SIDECAR_ENDINGS,
    VERSION_KEY,
    CheckpointError,
    Shapes,
    read_card,
    read_tensors,
    reading,
    require_finite,
)
from latentd.models.files import atomic_write


class SidecarCard(BaseModel):
    """What every sidecar says."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    of: str = Field(pattern="^[0-9a-f]{12}$")
    """Version of the checkpoint that it was made for."""


AnySidecarCard = TypeVar("AnySidecarCard", bound=SidecarCard)


def sidecar_path(checkpoint: Path, ending: str) -> Path:
    """Where `checkpoint`'s sidecar with one of the RESERVED endings lies."""
    return checkpoint.with_suffix(f"{ending}{checkpoint.suffix}")


def is_sidecar(path: Path) -> bool:
    """Whether the name is that of a sidecar, and so no checkpoint's."""
    return path.stem.endswith(SIDECAR_ENDINGS)


def read_sidecar(
    path: Path, kind: type[AnySidecarCard], shapes: Callable[[AnySidecarCard], Shapes]
) -> tuple[AnySidecarCard, dict[str, Tensor], str | None]:
    """Card, tensors and the version that was written; CheckpointError where the file is not a whole sidecar.

    `shapes` says what tensors a card promises.
    """
    with reading(path, path), safe_open(path, framework="pt") as file:
        metadata = file.metadata() or {}
        _, card = read_card(metadata, kind)
        return card, read_tensors(file, shapes(card)), metadata.get(VERSION_KEY)


def require_version(path: Path, card: SidecarCard, version: str, remedy: str) -> None:
    """CheckpointError where a sidecar belongs to another version of its checkpoint."""
    if card.of != version:
        raise CheckpointError(f"{path.name}: it was made for version {card.of}, the checkpoint is {version}; {remedy}")


def write_sidecar(path: Path, card: SidecarCard, tensors: Mapping[str, Tensor], **metadata: Any) -> None:
    """Write `path` atomically; CheckpointError where a tensor is not finite."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    require_finite(tensors)
    facts = {"format": "pt", CARD_KEY: card.model_dump_json()} | metadata
    with atomic_write(path) as temporary:
        temporary.write_bytes(save(tensors, metadata=facts))
