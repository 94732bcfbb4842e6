"""The checkpoint file: one `NAME.safetensors` with a generator's weights and, in its header, the card.

Reading never unpickles: the file is data, the network is built from the spec by code that is here already, and names,
shapes and types of all tensors are compared before memory is taken for a single weight.
"""

import hashlib
import json
import math
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self, TypeVar

import torch
from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError
from pydantic_core import from_json
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from latentd.models.families import build_generator, generator_shapes
from latentd.models.family import Generator
from latentd.models.files import atomic_write
from latentd.models.spec import GeneratorSpec
from latentd.models.validation import first_problem

SUFFIX = ".safetensors"
SIDECAR_ENDINGS = (".directions", ".surface")
"""What no model's name ends in: files beside a checkpoint are called so (models/sidecars.py)."""
CARD_KEY = "latentd.card"
VERSION_KEY = "latentd.version"
Shapes = Mapping[str, tuple[torch.Size, torch.dtype]]
"""Name → shape and type of every tensor that a file should hold."""
_CONVOLUTION_DIMS = 4
_MAX_CARD_BYTES = 16 * 2**20
_MAX_CARD_VALUES = 2**18
"""A wrong one costs a kilobyte, because pydantic tells of all of them."""
_MAX_WEIGHT_BYTES = 4 * 2**30
_MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_DTYPE_NAMES = {torch.float32: "F32", torch.int64: "I64"}
"""The types that our networks have, as safetensors calls them."""
_PICKLE_STARTS = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")


class CheckpointError(Exception):
    """A checkpoint, or a file beside one, that cannot be used; the message says which, why and what to do."""


class DataCard(BaseModel):
    """The data set that a generator learnt from; `size` in samples, None where they are drawn without end."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    size: int | None
    sha256: str | None
    licence: str


class Card(BaseModel):
    """What is known of a checkpoint. `spec` is part of its version; everything else is told, not hashed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    spec: GeneratorSpec
    recipe: str
    description: str
    settings: dict[str, JsonValue]
    """The whole resolved recipe: training with it again on the same machine gives the same weights."""
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
    """The same figures of real samples."""
    measured: str = ""
    """How and on what `metrics` were measured."""
    licence: str
    """Licence of the weights, as an SPDX expression."""


@dataclass(frozen=True)
class Checkpoint:
    """A card and its weights, read and checked."""

    name: str
    card: Card
    tensors: Mapping[str, Tensor]
    spec_json: str
    """The spec as the file has it: what the version is made from, so that new code cannot rename old samples."""

    @cached_property
    def version(self) -> str:
        """First 12 hex digits of a sha256 over the spec and the tensors."""
        return content_version(self.spec_json, self.tensors)

    def build(self, device: torch.device | str = "cpu") -> Generator:
        """The generator in evaluation mode, its parameters frozen, on `device`.

        Convolutions get their weights channels last, the faster layout; it rounds differently from the other, so it is
        not left to the caller.
        """
        with torch.device("meta"):
            generator = build_generator(self.card.spec)
        generator.load_state_dict(self.tensors, assign=True)
        generator.eval().requires_grad_(False).to(device)
        for weight in generator.parameters():
            if weight.dim() == _CONVOLUTION_DIMS:
                weight.data = weight.data.contiguous(memory_format=torch.channels_last)
        return generator

    @classmethod
    def read(cls, path: Path, content: Path | None = None) -> Self:
        """Read and check `path`; CheckpointError where it is not a checkpoint that this code can serve.

        `content`: where to find what the file held when it was opened, if not in the file itself.
        """
        with reading(path, content or path):
            _check_path(path)
            return cls._read(path.stem, content or path)

    @classmethod
    def _read(cls, name: str, content: Path) -> Self:
        with safe_open(content, framework="pt") as file:
            raw_spec, card = _read_card(file.metadata() or {})
            tensors = read_tensors(file, _expected_tensors(card.spec))
            written_version = (file.metadata() or {}).get(VERSION_KEY)
        checkpoint = cls(name, card, tensors, _canonical(raw_spec))
        if written_version not in (None, checkpoint.version):
            raise CheckpointError("its weights are not those that it was written with; copy or train it again")
        return checkpoint


def write_checkpoint(path: Path, card: Card, tensors: Mapping[str, Tensor]) -> Checkpoint:
    """Write `path` atomically (a reader sees the old file or the whole new one) and return what was written.

    CheckpointError where the weights are not finite or `path` has not the name of a checkpoint.
    """
    _check_path(path)
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    require_finite(tensors)
    checkpoint = Checkpoint(path.stem, card, tensors, _canonical(card.spec.model_dump(mode="json")))
    metadata = {"format": "pt", CARD_KEY: card.model_dump_json(), VERSION_KEY: checkpoint.version}
    with atomic_write(path) as temporary:
        temporary.write_bytes(save(tensors, metadata=metadata))
    return checkpoint


def _check_path(path: Path) -> None:
    if path.suffix != SUFFIX:
        raise CheckpointError(f"a checkpoint's name ends in {SUFFIX}")
    check_model_name(path.stem)


def check_model_name(name: str) -> None:
    """CheckpointError where `name` cannot name a model: in requests a name is followed by `@version`."""
    if not _MODEL_NAME.fullmatch(name):
        raise CheckpointError(f"{name!r} cannot be a model's name; use letters, digits, '.', '_' and '-', at most 128")
    if name.endswith(SIDECAR_ENDINGS):
        raise CheckpointError(
            f"{name!r} cannot be a model's name: what lies beside a checkpoint is called so; name the checkpoint"
        )


def _read_card(metadata: Mapping[str, str]) -> tuple[dict[str, Any], Card]:
    raw, card = read_card(metadata, Card)
    return raw["spec"], card


AnyCard = TypeVar("AnyCard", bound=BaseModel)


@contextmanager
def reading(path: Path, content: Path) -> Iterator[None]:
    """While `path`'s `content` is read: whatever is wrong with it is a CheckpointError that names the file."""
    try:
        if not content.is_file():
            raise CheckpointError("there is no such file, or it is something else than a file")
        yield
    except CheckpointError as problem:
        raise CheckpointError(f"{path.name}: {problem}") from problem.__cause__
    except (OSError, MemoryError, SafetensorError, ValueError, RuntimeError) as problem:
        raise CheckpointError(f"{path.name}: {_reason(content, problem)}") from problem


def read_card(metadata: Mapping[str, str], kind: type[AnyCard]) -> tuple[dict[str, Any], AnyCard]:
    """The card in a safetensors file's metadata, as the file has it and checked; CheckpointError if it does not fit."""
    text = metadata.get(CARD_KEY)
    if text is None:
        raise CheckpointError("a safetensors file, but without latentd's card: it was not written by latentd")
    if len(text) > _MAX_CARD_BYTES:
        raise CheckpointError(f"its card is larger than {_MAX_CARD_BYTES} bytes")
    if sum(map(text.count, ",[{")) > _MAX_CARD_VALUES:
        raise CheckpointError(f"its card holds more than {_MAX_CARD_VALUES} values")
    try:
        raw = from_json(text, allow_inf_nan=False)
        json.dumps(raw, allow_nan=False)  # 1e999 is read as infinity, which no answer could carry
        if not isinstance(raw, dict):
            raise TypeError("it is not an object")
        return raw, kind.model_validate(raw)
    except ValidationError as problem:
        raise CheckpointError(f"its card does not fit: {first_problem(problem)}") from problem
    except (ValueError, KeyError, TypeError) as problem:
        raise CheckpointError(f"its card cannot be read: {problem}") from problem


def _expected_tensors(spec: GeneratorSpec) -> Shapes:
    try:
        expected = generator_shapes(spec)
    except ValidationError as problem:
        raise CheckpointError(f"its family's settings do not fit: {first_problem(problem)}") from problem
    size = sum(math.prod(shape) * dtype.itemsize for shape, dtype in expected.values())
    if size > _MAX_WEIGHT_BYTES:
        raise CheckpointError(f"its spec asks for {size} bytes of weights, more than the {_MAX_WEIGHT_BYTES} allowed")
    return expected


def read_tensors(file: Any, expected: Shapes) -> dict[str, Tensor]:
    """The tensors of an open safetensors file; CheckpointError where they are not the `expected`, or not finite."""
    _compare_headers(file, expected)
    # cloned, because what safetensors gives is mapped from the file
    tensors = {each: file.get_tensor(each).clone() for each in expected}
    require_finite(tensors)
    return tensors


def content_version(text: str, tensors: Mapping[str, Tensor]) -> str:
    """First 12 hex digits of a sha256 over `text` and the tensors with their names."""
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"\0{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()[:12]


def _compare_headers(file: Any, expected: Shapes) -> None:
    """Names, shapes and types of an open safetensors file against its card, before any number is read."""
    found = set(file.keys())
    if found != set(expected):
        missing, foreign = sorted(set(expected) - found)[:5], sorted(found - set(expected))[:5]
        raise CheckpointError(f"its tensors are not those of its card (missing: {missing}, foreign: {foreign})")
    for name, (shape, dtype) in expected.items():
        header = file.get_slice(name)
        if tuple(header.get_shape()) != tuple(shape):
            raise CheckpointError(f"tensor {name} has not the shape {tuple(shape)} of its card")
        if header.get_dtype() != _DTYPE_NAMES[dtype]:
            raise CheckpointError(f"tensor {name} is {header.get_dtype()}, its card wants {_DTYPE_NAMES[dtype]}")


def require_finite(tensors: Mapping[str, Tensor]) -> None:
    """CheckpointError names a tensor that holds something else than numbers."""
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise CheckpointError(f"tensor {name} holds values that are not finite")


def _reason(content: Path, problem: Exception) -> str:
    with suppress(OSError), content.open("rb") as file:
        if file.read(4).startswith(_PICKLE_STARTS):
            return (
                "this is a pickled file, which can run code when it is read; latentd never reads pickles. "
                "Train with latentd, or save the weights as safetensors"
            )
    if isinstance(problem, SafetensorError):
        return f"not a whole safetensors file ({problem}); copy or train it again"
    return str(problem)


def _canonical(spec: dict[str, Any]) -> str:
    return json.dumps(spec, sort_keys=True, separators=(",", ":"))
