"""Where images are: a folder, a zip, or shards (tar files of WebDataset, Parquet). Each yields them in order."""

import os
import tarfile
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

from training.data.source import DataError

_SUFFIXES = {
    *(".avif", ".bmp", ".gif", ".jfif", ".jp2", ".jpeg", ".jpg", ".pbm", ".pgm"),
    *(".png", ".pnm", ".ppm", ".tga", ".tif", ".tiff", ".webp"),
}
_LARGEST = 2**28
_ROWS = 64
"""Of a Parquet file that are read at once."""


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
        if self.size > _LARGEST:
            raise ValueError(f"it has {self.size:,} bytes; the largest that is read has {_LARGEST:,}")
        return self.read()


class Collection(ABC):
    """Images in a fixed order, which can be gone through again and again without holding them all."""

    stamps_are_images: ClassVar[bool]
    """Whether there is a stamp an image, so that their number is known before they are read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @abstractmethod
    def stamps(self) -> Iterator[str]:
        """What together changes when an image does; quicker to have than the images."""

    @abstractmethod
    def __iter__(self) -> Iterator[Entry]:
        """Every image."""


class _Folder(Collection):
    stamps_are_images = True

    def stamps(self) -> Iterator[str]:
        return (f"{entry.name}\t{entry.stamp}" for entry in self)

    def __iter__(self) -> Iterator[Entry]:
        return self._below(self.path.resolve(), "")

    def _below(self, folder: Path, name: str) -> Iterator[Entry]:
        with os.scandir(folder) as found:
            children = sorted((child.name, child.is_dir(follow_symlinks=False)) for child in found)
        for child, is_folder in children:
            path, child_name = folder / child, f"{name}{child}"
            if is_folder and not _is_hidden(child):
                yield from self._below(path, f"{child_name}/")
            elif not is_folder and _is_image(child) and path.is_file():
                status = path.stat()
                stamp = f"{path} {status.st_size} {status.st_mtime_ns}"
                yield Entry(child_name, name.rstrip("/"), status.st_size, stamp, path.read_bytes)


class _Zip(Collection):
    stamps_are_images = True

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._archive = zipfile.ZipFile(path)  # reads from several threads at once are safe

    def stamps(self) -> Iterator[str]:
        return (f"{entry.name}\t{entry.stamp}" for entry in self)

    def __iter__(self) -> Iterator[Entry]:
        for info in sorted(self._archive.infolist(), key=lambda info: info.filename):
            path = PurePosixPath(info.filename)
            if not info.is_dir() and _is_image(path.name) and not any(map(_is_hidden, path.parts)):
                group = str(path.parent).removeprefix(".")
                stamp = f"{info.file_size} {info.CRC}"
                yield Entry(info.filename, group, info.file_size, stamp, partial(self._archive.read, info))


class _Shards(Collection):
    """Files that are read from their beginning to their end, in the order of their names."""

    stamps_are_images = False

    def __init__(self, path: Path, files: list[Path]) -> None:
        super().__init__(path)
        self._files = files

    def stamps(self) -> Iterator[str]:
        for file in self._files:
            status = file.stat()
            yield f"{file.name}\t{file.resolve()} {status.st_size} {status.st_mtime_ns}"

    def __iter__(self) -> Iterator[Entry]:
        for file in self._files:
            try:
                yield from self._entries(file)
            except (tarfile.TarError, EOFError, OSError, ValueError) as problem:
                raise DataError(f"{file} cannot be read to its end: {problem}") from problem

    @abstractmethod
    def _entries(self, file: Path) -> Iterator[Entry]: ...


class _WebDataset(_Shards):
    """Tar files whose neighbours of one name belong together: `0007.jpg`, and its class as a number in `0007.cls`.

    https://github.com/webdataset/webdataset
    """

    def _entries(self, file: Path) -> Iterator[Entry]:
        with tarfile.open(file, "r|*") as archive:
            for _, members in groupby(_members(archive), key=lambda member: _key(member[0].name)):
                yield from _sample_entries(file, list(members))


def _members(archive: tarfile.TarFile) -> Iterator[tuple[tarfile.TarInfo, bytes]]:
    """A stream can only be read as it passes, so a member comes with its bytes, unless nobody would want them."""
    for member in archive:
        if member.isfile():
            reader = archive.extractfile(member) if _is_wanted(member) else None
            yield member, reader.read() if reader else b""


def _is_wanted(member: tarfile.TarInfo) -> bool:
    name = PurePosixPath(member.name).name
    return member.size <= _LARGEST and (name.endswith(".cls") or _is_image(name))


def _key(name: str) -> str:
    path = PurePosixPath(name)
    return str(path.parent / path.name.split(".")[0])


def _sample_entries(file: Path, members: list[tuple[tarfile.TarInfo, bytes]]) -> Iterator[Entry]:
    labels = [content.decode("ascii").strip() for member, content in members if member.name.endswith(".cls")]
    for member, content in members:
        if _is_image(PurePosixPath(member.name).name):
            read = partial(bytes, content)
            yield Entry(f"{file.name}/{member.name}", labels[0] if labels else "", member.size, "", read)


class _Parquet(_Shards):
    """Files with a column `image` (bytes, or a struct that has `bytes`) and perhaps a column `label`."""

    def _entries(self, file: Path) -> Iterator[Entry]:
        try:
            from pyarrow import parquet  # an extra: few need it, and it is large
        except ImportError as problem:
            raise DataError(f"{file}: Parquet is read by pyarrow: pip install 'latentd[parquet]'") from problem
        with parquet.ParquetFile(file) as table:
            columns = [name for name in ("image", "label") if name in table.schema_arrow.names]
            if "image" not in columns:
                raise DataError(f"{file} has no column `image`; it has {', '.join(table.schema_arrow.names)}")
            number = 0
            for rows in table.iter_batches(_ROWS, columns=columns):
                for row in rows.to_pylist():
                    yield _row_entry(f"{file.name}/{number}", row)
                    number += 1


def _row_entry(name: str, row: dict[str, Any]) -> Entry:
    image, label = row["image"], row.get("label")
    content = (image.get("bytes") if isinstance(image, dict) else image) or b""
    return Entry(name, "" if label is None else str(label), len(content), "", partial(bytes, content))


_SHARD_KINDS: dict[str, Callable[[Path, list[Path]], Collection]] = {".tar": _WebDataset, ".parquet": _Parquet}


def open_collection(path: Path) -> Collection:
    """The images at `path`; DataError where that is nothing that images could be in."""
    for suffix, kind in _SHARD_KINDS.items():
        files = sorted(path.glob(f"*{suffix}")) if path.is_dir() else [path] if path.name.endswith(suffix) else []
        if files:
            return kind(path, files)
    if path.is_dir():
        return _Folder(path)
    if zipfile.is_zipfile(path):
        return _Zip(path)
    raise DataError(f"{path} is neither a folder nor a zip of images, nor shards of them (.tar, .parquet)")


def no_images(path: Path) -> DataError:
    """That there is nothing at `path`."""
    return DataError(f"{path} has no images (looked for {', '.join(sorted(_SUFFIXES))}, in subfolders too)")


def _is_hidden(name: str) -> bool:
    return name.startswith((".", "__MACOSX"))


def _is_image(name: str) -> bool:
    return not _is_hidden(name) and os.path.splitext(name)[1].lower() in _SUFFIXES  # noqa: PTH122  # a million times
