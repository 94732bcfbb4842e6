"""Images in shards: tar files of WebDataset, or Parquet, each read from its beginning to its end."""

import tarfile
from abc import abstractmethod
from collections.abc import Iterator
from functools import partial
from itertools import groupby
from pathlib import Path, PurePosixPath
from typing import Any

from latentd.training.data.image_files import LARGEST, Collection, Entry, is_hidden, is_image
from latentd.training.data.source import DataError

_TAR_MAGIC = slice(257, 262)
_TAR_END = 1024
"""Zero bytes at the end of every tar file."""
_ROWS = 64
"""Of a Parquet file that are read at once."""


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


class WebDataset(_Shards):
    """Tar files whose neighbours of one name belong together: `0007.jpg`, and its class as a number in `0007.cls`.

    https://github.com/webdataset/webdataset
    """

    def _entries(self, file: Path) -> Iterator[Entry]:
        _require_whole(file)
        with tarfile.open(file, "r|*") as archive:
            for _, members in groupby(_members(archive), key=lambda member: _key(member[0].name)):
                yield from _sample_entries(file, list(members))


def _require_whole(file: Path) -> None:
    """A tar file that was cut off between its members can be read without an error; only its end is missing."""
    with file.open("rb") as content:
        if content.read(_TAR_MAGIC.stop)[_TAR_MAGIC] != b"ustar":
            return  # compressed, which is checked as it is read
        content.seek(max(0, file.stat().st_size - _TAR_END))
        if content.read().strip(b"\0"):
            raise tarfile.ReadError("it does not end as a whole tar file does")


def _members(archive: tarfile.TarFile) -> Iterator[tuple[tarfile.TarInfo, bytes]]:
    """A stream can only be read as it passes, so a member comes with its bytes, unless nobody would want them."""
    for member in archive:
        if member.isfile():
            reader = archive.extractfile(member) if _is_wanted(member) else None
            yield member, reader.read() if reader else b""


def _is_wanted(member: tarfile.TarInfo) -> bool:
    name = PurePosixPath(member.name).name
    return member.size <= LARGEST and (_is_label(name) or is_image(name))


def _is_label(name: str) -> bool:
    return name.endswith(".cls") and not is_hidden(name)


def _key(name: str) -> str:
    path = PurePosixPath(name)
    return str(path.parent / path.name.split(".")[0])


def _sample_entries(file: Path, members: list[tuple[tarfile.TarInfo, bytes]]) -> Iterator[Entry]:
    """One image a sample: that with the plainest name, where `0007.seg.png` stands beside `0007.png`."""
    labels = [_label(member, content) for member, content in members if _is_label(PurePosixPath(member.name).name)]
    images = [each for each in members if is_image(PurePosixPath(each[0].name).name)]
    if images:
        member, content = min(images, key=lambda each: len(each[0].name))
        group = labels[0] if labels else ""
        yield Entry(f"{file.name}/{member.name}", group, member.size, "", partial(bytes, content))


def _label(member: tarfile.TarInfo, content: bytes) -> str:
    try:
        return content.decode().strip()
    except UnicodeDecodeError:
        raise DataError(f"{member.name} is not text, but a label should be") from None


class Parquet(_Shards):
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
    if not isinstance(content, bytes):
        raise DataError(f"{name}: column `image` holds {type(content).__name__}, not the bytes of image files")
    return Entry(name, "" if label is None else str(label), len(content), "", partial(bytes, content))
