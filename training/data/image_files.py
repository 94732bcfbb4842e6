"""Lists of image files, without decoding them."""

import os
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from latentd.models.files import printable
from latentd.training.data.file_names import is_hidden, is_image, is_unread_image, may_hold_data, suffix_of

MAX_FILE_BYTES = 2**28
_MAX_NOTES = 20


@dataclass(frozen=True)
class ImageFile:
    """An image file that has not been read yet, in a folder or in an archive."""

    name: str
    folder: str
    """Relative to the collection; "" if it lies at the top."""
    size: int
    """Bytes."""
    etag: str
    """A text that changes when the file changes."""
    read: Callable[[], bytes]
    label: str | None = None
    """Any text; only shards have labels."""

    def content(self) -> bytes:
        """Return the file's bytes.

        Raises ValueError if there are more than MAX_FILE_BYTES, and OSError if the system cannot read them now.
        """
        if self.size > MAX_FILE_BYTES:
            raise ValueError(f"it has {self.size:,} bytes; the limit is {MAX_FILE_BYTES:,}")
        return self.read()


@dataclass(frozen=True)
class ReadOptions:
    """What files do not say of themselves. None: the usual names are tried."""

    image_column: str | None = None
    label_column: str | None = None
    names_encoding: str | None = None


class ImageCollection(ABC):
    """Image files in a fixed order. It can be iterated many times and does not hold them in memory."""

    are_shards: ClassVar[bool] = False
    """If not, there is one etag for each image, so that their number is known before images are read."""

    def __init__(self, path: Path, options: ReadOptions) -> None:
        self.path = path
        self.options = options
        self.notes: dict[str, None] = {}
        """What the user should know, each text once, at most _MAX_NOTES. Complete after an iteration."""
        self._unread = Counter[str]()

    def note(self, text: str) -> None:
        """Add a note. The last one of too many says so."""
        text = printable(text) if len(self.notes) < _MAX_NOTES else "there are more such notes"
        self.notes.setdefault(text)

    def etags(self) -> Iterator[str]:
        """Yield texts, at least one of which changes when any image changes. Faster than iterating over the images."""
        return (f"{file.name}\t{file.etag}" for file in self)

    def __iter__(self) -> Iterator[ImageFile]:
        self._unread.clear()
        yield from self._files()
        if self._unread:
            kinds = ", ".join(f"{count} {suffix}" for suffix, count in sorted(self._unread.items()))
            self.note(f"images of other formats were left out: {kinds}; convert them to PNG or JPEG")

    @abstractmethod
    def _files(self) -> Iterator[ImageFile]: ...

    def _is_image(self, name: str) -> bool:
        """Return whether the file is read. Count it if it is an image of a format that latentd does not read."""
        if is_unread_image(name):
            self._unread[suffix_of(name)] += 1
        return is_image(name)


class Folder(ImageCollection):
    """The files in a folder and its subfolders. Hidden files are skipped."""

    def _files(self) -> Iterator[ImageFile]:
        for path, name, folder in walk(self.path, self.note):
            if self._is_image(path.name):
                yield _on_disk(path, name, folder)


def walk(root: Path, note: Callable[[str], None]) -> Iterator[tuple[Path, str, str]]:
    """Yield path, name and folder of all files below `root` that are not hidden; names are relative to `root`.

    A linked folder is followed unless its files are found otherwise. Folders that cannot be read and hidden folders
    that may hold images are noted. Raises OSError if `root` cannot be read.
    """
    start = root.resolve()
    found = [start]

    def below(folder: Path, prefix: str) -> Iterator[tuple[Path, str, str]]:
        for entry in _entries(folder, prefix, note):
            path, name = folder / entry.name, f"{prefix}{entry.name}"
            if not _is_folder(entry):
                if entry.is_symlink() and not suffix_of(entry.name) and not path.exists():
                    note(f"{name}: the link leads to nothing that can be read")  # perhaps to a class folder
                if not is_hidden(entry.name):
                    yield path, name, prefix.rstrip("/")
            elif is_hidden(entry.name):
                if may_hold_data(entry.name):
                    note(f"{name}: hidden folders are not read")
            elif not entry.is_symlink():
                yield from below(path, f"{name}/")
            elif _is_new(path.resolve(), found):
                found.append(path.resolve())
                yield from below(path, f"{name}/")
            else:
                note(f"{name}: the link was not followed: the folder that it names is read already, or holds this one")

    return below(start, "")


def _entries(folder: Path, prefix: str, note: Callable[[str], None]) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as found:
            return sorted(found, key=lambda entry: entry.name)
    except OSError as problem:
        if not prefix:
            raise
        note(f"{prefix.rstrip('/')}: the folder cannot be read and was left out: {problem.strerror}")
        return []


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link in a circle, or to where this user may not look
        return False


def _is_new(folder: Path, found: list[Path]) -> bool:
    return not any(folder.is_relative_to(other) or other.is_relative_to(folder) for other in found)


def _on_disk(path: Path, name: str, folder: str) -> ImageFile:
    try:
        status = path.stat()
    except FileNotFoundError:
        return ImageFile(name, folder, 0, "", _not_a_file)
    except OSError as problem:
        return ImageFile(name, folder, 0, "", _raiser(problem))
    if not path.is_file():
        return ImageFile(name, folder, 0, "", _not_a_file)
    return ImageFile(name, folder, status.st_size, f"{path} {status.st_size} {status.st_mtime_ns}", path.read_bytes)


def _not_a_file() -> bytes:
    raise ValueError("it is a broken link or not a regular file")


def _raiser(problem: OSError) -> Callable[[], bytes]:
    def read() -> bytes:
        raise problem

    return read
