"""Fashion-MNIST and MNIST: finding, downloading, checking and reading their idx files.

The idx format: two zero bytes, a type byte (8: unsigned byte), the number of dimensions, each dimension as a
big-endian 32-bit integer, then the values. Files may be gzipped.
"""

import gzip
import hashlib
import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from latentd.training.data.cache import cache_folder
from latentd.training.data.download import download
from latentd.training.data.source import DataError, OnProgress

Split = Literal["train", "test"]

_FILES: dict[Split, tuple[str, str]] = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
"""The files of images and of labels, without `.gz`."""


@dataclass(frozen=True)
class IdxSet:
    """A data set of idx files. `sha256` has the hash of each file's decompressed content."""

    class_names: tuple[str, ...]
    licence: str
    url: str
    sha256: dict[str, str]
    folders: tuple[Path, ...] = ()
    """Where packages of operating systems install it."""


IDX_SETS = {
    "fashion-mnist": IdxSet(
        class_names=(
            "T-shirt/top",
            "Trouser",
            "Pullover",
            "Dress",
            "Coat",
            "Sandal",
            "Shirt",
            "Sneaker",
            "Bag",
            "Ankle boot",
        ),
        licence="MIT",
        url="http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        sha256={
            "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
            "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
            "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
            "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
        },
        folders=(Path("/usr/share/datasets/fashion-mnist"),),
    ),
    "mnist": IdxSet(
        class_names=tuple("0123456789"),
        licence="CC-BY-SA-3.0",
        url="https://ossci-datasets.s3.amazonaws.com/mnist/",
        sha256={
            "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
            "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
            "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        },
        folders=(Path("/usr/share/datasets/mnist"),),
    ),
}


@dataclass(frozen=True)
class IdxSplit:
    """Images [N, 28, 28], labels [N], and the sha256 of the images' file content."""

    images: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    sha256: str


def load_idx_set(name: str, path: Path | None, on_progress: OnProgress, split: Split = "train") -> IdxSplit:
    """Read a split of the data set `name`.

    Looks in `path` and `path`/`name` if `path` is given. Otherwise looks in `$LATENTD_DATA`, the operating system's
    folder and the cache, in this order, and downloads into the cache if no folder has the files. Raises DataError.
    """
    files = _find(name, path, split) or _download(name, on_progress, split)
    images, labels = (_read_checked(name, file_name, file) for file_name, file in files.items())
    classes = len(IDX_SETS[name].class_names)
    folder = files[_FILES[split][0]].parent
    if images.values.ndim != 3 or labels.values.ndim != 1 or len(images.values) != len(labels.values):
        raise DataError(f"{folder}: images {images.values.shape} and labels {labels.values.shape} do not match")
    if images.values.shape[1:] != (28, 28):
        raise DataError(f"{folder}: {name} has images of 28 x 28 pixels, not {images.values.shape[1:]}")
    if labels.values.max(initial=0) >= classes:
        raise DataError(f"{folder}: a label is {labels.values.max()}, but {name} has {classes} classes")
    return IdxSplit(images.values, labels.values, images.sha256)


@dataclass(frozen=True)
class _IdxFile:
    values: NDArray[np.uint8]
    sha256: str


def _find(name: str, path: Path | None, split: Split) -> dict[str, Path] | None:
    """Return the split's files by name, from the first folder that has all of them; None if there is no such folder.

    Raises DataError if `path` is given and does not have them.
    """
    for folder in _search_folders(name) if path is None else (path, path / name):
        files = {file_name: _file(folder, file_name) for file_name in _FILES[split]}
        found = {file_name: file for file_name, file in files.items() if file is not None}
        if len(found) == len(files):
            return found
    if path is not None:
        raise DataError(f"{path} does not have {' and '.join(_FILES[split])} (with or without .gz)")
    return None


def _search_folders(name: str) -> Iterator[Path]:
    if root := os.environ.get("LATENTD_DATA"):
        yield from (Path(root) / name, Path(root))
    yield from IDX_SETS[name].folders
    yield cache_folder() / name


def _file(folder: Path, file_name: str) -> Path | None:
    return next((path for path in (folder / f"{file_name}.gz", folder / file_name) if path.is_file()), None)


def _download(name: str, on_progress: OnProgress, split: Split) -> dict[str, Path]:
    files = {}
    for file_name in _FILES[split]:
        files[file_name] = cache_folder() / name / f"{file_name}.gz"
        url, sha256 = f"{IDX_SETS[name].url}{file_name}.gz", IDX_SETS[name].sha256[file_name]
        download(url, files[file_name], sha256, on_progress, _offline_advice(name, split))
    return files


def _read_checked(name: str, file_name: str, path: Path) -> _IdxFile:
    read = read_idx(path)
    for other, idx_set in IDX_SETS.items():
        if other != name and read.sha256 == idx_set.sha256[file_name]:
            raise DataError(f"{path} is a file of {other}, not of {name}")
    return read


def read_idx(path: Path) -> _IdxFile:
    """Read an idx file of unsigned bytes, gzipped or not. Raises DataError if it is damaged or of another type."""
    try:
        content = path.read_bytes()
        if content[:2] == b"\x1f\x8b":
            content = gzip.decompress(content)
        zero, kind, dimensions = struct.unpack(">HBB", content[:4])
        shape = struct.unpack(f">{dimensions}I", content[4 : 4 + 4 * dimensions])
        values = np.frombuffer(content, dtype=np.uint8, offset=4 + 4 * dimensions).reshape(shape)
    except (OSError, EOFError, zlib.error, struct.error, ValueError) as problem:
        raise DataError(f"{path} is not a complete idx file ({problem}); replace or remove it") from problem
    if (zero, kind) != (0, 8):
        raise DataError(f"{path} is not an idx file of unsigned bytes (it begins with {content[:4].hex()})")
    return _IdxFile(values, hashlib.sha256(content).hexdigest())


def _offline_advice(name: str, split: Split) -> str:
    files = " and ".join(f"{file_name}.gz" for file_name in _FILES[split])
    debian = " (on Debian: apt install dataset-fashion-mnist)" if name == "fashion-mnist" else ""
    return (
        f"To work offline, put {files} into {cache_folder() / name}, or into any folder, and name that one "
        f"(`data` or `--data`){debian}"
    )
