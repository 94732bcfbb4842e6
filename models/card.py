"""The card of a checkpoint: a JSON document in the header of its safetensors file. Reading a card needs no torch."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError
from pydantic_core import from_json
from safetensors import SafetensorError, safe_open

from latentd.models.errors import CheckpointError
from latentd.models.file_names import PICKLED_FILE, name_and_version
from latentd.models.files import placeholder
from latentd.models.spec import GeneratorSpec
from latentd.models.validation import first_problem

CARD_KEY = "latentd.card"
VERSION_KEY = "latentd.version"
_MAX_CARD_BYTES = 16 * 2**20
_MAX_CARD_VALUES = 2**18
"""A limit for the time and memory of validation: pydantic reports each wrong value, and a report takes a kilobyte."""
_PICKLE_STARTS = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")


class DataCard(BaseModel):
    """The data set that a generator was trained on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    size: int | None
    """Number of samples; None for a data set that is drawn without end."""
    sha256: str | None
    licence: str


class Card(BaseModel):
    """What is known of a checkpoint. Only `spec` is part of the checkpoint's version."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    spec: GeneratorSpec
    recipe: str
    description: str
    settings: dict[str, JsonValue]
    """The resolved recipe. Training with it again on the same machine gives the same weights."""
    data: DataCard
    steps: int
    images_seen: int
    """Real samples shown to the discriminator."""
    seed: int
    created: str
    """UTC, ISO 8601."""
    wall_seconds: float
    hardware: str
    versions: dict[str, str]
    metrics: dict[str, float]
    floors: dict[str, float] = {}
    """The same metrics of real samples."""
    measured: str = ""
    """How `metrics` were measured, and on what."""
    licence: str
    """License of the weights, an SPDX expression."""


AnyCard = TypeVar("AnyCard", bound=BaseModel)


def read_header(path: Path) -> tuple[str, str, Card]:
    """Return the name, the version and the card of the checkpoint at `path`, without reading its weights.

    The version is the one that the file names. Only for files of the first days, which name none, it is computed from
    the weights. Raises CheckpointError if the file is not a checkpoint or its card is invalid.
    """
    name, _ = name_and_version(path)
    with open_safetensors(path, framework="np") as file:
        metadata = file.metadata() or {}
        card = parse_card(metadata, Card)[1]
    if VERSION_KEY in metadata:
        return name, metadata[VERSION_KEY], card
    from latentd.models.checkpoint import Checkpoint  # loads PyTorch

    return name, Checkpoint.read(path).version, card


def parse_card(metadata: Mapping[str, str] | None, kind: type[AnyCard]) -> tuple[dict[str, Any], AnyCard]:
    """Return the card in a safetensors file's metadata twice: as raw JSON, and validated as `kind`.

    Raises CheckpointError if there is no card, if it is too large, or if it is invalid.
    """
    text = (metadata or {}).get(CARD_KEY)
    if text is None:
        raise CheckpointError("a safetensors file without latentd's card: latentd did not write it")
    if len(text) > _MAX_CARD_BYTES:
        raise CheckpointError(f"its card is larger than {_MAX_CARD_BYTES} bytes")
    if sum(map(text.count, ",[{")) > _MAX_CARD_VALUES:
        raise CheckpointError(f"its card holds more than {_MAX_CARD_VALUES} values")
    try:
        raw = from_json(text, allow_inf_nan=False)
        json.dumps(raw, allow_nan=False)  # from_json reads 1e999 as infinity, which JSON cannot carry
        if not isinstance(raw, dict):
            raise TypeError("it is not a JSON object")
        return raw, kind.model_validate(raw)
    except ValidationError as problem:
        raise CheckpointError(f"its card is invalid: {first_problem(problem)}") from problem
    except (ValueError, KeyError, TypeError) as problem:
        raise CheckpointError(f"its card cannot be read: {problem}") from problem


@contextmanager
def open_safetensors(path: Path, content: Path | None = None, framework: str = "pt") -> Iterator[Any]:
    """Open the safetensors file at `path`. Turn any problem in the block into a CheckpointError that names the file.

    `content`: a file with the same bytes, read in place of `path`.
    """
    content = content or path
    try:
        if not content.is_file():
            raise CheckpointError("not found, or not a regular file")
        with safe_open(content, framework=framework) as file:
            yield file
    except CheckpointError as problem:
        raise CheckpointError(f"{path.name}: {problem}") from problem.__cause__
    except (OSError, MemoryError, SafetensorError, ValueError, RuntimeError) as problem:
        raise CheckpointError(f"{path.name}: {_reason(content, problem)}") from problem


def _reason(content: Path, problem: Exception) -> str:
    with suppress(OSError), content.open("rb") as file:
        start = file.read(512)
        if instead := placeholder(start):
            return f"this is {instead}"
        if start.startswith(_PICKLE_STARTS):
            return f"this is {PICKLED_FILE}"
    if isinstance(problem, SafetensorError):
        return f"not a complete safetensors file ({problem}); copy or train it again"
    return str(problem)
