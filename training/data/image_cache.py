"""Image collections, decoded once into an array in the cache.

Training maps the array, so it reads any image at any time and holds no more than a batch in memory.
"""

import hashlib
import json
import logging
import os
from array import array
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ValidationError

from latentd.models.files import atomic_write, printable
from latentd.training.data.cache import cache_folder
from latentd.training.data.decode import decode_square
from latentd.training.data.image_files import ImageCollection, ImageFile, suffixes
from latentd.training.data.open_collection import open_collection
from latentd.training.data.source import DataError, OnProgress, TaskProgress

logger = logging.getLogger(__name__)

_CHUNK = 256
_CHUNK_BYTES = 2**28
"""Files read at once, at most."""
_MAX_REPORTED = 20
"""Unreadable files reported by name."""
_GROUP_BYTES = array("i").itemsize


@dataclass(frozen=True)
class DecodedImages:
    """Images [N, side, side, channels], mapped from the cache, and the sha256 of pixels and groups."""

    images: NDArray[np.uint8]
    sha256: str
    labels: NDArray[np.int64] | None
    """[N], indices into `class_names`; None if the images have no classes."""
    class_names: tuple[str, ...]
    why_no_classes: str


class _Manifest(BaseModel):
    """The JSON file beside a decoded array. It is put in place last."""

    count: int
    sha256: str
    groups: list[str]
    """The file of groups holds, for each image, an index into this list."""
    left_out: int
    reasons: dict[str, str]
    """The first _MAX_REPORTED files that could not be decoded: name → reason."""


def decode_images(path: Path, side: int, channels: int, on_progress: OnProgress) -> DecodedImages:
    """Return all images at `path`, resized and centre-cropped to squares.

    Files that cannot be decoded are skipped and logged. Raises DataError if `path` has no readable image.
    """
    collection = open_collection(path)
    key, etags = _cache_key(collection, side, channels, on_progress)
    if not etags:
        raise _no_images(path)
    pixels_path = cache_folder() / "image-folder" / f"{key}.raw"
    groups_path, manifest_path = pixels_path.with_suffix(".groups"), pixels_path.with_suffix(".json")
    manifest = _read_manifest(manifest_path, {pixels_path: side * side * channels, groups_path: _GROUP_BYTES})
    if manifest is None:
        try:
            # the contexts end in reverse order: the manifest is put in place when the other files are
            with (
                atomic_write(manifest_path) as manifest_file,
                atomic_write(groups_path) as groups_file,
                atomic_write(pixels_path) as pixels_file,
            ):
                decoded = _decode_all(collection, side, channels, etags, on_progress)
                manifest = _write(pixels_file, groups_file, decoded)
                manifest_file.write_text(manifest.model_dump_json())
        except OSError as problem:
            raise DataError(f"decoded images cannot be written to {pixels_path.parent}: {problem}") from problem
    _report_skipped(path, manifest)
    images = np.memmap(pixels_path, np.uint8, "r", shape=(manifest.count, side, side, channels))
    return DecodedImages(images, manifest.sha256, *_classes(np.fromfile(groups_path, np.int32), manifest.groups))


def _no_images(path: Path) -> DataError:
    return DataError(f"{path} has no images (files ending in {suffixes()}, also in subfolders)")


def _cache_key(collection: ImageCollection, side: int, channels: int, on_progress: OnProgress) -> tuple[str, int]:
    """Return a name for the decoded images, and the number of etags that it was made from."""
    digest, count = hashlib.sha256(f"{side} {channels}".encode()), 0
    for count, etag in enumerate(collection.etags(), start=1):
        digest.update(f"\n{etag}".encode("utf-8", "surrogateescape"))
        on_progress(TaskProgress(f"indexing {collection.path.name}", count, None, "files"))
    return digest.hexdigest()[:32], count


def _read_manifest(path: Path, bytes_per_image: dict[Path, int]) -> _Manifest | None:
    """Return None if the cache has no complete copy; then the images are decoded again."""
    try:
        manifest = _Manifest.model_validate_json(path.read_bytes())
        complete = all(file.stat().st_size == manifest.count * size for file, size in bytes_per_image.items())
    except (OSError, ValidationError):
        return None
    return manifest if complete else None


def _report_skipped(path: Path, manifest: _Manifest) -> None:
    """Log the skipped files. Raises DataError if no image is left."""
    for name, reason in manifest.reasons.items():
        logger.warning("%s: skipped: %s", name, reason)
    total = manifest.count + manifest.left_out
    if manifest.left_out:
        more = f"; the first {_MAX_REPORTED} are named above" if manifest.left_out > _MAX_REPORTED else ""
        logger.warning("%s: %d of %d images could not be read%s", path, manifest.left_out, total, more)
    if not total:
        raise _no_images(path)
    if not manifest.count:
        raise DataError(f"{path}: none of its {total} images could be read")


_Decoded = tuple[ImageFile, NDArray[np.uint8] | Exception]


def _write(pixels_path: Path, groups_path: Path, images: Iterator[_Decoded]) -> _Manifest:
    digest = hashlib.sha256()
    groups: dict[str, int] = {}
    group_of_image = array("i")
    left_out, reasons = 0, dict[str, str]()
    with pixels_path.open("wb") as pixels, groups_path.open("wb") as groups_file:
        for file, decoded in images:
            if isinstance(decoded, Exception):
                left_out += 1
                if left_out <= _MAX_REPORTED:
                    reasons[printable(file.name)] = printable(str(decoded))
            else:
                pixels.write(decoded.data)
                digest.update(decoded.data)
                group_of_image.append(groups.setdefault(printable(file.group), len(groups)))
        group_of_image.tofile(groups_file)
    digest.update(group_of_image.tobytes() + json.dumps(list(groups)).encode())
    return _Manifest(
        count=len(group_of_image),
        sha256=digest.hexdigest(),
        groups=list(groups),
        left_out=left_out,
        reasons=reasons,
    )


def _decode_all(
    collection: ImageCollection, side: int, channels: int, etags: int, on_progress: OnProgress
) -> Iterator[_Decoded]:
    """Decode in threads. Yield each file with its pixels, or with the error, in the collection's order."""

    def decode(file: ImageFile) -> NDArray[np.uint8] | Exception:
        try:
            return decode_square(file.content(), side, channels)
        except Exception as problem:  # noqa: BLE001  # decoders raise any kind of error; the file is skipped
            return problem

    done, total = 0, etags if collection.one_etag_per_image else None
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for chunk in _chunks(collection):
            for file, decoded in zip(chunk, pool.map(decode, chunk), strict=True):
                yield file, decoded
                done += 1
                on_progress(TaskProgress(f"decoding {collection.path.name}", done, total, "images"))


def _chunks(collection: ImageCollection) -> Iterator[list[ImageFile]]:
    """Yield files in chunks that fit into memory."""
    chunk: list[ImageFile] = []
    size = 0
    for file in collection:
        chunk.append(file)
        size += file.size
        if len(chunk) == _CHUNK or size > _CHUNK_BYTES:
            yield chunk
            chunk, size = [], 0
    yield chunk


def _classes(
    group_of_image: NDArray[np.int32], groups: list[str]
) -> tuple[NDArray[np.int64] | None, tuple[str, ...], str]:
    """Return labels [N], class names, and the reason if there are no classes.

    A group is a label, or a folder as a path. The class is the first folder below the folders that all paths share.
    """
    paths = [PurePosixPath(group).parts for group in groups]
    shared = len(list(takewhile(lambda level: len(set(level)) == 1, zip(*paths, strict=False))))
    class_of_group = [path[shared] if len(path) > shared else "" for path in paths]
    names = sorted(set(class_of_group) - {""}, key=_numbers_first)
    if not names:
        return None, (), "all images are in one folder, or have the same label or none"
    if "" in class_of_group:
        without = int((group_of_image == class_of_group.index("")).sum())
        return None, (), f"{without} images have no label, or lie beside the class folders {', '.join(names[:5])}"
    number = {name: index for index, name in enumerate(names)}
    return np.array([number[name] for name in class_of_group])[group_of_image], tuple(names), ""


def _numbers_first(name: str) -> tuple[bool, int, str]:
    """Sort key: numbers by their value, then other names."""
    return not name.isdecimal(), int(name) if name.isdecimal() else 0, name
