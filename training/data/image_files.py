"""Images in a folder or a zip, one after another, each yet to be read."""

import os
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import ClassVar

_SUFFIXES = {
    *(".avif", ".bmp", ".gif", ".jfif", ".jp2", ".jpeg", ".jpg", ".pbm", ".pgm"),
    *(".png", ".pnm", ".ppm", ".tga", ".tif", ".tiff", ".webp"),
}
LARGEST = 2**28
"""Bytes of a file that is still read."""


@dataclass(frozen=True)
class Entry:
    """One image, yet to be read."""

    name: str
    group: str
    """The folder it lies in, or its label; "" where there is neither."""
    size: int
    stamp: str
    """Changes when the image does."""
    read: Callable[[], bytes]

    def content(self) -> bytes:
        """Its bytes; ValueError where they are more than any image to learn from has."""
        if self.size > LARGEST:
            raise ValueError(f"it has {self.size:,} bytes; the largest that is read has {LARGEST:,}")
        return self.read()


class Collection(ABC):
    """Images in a fixed order, which can be gone through again and again without holding them all."""

    stamps_are_images: ClassVar[bool]
    """Whether there is a stamp an image, so that their number is known before they are read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def stamps(self) -> Iterator[str]:
        """What together changes when an image does; quicker to have than the images."""
        return (f"{entry.name}\t{entry.stamp}" for entry in self)

    @abstractmethod
    def __iter__(self) -> Iterator[Entry]:
        """Every image."""


class Folder(Collection):
    """The files below a folder."""

    stamps_are_images = True

    def __iter__(self) -> Iterator[Entry]:
        return self._below(self.path.resolve(), "")

    def _below(self, folder: Path, name: str) -> Iterator[Entry]:
        with os.scandir(folder) as found:
            children = sorted((child.name, child.is_dir(follow_symlinks=False)) for child in found)
        for child, is_folder in children:
            path, child_name = folder / child, f"{name}{child}"
            if is_folder and not is_hidden(child):
                yield from self._below(path, f"{child_name}/")
            elif not is_folder and is_image(child):
                yield _file_entry(path, child_name, name.rstrip("/"))


def _file_entry(path: Path, name: str, group: str) -> Entry:
    if not path.is_file():
        return Entry(name, group, 0, "", _no_file)
    status = path.stat()
    return Entry(name, group, status.st_size, f"{path} {status.st_size} {status.st_mtime_ns}", path.read_bytes)


def _no_file() -> bytes:
    raise ValueError("it is no file, or a link to none")


class Zip(Collection):
    """The members of a zip."""

    stamps_are_images = True

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._archive = zipfile.ZipFile(path)  # reads from several threads at once are safe

    def __iter__(self) -> Iterator[Entry]:
        for info in sorted(self._archive.infolist(), key=lambda info: info.filename):
            path = PurePosixPath(info.filename)
            if not info.is_dir() and is_image(path.name) and not any(map(is_hidden, path.parts)):
                group = str(path.parent).removeprefix(".")
                stamp = f"{info.file_size} {info.CRC}"
                yield Entry(info.filename, group, info.file_size, stamp, partial(self._archive.read, info))


def suffixes() -> str:
    """How the names of images end, in words."""
    return ", ".join(sorted(_SUFFIXES))


def is_hidden(name: str) -> bool:
    """Whether nobody means it to be seen."""
    return name.startswith((".", "__MACOSX"))


def is_image(name: str) -> bool:
    """Whether a file of this name is one that would be read."""
    return not is_hidden(name) and os.path.splitext(name)[1].lower() in _SUFFIXES  # noqa: PTH122  # a million times
