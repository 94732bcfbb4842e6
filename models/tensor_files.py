"""Named tensors in safetensors files. The reader never unpickles, and checks all headers before it loads a tensor."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from latentd.models.errors import CheckpointError
from latentd.models.files import atomic_write

Shapes = Mapping[str, tuple[torch.Size, torch.dtype]]
"""Name → shape and dtype of every tensor that a file must hold."""
_DTYPE_NAMES = {torch.float32: "F32", torch.int64: "I64"}
"""The dtypes of latentd's networks, as safetensors names them."""


def write_tensors(
    path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None, finite: bool = True
) -> None:
    """Write `tensors` and `metadata` to `path` atomically: a reader sees the old file or the complete new one.

    `finite`: raise CheckpointError if a tensor holds NaN or infinity. Raises OSError if the file cannot be written.
    """
    if finite:
        require_finite(tensors)
    content = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with atomic_write(path) as temporary:
        temporary.write_bytes(save(content, metadata=metadata))


def read_tensors(file: Any, expected: Shapes) -> dict[str, Tensor]:
    """Return the tensors of an open safetensors file.

    Raises CheckpointError if names, shapes or dtypes differ from `expected`, or if a number is not finite.
    """
    _check_headers(file, expected)
    tensors = {name: file.get_tensor(name).clone() for name in expected}  # get_tensor maps the file's memory
    require_finite(tensors)
    return tensors


def require_finite(tensors: Mapping[str, Tensor]) -> None:
    """Raise CheckpointError if a tensor holds NaN or infinity."""
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise CheckpointError(f"tensor {name} holds values that are not finite")


def content_version(text: str, tensors: Mapping[str, Tensor]) -> str:
    """Return the first 12 hex digits of a sha256 over `text` and the tensors with their names, dtypes and shapes."""
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"\0{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()[:12]


def _check_headers(file: Any, expected: Shapes) -> None:
    found = set(file.keys())
    if found != set(expected):
        missing, unexpected = sorted(set(expected) - found)[:5], sorted(found - set(expected))[:5]
        raise CheckpointError(f"its tensors do not match its card (missing: {missing}, unexpected: {unexpected})")
    for name, (shape, dtype) in expected.items():
        header = file.get_slice(name)
        if tuple(header.get_shape()) != tuple(shape):
            raise CheckpointError(
                f"tensor {name} has the shape {tuple(header.get_shape())}, its card wants {tuple(shape)}"
            )
        if header.get_dtype() != _DTYPE_NAMES[dtype]:
            raise CheckpointError(f"tensor {name} is {header.get_dtype()}, its card wants {_DTYPE_NAMES[dtype]}")
