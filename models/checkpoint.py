"""The checkpoint file: one `NAME.safetensors` with a generator's weights and, in its header, the card.

Reading never unpickles: the file is data, and the network is built from the spec by the code of its family. Names,
shapes and dtypes of all tensors are compared with the spec before any weight is loaded.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import torch
from pydantic import ValidationError
from torch import Tensor

from latentd.models.card import CARD_KEY, VERSION_KEY, Card, open_safetensors, parse_card
from latentd.models.errors import CheckpointError
from latentd.models.families import build_generator, generator_shapes
from latentd.models.family import Generator
from latentd.models.file_names import name_and_version
from latentd.models.spec import GeneratorSpec
from latentd.models.tensor_files import Shapes, content_version, read_tensors, write_tensors
from latentd.models.validation import first_problem

_CONVOLUTION_DIMS = 4
_MAX_WEIGHT_BYTES = 4 * 2**30


@dataclass(frozen=True)
class Checkpoint:
    """A generator's card and weights, read and checked."""

    name: str
    card: Card
    tensors: Mapping[str, Tensor]
    spec_json: str
    """The spec as the file has it. The version hashes this text, so that new fields of specs change no version."""

    @cached_property
    def version(self) -> str:
        """The first 12 hex digits of a sha256 over the spec and the tensors."""
        return content_version(self.spec_json, self.tensors)

    def build(self, device: torch.device | str = "cpu") -> Generator:
        """Build the generator on `device`, in evaluation mode and with frozen parameters.

        Convolution weights are stored channels last, which is faster. The memory format decides on rounding, so it is
        fixed here.
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
        """Read and check the checkpoint at `path`.

        `content`: a file with the same bytes, read in place of `path`. Raises CheckpointError if the file is missing,
        damaged, not a checkpoint, or of a family that this code does not have.
        """
        name, version = name_and_version(path)
        with open_safetensors(path, content) as file:
            metadata = file.metadata() or {}
            raw, card = parse_card(metadata, Card)
            tensors = read_tensors(file, _expected_tensors(card.spec))
            checkpoint = cls(name, card, tensors, _canonical(raw["spec"]))
            if metadata.get(VERSION_KEY) not in (None, checkpoint.version):
                raise CheckpointError("its weights are not the ones it was written with; copy or train it again")
            checkpoint._require_version(version)
        return checkpoint

    def _require_version(self, version: str | None) -> None:
        """Raise CheckpointError if the file's name has another version."""
        if version not in (None, self.version):
            raise CheckpointError(f"its version is {self.version}, not the one in its name")


def write_checkpoint(path: Path, card: Card, tensors: Mapping[str, Tensor]) -> Checkpoint:
    """Write a checkpoint to `path` atomically, and return it.

    Raises CheckpointError if a weight is not finite, or if `path` cannot be the name of this checkpoint.
    """
    name, version = name_and_version(path)
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    checkpoint = Checkpoint(name, card, tensors, _canonical(card.spec.model_dump(mode="json")))
    checkpoint._require_version(version)
    metadata = {"format": "pt", CARD_KEY: card.model_dump_json(), VERSION_KEY: checkpoint.version}
    write_tensors(path, tensors, metadata)
    return checkpoint


def _expected_tensors(spec: GeneratorSpec) -> Shapes:
    try:
        expected = generator_shapes(spec)
    except ValidationError as problem:
        raise CheckpointError(f"the config of its family is invalid: {first_problem(problem)}") from problem
    size = sum(math.prod(shape) * dtype.itemsize for shape, dtype in expected.values())
    if size > _MAX_WEIGHT_BYTES:
        raise CheckpointError(f"its spec asks for {size} bytes of weights; at most {_MAX_WEIGHT_BYTES} are allowed")
    return expected


def _canonical(spec: dict[str, Any]) -> str:
    return json.dumps(spec, sort_keys=True, separators=(",", ":"))
