"""The card of a checkpoint: a JSON document in the header of its safetensors file. Reading a card needs no torch."""

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError
from pydantic_core import from_json
from safetensors import SafetensorError, safe_open

from latentd.models.errors import CheckpointError
from latentd.models.files import placeholder
from latentd.models.spec import GeneratorSpec
from latentd.models.validation import first_problem

SUFFIX = ".safetensors"
SIDECAR_ENDINGS = (".directions", ".surface")
"""Reserved endings of file stems: models/sidecars.py uses them, so no model's name may end in one."""
CARD_KEY = "latentd.card"
VERSION_KEY = "latentd.version"
_MAX_CARD_BYTES = 16 * 2**20
_MAX_CARD_VALUES = 2**18
"""A limit for the time and memory of validation: pydantic reports each wrong value, and a report takes a kilobyte."""
_MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_VERSION = re.compile(r"[0-9a-f]{12}")
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


def read_card(path: Path) -> Card:
    """Return the card of the checkpoint at `path`, without reading its weights.

    Raises CheckpointError if the file is not a checkpoint or its card is invalid.
    """
    with open_safetensors(path, framework="np") as file:
        return parse_card(file.metadata(), Card)[1]


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
            return (
                "this is a pickled file, which can run code when it is read; latentd never reads pickles. "
                "Train with latentd, or save the weights as safetensors"
            )
    if isinstance(problem, SafetensorError):
        return f"not a complete safetensors file ({problem}); copy or train it again"
    return str(problem)


def name_and_version(path: Path) -> tuple[str, str | None]:
    """Return the model's name, and the version if it is in the file's name: `NAME@VERSION.safetensors`.

    Raises CheckpointError if `path` cannot be the name of a checkpoint.
    """
    if path.suffix != SUFFIX:
        raise CheckpointError(f"{path.name}: a checkpoint's name ends in {SUFFIX}")
    name, at, version = path.stem.partition("@")
    check_model_name(name)
    if at and not _VERSION.fullmatch(version):
        raise CheckpointError(f"{path.name}: a version, 12 hex digits, follows the @")
    return name, version or None


def check_model_name(name: str) -> None:
    """Raise CheckpointError if `name` cannot name a model. In requests, `@version` may follow a name."""
    if not _MODEL_NAME.fullmatch(name):
        raise CheckpointError(
            f"{name!r} cannot be a model's name; use at most 128 letters, digits, '.', '_' and '-', "
            "and begin with a letter or digit"
        )
    if name.endswith(SIDECAR_ENDINGS):
        raise CheckpointError(
            f"{name!r} cannot be a model's name: this ending is reserved for the files beside a checkpoint"
        )
