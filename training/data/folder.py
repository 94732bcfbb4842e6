"""A folder or a zip of images, of any size and mode, decoded once into one array in the cache."""

import hashlib
import io
import logging
import os
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps
from pydantic import BaseModel, ValidationError

from models.files import printable, replacing
from training.data.cache import cache_folder
from training.data.source import DataError, OnProgress, Progress

logger = logging.getLogger(__name__)

_SUFFIXES = {
    *(".avif", ".bmp", ".gif", ".jfif", ".jp2", ".jpeg", ".jpg", ".pbm", ".pgm"),
    *(".png", ".pnm", ".ppm", ".tga", ".tif", ".tiff", ".webp"),
}
Image.init()
# Pillow opens more, some of it by starting other programs; and not every build of it opens all of these.
_WANTED_DECODERS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TGA", "TIFF", "WEBP")
_DECODERS = tuple(name for name in _WANTED_DECODERS if name in Image.OPEN)
_CHUNK = 256
_NAMED = 20


@dataclass(frozen=True)
class DecodedImages:
    """Images [N, side, side, channels], mapped from the cache, and a sha256 of them all."""

    images: NDArray[np.uint8]
    sha256: str


class _Note(BaseModel):
    """What stands beside a decoded array in the cache; written after it."""

    count: int
    sha256: str
    left_out: dict[str, str]
    """Name → why."""


@dataclass(frozen=True)
class _Entry:
    name: str
    stamp: str
    """Changes when the image does."""
    read: Callable[[], bytes]


def decode_folder(path: Path, side: int, channels: int, on_progress: OnProgress) -> DecodedImages:
    """All images below `path`, resized and centre-cropped to squares; files that cannot be decoded are left out.

    What was left out is logged by name and counted. DataError where `path` has no image that can be read.
    """
    with _entries(path) as entries:
        if not entries:
            raise DataError(f"{path} has no images (looked for {', '.join(sorted(_SUFFIXES))}, in subfolders too)")
        stamps = "\n".join(f"{entry.name}\t{entry.stamp}" for entry in entries)
        key = hashlib.sha256(f"{side} {channels}\n{stamps}".encode("utf-8", "surrogateescape")).hexdigest()[:32]
        array_path = cache_folder() / "image-folder" / f"{key}.raw"
        note_path = array_path.with_suffix(".json")
        note = _read_note(note_path) if array_path.is_file() else None
        if note is None:
            try:
                note = _decode_into(array_path, path, entries, side, channels, on_progress)
                with replacing(note_path) as temporary:
                    temporary.write_text(note.model_dump_json())
            except OSError as problem:
                raise DataError(f"decoded images cannot be kept in {array_path.parent}: {problem}") from problem
        _report(path, note, len(entries))
    images = np.memmap(array_path, np.uint8, "r", shape=(note.count, side, side, channels))
    return DecodedImages(images, note.sha256)


def _read_note(path: Path) -> _Note | None:
    try:
        return _Note.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):  # none yet, or not whole: the images are decoded again
        return None


def _report(path: Path, note: _Note, total: int) -> None:
    for name, reason in list(note.left_out.items())[:_NAMED]:
        logger.warning("%s: left out: %s", name, reason)
    if note.left_out:
        more = f"; the first {_NAMED} are named above" if len(note.left_out) > _NAMED else ""
        logger.warning("%s: %d of %d images could not be read%s", path, len(note.left_out), total, more)
    if not note.count:
        raise DataError(f"{path}: none of its {total} images could be read")


def _decode_into(
    array_path: Path, path: Path, entries: list[_Entry], side: int, channels: int, on_progress: OnProgress
) -> _Note:
    left_out: dict[str, str] = {}
    digest = hashlib.sha256()
    with replacing(array_path) as temporary, temporary.open("wb") as file:
        for done, (entry, decoded) in enumerate(_decode_all(entries, side, channels), start=1):
            if isinstance(decoded, Exception):
                left_out[printable(entry.name)] = printable(str(decoded))
            else:
                file.write(decoded.data)
                digest.update(decoded.data)
            on_progress(Progress(f"decoding {path.name}", done, len(entries), "images"))
    return _Note(count=len(entries) - len(left_out), sha256=digest.hexdigest(), left_out=left_out)


def _decode_all(
    entries: list[_Entry], side: int, channels: int
) -> Iterator[tuple[_Entry, NDArray[np.uint8] | Exception]]:
    def decode(entry: _Entry) -> NDArray[np.uint8] | Exception:
        try:
            return decode_square(entry.read(), side, channels)
        except Exception as problem:  # noqa: BLE001  # decoders raise what they like; the file is named and left out
            return problem

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(0, len(entries), _CHUNK):
            chunk = entries[start : start + _CHUNK]
            yield from zip(chunk, pool.map(decode, chunk), strict=True)


def decode_square(content: bytes, side: int, channels: int) -> NDArray[np.uint8]:
    """An image file's bytes → [side, side, channels]: upright, on white where it is transparent, centre-cropped."""
    mode = "L" if channels == 1 else "RGB"
    with Image.open(io.BytesIO(content), formats=_DECODERS) as image:
        image.draft(mode, (side, side))
        upright = ImageOps.exif_transpose(image)
        flat = _on_white(_in_eight_bits(upright)).convert(mode)
    square = ImageOps.fit(flat, (side, side), Image.Resampling.LANCZOS)
    return np.asarray(square, dtype=np.uint8).reshape(side, side, channels).copy()


def _in_eight_bits(image: Image.Image) -> Image.Image:
    """16-bit grey (modes I;16 and I) scaled to 8 bits, where Pillow's own conversion would clip."""
    if not image.mode.startswith("I"):
        return image
    values = np.asarray(image).astype(np.int64).clip(0, 65535) >> 8
    return Image.fromarray(values.astype(np.uint8))


def _on_white(image: Image.Image) -> Image.Image:
    if not image.has_transparency_data:
        return image
    transparent = image.convert("RGBA")
    white = Image.new("RGBA", transparent.size, "white")
    return Image.alpha_composite(white, transparent)


@contextmanager
def _entries(path: Path) -> Iterator[list[_Entry]]:
    """The images below `path`, by name; they can be read while the block lasts."""
    if path.is_dir():
        yield sorted(_folder_entries(path), key=lambda entry: entry.name)
    elif zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:  # reads from several threads at once are safe
            yield [
                _Entry(info.filename, f"{info.file_size} {info.CRC}", partial(archive.read, info))
                for info in sorted(archive.infolist(), key=lambda info: info.filename)
                if not info.is_dir() and _is_image(Path(info.filename))
            ]
    else:
        raise DataError(f"{path} is neither a folder nor a zip of images")


def _folder_entries(path: Path) -> Iterator[_Entry]:
    for file in path.rglob("*"):
        name = file.relative_to(path)
        if _is_image(name) and file.is_file():
            status = file.stat()
            yield _Entry(str(name), f"{file.resolve()} {status.st_size} {status.st_mtime_ns}", file.read_bytes)


def _is_image(name: Path) -> bool:
    hidden = any(part.startswith((".", "__MACOSX")) for part in name.parts)
    return not hidden and name.suffix.lower() in _SUFFIXES
