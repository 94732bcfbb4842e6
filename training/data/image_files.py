"""Lists of image files in a folder or a zip, without decoding them."""

import os
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import ClassVar

MAX_FILE_BYTES = 2**28
_SUFFIXES = {
    *(".avif", ".bmp", ".gif", ".jfif", ".jp2", ".jpeg", ".jpg", ".pbm", ".pgm"),
    *(".png", ".pnm", ".ppm", ".tga", ".tif", ".tiff", ".webp"),
}


@dataclass(frozen=True)
class ImageFile:
    """An image file that has not been read yet, in a folder or in an archive."""

    name: str
    group: str
    """Its folder, relative to the collection, or its label; "" if it has neither."""
    size: int
    """Bytes."""
    etag: str
    """A text that changes when the file changes."""
    read: Callable[[], bytes]

    def content(self) -> bytes:
        """Return the file's bytes. Raises ValueError if there are more than MAX_FILE_BYTES."""
        if self.size > MAX_FILE_BYTES:
            raise ValueError(f"it has {self.size:,} bytes; the limit is {MAX_FILE_BYTES:,}")
        return self.read()


class ImageCollection(ABC):
    """Image files in a fixed order. It can be iterated many times and does not hold them in memory."""

    one_etag_per_image: ClassVar[bool]
    """Whether the number of etags is the number of images; if so, it is known before images are read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def etags(self) -> Iterator[str]:
        """Yield texts, at least one of which changes when any image changes. Faster than iterating over the images."""
        return (f"{file.name}\t{file.etag}" for file in self)

    @abstractmethod
    def __iter__(self) -> Iterator[ImageFile]: ...


class Folder(ImageCollection):
    """The files in a folder and its subfolders. Hidden files and linked folders are skipped."""

    one_etag_per_image = True

    def __iter__(self) -> Iterator[ImageFile]:
        return self._below(self.path.resolve(), "")

    def _below(self, folder: Path, prefix: str) -> Iterator[ImageFile]:
        with os.scandir(folder) as found:
            children = sorted((child.name, child.is_dir(follow_symlinks=False)) for child in found)
        for child, is_folder in children:
            path, name = folder / child, f"{prefix}{child}"
            if is_folder and not is_hidden(child):
                yield from self._below(path, f"{name}/")
            elif not is_folder and is_image(child):
                yield _on_disk(path, name, prefix.rstrip("/"))


def _on_disk(path: Path, name: str, group: str) -> ImageFile:
    if not path.is_file():
        return ImageFile(name, group, 0, "", _not_a_file)
    status = path.stat()
    return ImageFile(name, group, status.st_size, f"{path} {status.st_size} {status.st_mtime_ns}", path.read_bytes)


def _not_a_file() -> bytes:
    raise ValueError("it is a broken link or not a regular file")


class Zip(ImageCollection):
    """The members of a zip file. Hidden files and folders are skipped."""

    one_etag_per_image = True

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._archive = zipfile.ZipFile(path)  # several threads may read at once

    def __iter__(self) -> Iterator[ImageFile]:
        for info in sorted(self._archive.infolist(), key=lambda info: info.filename):
            path = PurePosixPath(info.filename)
            if not info.is_dir() and is_image(path.name) and not any(map(is_hidden, path.parts)):
                group = str(path.parent).removeprefix(".")
                etag = f"{info.file_size} {info.CRC}"
                yield ImageFile(info.filename, group, info.file_size, etag, partial(self._archive.read, info))


def suffixes() -> str:
    """Return the suffixes of image files, separated by commas."""
    return ", ".join(sorted(_SUFFIXES))


def is_hidden(name: str) -> bool:
    """Return whether a file or folder of this name is hidden, or is macOS metadata."""
    return name.startswith((".", "__MACOSX"))


def is_image(name: str) -> bool:
    """Return whether a file of this name is read as an image."""
    return not is_hidden(name) and os.path.splitext(name)[1].lower() in _SUFFIXES  # noqa: PTH122  # a million times
