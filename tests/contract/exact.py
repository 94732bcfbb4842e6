"""Checkpoints whose samples are the same on every machine, written from the file format and not by latentd's code.

Family `linear`: each value of a sample is one number of the latent times a power of two. The other products are zero,
so no sum is ever rounded, whichever kernel adds it up.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

IMAGE, POINTS = "exact-image", "exact-points"
_CHANNELS, _SIDE, _DIM = 3, 8, 8
_CARD = """
{"recipe": "exact", "description": "no sum is rounded", "settings": {}, "steps": 0, "images_seen": 0, "seed": 0,
 "data": {"name": "none", "size": 0, "sha256": null, "licence": "CC0-1.0"}, "created": "2026-01-01T00:00:00+00:00",
 "wall_seconds": 0.0, "hardware": "none", "versions": {}, "metrics": {}, "licence": "Apache-2.0"}
"""


def write_exact_models(folder: Path) -> None:
    """Write an RGB image model with one direction, and a model of 2-D points from uniform latents."""
    weight = np.zeros((_CHANNELS * _SIDE * _SIDE, _DIM), dtype=np.float32)
    for pixel in range(len(weight)):
        channel, row, column = pixel // _SIDE**2, pixel // _SIDE % _SIDE, pixel % _SIDE
        weight[pixel, (row // 2 + 2 * (column // 4) + channel) % _DIM] = 2.0 ** -(1 + channel)
    image = {"kind": "image", "channels": _CHANNELS, "height": _SIDE, "width": _SIDE}
    version = _write_checkpoint(folder / f"{IMAGE}.safetensors", _DIM, "normal", image, weight)
    _write_directions(folder / f"{IMAGE}.directions.safetensors", version)
    halved = np.array([[1.0, 0.0], [0.0, 0.5]], dtype=np.float32)
    _write_checkpoint(folder / f"{POINTS}.safetensors", 2, "uniform", {"kind": "points", "dim": 2}, halved)


def _write_checkpoint(path: Path, dim: int, distribution: str, output: dict[str, Any], weight: np.ndarray) -> str:
    spec = {
        "family": "linear",
        "config": {},
        "input": {"kind": "latent", "dim": dim, "distribution": distribution},
        "condition": {"kind": "none"},
        "output": output,
    }
    card = {"spec": spec} | json.loads(_CARD)
    tensors = {"layer.weight": weight, "layer.bias": np.zeros(len(weight), dtype=np.float32)}
    version = _version(json.dumps(spec, sort_keys=True, separators=(",", ":")), tensors)
    _write(path, tensors, card, version)
    return version


def _write_directions(path: Path, of: str) -> None:
    direction = {
        "name": "first",
        "method": "given",
        "about": "The first number of the latent.",
        "score": 1.0,
        "scored": "nothing",
        "range": 3.0,
    }
    card = {"of": of, "space": "z", "dim": _DIM, "directions": [direction], "samples": 1, "seed": 0}
    tensors = {"first": np.eye(_DIM, dtype=np.float32)[0]}
    _write(path, tensors, card, _version(json.dumps({"of": of, "space": "z"}, sort_keys=True), tensors))


def _write(path: Path, tensors: dict[str, np.ndarray], card: dict[str, Any], version: str) -> None:
    metadata = {"format": "pt", "latentd.card": json.dumps(card), "latentd.version": version}
    save_file(tensors, path, metadata)


def _version(text: str, tensors: dict[str, np.ndarray]) -> str:
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        digest.update(f"\0{name}\0torch.float32\0{tensors[name].shape}\0".encode() + tensors[name].tobytes())
    return digest.hexdigest()[:12]
