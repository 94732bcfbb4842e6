"""Images of any size and mode, however they are kept, decoded once into one array in the cache.

Training then reads any of them at any time, in any order, and holds no more than a batch.
"""

import hashlib
import json
import logging
import os
import zipfile
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
from latentd.training.data.image_files import Collection, Entry, Folder, Zip, suffixes
from latentd.training.data.shards import Parquet, WebDataset
from latentd.training.data.source import DataError, OnProgress, TaskProgress

logger = logging.getLogger(__name__)

_CHUNK = 256
_CHUNK_BYTES = 2**28
_NAMED = 20
_GROUP_BYTES = array("i").itemsize


@dataclass(frozen=True)
class DecodedImages:
    """Images [N, side, side, channels], mapped from the cache, with a sha256 of them all."""

    images: NDArray[np.uint8]
    sha256: str
    labels: NDArray[np.int64] | None
    """[N], into `class_names`; None where the images do not lie in two class folders or more, nor have labels."""
    class_names: tuple[str, ...]
    why_no_classes: str


class _Note(BaseModel):
    """What stands beside a decoded array in the cache; written after it."""

    count: int
    sha256: str
    groups: list[str]
    """Which the numbers in the file of groups mean."""
    left_out: int
    reasons: dict[str, str]
    """Why, for the first of those that were left out."""


def decode_collection(path: Path, side: int, channels: int, on_progress: OnProgress) -> DecodedImages:
    """All images at `path`, resized and centre-cropped to squares; files that cannot be decoded are left out.

    What was left out is logged by name and counted. DataError where `path` has no image that can be read.
    """
    collection = _open(path)
    key, entries = _key(collection, side, channels, on_progress)
    if not entries:
        raise _no_images(path)
    array_path = cache_folder() / "image-folder" / f"{key}.raw"
    groups_path, note_path = array_path.with_suffix(".groups"), array_path.with_suffix(".json")
    note = _read_note(note_path, {array_path: side * side * channels, groups_path: _GROUP_BYTES})
    if note is None:
        try:
            # what is entered last is in place first, so that the note tells of files that are there
            with (
                atomic_write(note_path) as facts,
                atomic_write(groups_path) as groups,
                atomic_write(array_path) as pixels,
            ):
                note = _decode_into(pixels, groups, collection, entries, side, channels, on_progress)
                facts.write_text(note.model_dump_json())
        except OSError as problem:
            raise DataError(f"decoded images cannot be kept in {array_path.parent}: {problem}") from problem
    _report(path, note)
    images = np.memmap(array_path, np.uint8, "r", shape=(note.count, side, side, channels))
    return DecodedImages(images, note.sha256, *_classes(np.fromfile(groups_path, np.int32), note.groups))


def _no_images(path: Path) -> DataError:
    return DataError(f"{path} has no images (looked for {suffixes()}, in subfolders too)")


_SHARDS = {".tar": WebDataset, ".tar.gz": WebDataset, ".tgz": WebDataset, ".parquet": Parquet}


def _open(path: Path) -> Collection:
    """The images at `path`; DataError where that is nothing that images could be in, or several things."""
    if path.is_dir():
        return _open_folder(path)
    for suffix, kind in _SHARDS.items():
        if path.name.endswith(suffix):
            return kind(path, [path])
    if zipfile.is_zipfile(path):
        return Zip(path)
    if path.name.lower().endswith(".zip"):
        raise DataError(f"{path} is not a whole zip")
    raise DataError(f"{path} is neither a folder nor a zip of images, nor shards of them ({', '.join(_SHARDS)})")


def _open_folder(path: Path) -> Collection:
    found = {suffix: sorted(path.glob(f"*{suffix}")) for suffix in _SHARDS}
    kinds = {suffix: files for suffix, files in found.items() if files}
    names = [files[0].name for files in kinds.values()]
    if kinds and (image := next(iter(Folder(path)), None)):
        names.append(image.name)
    if len(names) > 1:
        raise DataError(
            f"{path} has images in several forms ({', '.join(names)}): name one of them, or keep them apart"
        )
    for suffix, files in kinds.items():
        return _SHARDS[suffix](path, files)
    return Folder(path)


def _key(collection: Collection, side: int, channels: int, on_progress: OnProgress) -> tuple[str, int]:
    """A name for what the images will be decoded to, and how many stamps it was made from."""
    digest, count = hashlib.sha256(f"{side} {channels}".encode()), 0
    for count, stamp in enumerate(collection.stamps(), start=1):
        digest.update(f"\n{stamp}".encode("utf-8", "surrogateescape"))
        on_progress(TaskProgress(f"indexing {collection.path.name}", count, None, "files"))
    return digest.hexdigest()[:32], count


def _read_note(path: Path, bytes_an_image: dict[Path, int]) -> _Note | None:
    try:
        note = _Note.model_validate_json(path.read_bytes())
        whole = all(file.stat().st_size == note.count * size for file, size in bytes_an_image.items())
    except (OSError, ValidationError):  # none yet, or not whole: the images are decoded again
        return None
    return note if whole else None


def _report(path: Path, note: _Note) -> None:
    for name, reason in note.reasons.items():
        logger.warning("%s: left out: %s", name, reason)
    total = note.count + note.left_out
    if note.left_out:
        more = f"; the first {_NAMED} are named above" if note.left_out > _NAMED else ""
        logger.warning("%s: %d of %d images could not be read%s", path, note.left_out, total, more)
    if not total:
        raise _no_images(path)
    if not note.count:
        raise DataError(f"{path}: none of its {total} images could be read")


def _decode_into(
    pixels_path: Path,
    groups_path: Path,
    collection: Collection,
    stamps: int,
    side: int,
    channels: int,
    on_progress: OnProgress,
) -> _Note:
    digest = hashlib.sha256()
    groups: dict[str, int] = {}
    left_out, reasons = 0, dict[str, str]()
    of_each = array("i")
    with pixels_path.open("wb") as pixels, groups_path.open("wb") as groups_file:
        for done, (entry, decoded) in enumerate(_decode_all(collection, side, channels), start=1):
            if isinstance(decoded, Exception):
                left_out += 1
                if left_out <= _NAMED:
                    reasons[printable(entry.name)] = printable(str(decoded))
            else:
                pixels.write(decoded.data)
                digest.update(decoded.data)
                of_each.append(groups.setdefault(printable(entry.group), len(groups)))
            total = stamps if collection.stamps_are_images else None
            on_progress(TaskProgress(f"decoding {collection.path.name}", done, total, "images"))
        of_each.tofile(groups_file)
    digest.update(of_each.tobytes() + json.dumps(list(groups)).encode())
    return _Note(count=len(of_each), sha256=digest.hexdigest(), groups=list(groups), left_out=left_out, reasons=reasons)


def _decode_all(
    collection: Collection, side: int, channels: int
) -> Iterator[tuple[Entry, NDArray[np.uint8] | Exception]]:
    def decode(entry: Entry) -> NDArray[np.uint8] | Exception:
        try:
            return decode_square(entry.content(), side, channels)
        except Exception as problem:  # noqa: BLE001  # decoders raise what they like; the file is named and left out
            return problem

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for chunk in _chunks(collection):
            yield from zip(chunk, pool.map(decode, chunk), strict=True)


def _chunks(collection: Collection) -> Iterator[list[Entry]]:
    """Entries, as many at once as may be in memory."""
    chunk: list[Entry] = []
    size = 0
    for entry in collection:
        chunk.append(entry)
        size += entry.size
        if len(chunk) == _CHUNK or size > _CHUNK_BYTES:
            yield chunk
            chunk, size = [], 0
    yield chunk


def _classes(of_each: NDArray[np.int32], groups: list[str]) -> tuple[NDArray[np.int64] | None, tuple[str, ...], str]:
    """A class for each image: the first folder below the one that all of them share, or the label; else why not."""
    parts = [PurePosixPath(group).parts for group in groups]
    shared = len(list(takewhile(lambda level: len(set(level)) == 1, zip(*parts, strict=False))))
    below = [part[shared] if len(part) > shared else "" for part in parts]
    names = sorted(set(below) - {""}, key=_naturally)
    if not names:
        return None, (), "they are all in one folder, or have one label or none"
    if "" in below:
        without = int((of_each == below.index("")).sum())
        return None, (), f"{without} of them have no label, or lie beside the folders {', '.join(names[:5])}"
    number = {name: index for index, name in enumerate(names)}
    return np.array([number[name] for name in below])[of_each], tuple(names), ""


def _naturally(name: str) -> tuple[bool, int, str]:
    """Numbers by their size, and before names."""
    return not name.isdecimal(), int(name) if name.isdecimal() else 0, name
