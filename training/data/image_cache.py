"""Image collections, decoded once into an array in the cache.

Training maps the array, so it reads any image at any time and holds no more than a batch in memory.
"""

import hashlib
import json
import logging
import os
import threading
import warnings
from array import array
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import BaseModel, ValidationError

from latentd.models.files import atomic_write, printable
from latentd.training.data.cache import CACHE_ADVICE, cache_folder
from latentd.training.data.classes import Classes, Group, GroupCounter, classes_of, hashed_groups
from latentd.training.data.decode import DECODER_VERSION, DECODERS, Decoded, decode_square
from latentd.training.data.image_files import ImageCollection, ImageFile, ReadOptions
from latentd.training.data.open_collection import no_images, open_collection
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
    classes: Classes


class _Manifest(BaseModel):
    """The JSON file beside a decoded array. It is put in place last."""

    count: int
    sha256: str
    groups: list[Group]
    """The file of groups holds, for each image, an index into this list."""
    left_out: int
    reasons: dict[str, str]
    """The first _MAX_REPORTED files that could not be decoded: name → reason."""
    unread: list[str]
    """Files that the system could not read. They are tried again."""
    notes: list[str]
    """What the user should know about images that were decoded."""
    decoders: str


def decode_images(
    path: Path, side: int, channels: int, on_progress: OnProgress, options: ReadOptions | None = None
) -> DecodedImages:
    """Return all images at `path`, resized and centre-cropped to squares.

    Files that cannot be decoded are skipped and logged. Raises DataError if `path` has no readable image.
    """
    collection = open_collection(path, options or ReadOptions())
    key, etags = _cache_key(collection, side, channels, on_progress)
    if not etags:
        raise _without_images(collection)
    pixels_path = cache_folder() / "image-folder" / f"{key}.raw"
    groups_path, manifest_path = pixels_path.with_suffix(".groups"), pixels_path.with_suffix(".json")
    manifest = _read_manifest(manifest_path, {pixels_path: side * side * channels, groups_path: _GROUP_BYTES})
    if manifest is None or _can_read_more(collection, manifest, side, channels):
        try:
            # the contexts end in reverse order: the manifest is put in place when the other files are
            with (
                atomic_write(manifest_path) as manifest_file,
                atomic_write(groups_path) as groups_file,
                atomic_write(pixels_path) as pixels_file,
            ):
                decoded = _decode_all(collection, side, channels, etags, on_progress)
                manifest = _write(pixels_file, groups_file, decoded, collection)
                manifest_file.write_text(manifest.model_dump_json(), encoding="utf-8")
        except OSError as problem:
            raise DataError(
                f"decoded images cannot be written to {pixels_path.parent}: {problem}; {CACHE_ADVICE}"
            ) from problem
    classes = classes_of(manifest.groups, np.fromfile(groups_path, np.int32))
    _report(collection, manifest, classes)
    images = np.memmap(pixels_path, np.uint8, "r", shape=(manifest.count, side, side, channels))
    return DecodedImages(images, manifest.sha256, classes)


def _without_images(collection: ImageCollection) -> DataError:
    _log(collection.path, list(collection.notes))
    return no_images(collection.path)


def _cache_key(collection: ImageCollection, side: int, channels: int, on_progress: OnProgress) -> tuple[str, int]:
    """Return a name for the decoded images, and the number of etags that it was made from."""
    settings = f"{side} {channels} {DECODER_VERSION} {collection.options}"
    digest, count = hashlib.sha256(settings.encode("utf-8", "surrogateescape")), 0
    task = f"indexing {collection.path.name}"
    try:
        for count, etag in enumerate(collection.etags(), start=1):
            digest.update(f"\n{etag}".encode("utf-8", "surrogateescape"))
            on_progress(TaskProgress(task, count, None, "files"))
    except OSError as problem:
        raise DataError(f"{collection.path} cannot be read: {problem.strerror or problem}") from problem
    if count:
        on_progress(TaskProgress(task, count, count, "files"))
    return digest.hexdigest()[:32], count


def _read_manifest(path: Path, bytes_per_image: dict[Path, int]) -> _Manifest | None:
    """Return None if the cache has no complete copy; then the images are decoded again."""
    try:
        manifest = _Manifest.model_validate_json(path.read_bytes())
        complete = all(file.stat().st_size == manifest.count * size for file, size in bytes_per_image.items())
    except (OSError, ValidationError):
        return None
    return manifest if complete else None


def _can_read_more(collection: ImageCollection, manifest: _Manifest, side: int, channels: int) -> bool:
    """Return whether a file that was left out may be read now: by other decoders, or because the system lets it."""
    if manifest.left_out and manifest.decoders != DECODERS:
        return True
    unread = set(manifest.unread)
    if not unread:
        return False
    return any(_decode(file, side, channels).system_error is None for file in collection if file.name in unread)


def _report(collection: ImageCollection, manifest: _Manifest, classes: Classes) -> None:
    """Log the skipped files and the notes. Raises DataError if no image is left."""
    path = collection.path
    for name, reason in manifest.reasons.items():
        logger.warning("%s: skipped: %s", name, reason)
    total = manifest.count + manifest.left_out
    if manifest.left_out:
        more = f"; the first {_MAX_REPORTED} are named above" if manifest.left_out > _MAX_REPORTED else ""
        logger.warning("%s: %d of %d images could not be read%s", path, manifest.left_out, total, more)
    _log(path, [*dict.fromkeys([*collection.notes, *filter(None, [classes.note]), *manifest.notes])])
    if not total:
        raise no_images(path)
    if not manifest.count:
        raise DataError(f"{path}: none of its {total} images could be read")


def _log(path: Path, notes: list[str]) -> None:
    for note in notes:
        logger.warning("%s: %s", path, printable(note))


@dataclass(frozen=True)
class _Result:
    """A file with its pixels, or with the reason why it has none."""

    file: ImageFile
    decoded: Decoded | None
    reason: str = ""
    system_error: Exception | None = None
    """Why the system could not read the file, which may pass."""


def _write(pixels_path: Path, groups_path: Path, results: Iterator[_Result], collection: ImageCollection) -> _Manifest:
    digest = hashlib.sha256()
    counter = GroupCounter()
    left_out, reasons, unread, notes = 0, dict[str, str](), list[str](), list[str]()
    with pixels_path.open("wb") as pixels, groups_path.open("wb") as groups_file, _warnings_as(notes):
        for result in results:
            name = printable(result.file.name)
            if result.decoded is None:
                left_out += 1
                if left_out <= _MAX_REPORTED:
                    reasons[name] = printable(result.reason)
                if result.system_error is not None:
                    unread.append(result.file.name)
                continue
            pixels.write(result.decoded.pixels.data)
            digest.update(result.decoded.pixels.data)
            counter.add(result.file.folder, result.file.label)
            if result.decoded.note:
                notes.append(f"{name}: {result.decoded.note}")
        counter.of_images.tofile(groups_file)
    more = [f"{len(notes) - _MAX_REPORTED} more notes on images"] if len(notes) > _MAX_REPORTED else []
    hashed, texts = hashed_groups(counter.groups, counter.of_images, collection.are_shards)
    digest.update(hashed.tobytes() + json.dumps(texts).encode())
    return _Manifest(
        count=len(counter.of_images),
        sha256=digest.hexdigest(),
        groups=counter.groups,
        left_out=left_out,
        reasons=reasons,
        unread=unread,
        notes=[*collection.notes, *notes[:_MAX_REPORTED], *more],
        decoders=DECODERS,
    )


_current = threading.local()
"""The file that a thread decodes, for warnings."""


@contextmanager
def _warnings_as(notes: list[str]) -> Iterator[None]:
    """Add warnings of decoders to `notes`, with the name of the file that they are about."""

    def show(message: Warning | str, *_: object, **__: object) -> None:
        name = getattr(_current, "name", None)
        if name is not None:
            notes.append(printable(f"{name}: {message}"))

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # twice as many pixels are refused
        warnings.showwarning = show
        yield


def _decode(file: ImageFile, side: int, channels: int) -> _Result:
    _current.name = file.name
    try:
        content = file.content()
    except (OSError, MemoryError) as problem:
        return _Result(file, None, str(problem), problem)
    except Exception as problem:  # noqa: BLE001  # archives raise any kind of error; the file is skipped
        return _Result(file, None, str(problem))
    try:
        return _Result(file, decode_square(content, side, channels))
    except MemoryError as problem:
        return _Result(file, None, "there is not enough memory for it", problem)
    except Exception as problem:  # noqa: BLE001  # decoders do, too
        return _Result(file, None, str(problem) or type(problem).__name__)


def _decode_all(
    collection: ImageCollection, side: int, channels: int, etags: int, on_progress: OnProgress
) -> Iterator[_Result]:
    """Decode in threads. Yield the results in the collection's order."""
    done, total = 0, None if collection.are_shards else etags
    task = f"decoding {collection.path.name}"
    decode = partial(_decode, side=side, channels=channels)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for chunk in _chunks(collection):
            for result in pool.map(decode, chunk):
                yield result
                done += 1
                on_progress(TaskProgress(task, done, total, "images"))
    if done != total:  # a shard has another number of images than of files
        on_progress(TaskProgress(task, done, done, "images"))


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
