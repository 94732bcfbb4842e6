"""Image files in shards: WebDataset tar files or Parquet files, read sequentially."""

import tarfile
from abc import abstractmethod
from collections.abc import Iterator
from functools import partial
from itertools import groupby
from pathlib import Path, PurePosixPath
from typing import Any

from latentd.training.data.image_files import MAX_FILE_BYTES, ImageCollection, ImageFile, is_hidden, is_image
from latentd.training.data.source import DataError

_TAR_MAGIC = slice(257, 262)
_TAR_END_BYTES = 1024
"""A tar file ends with so many zero bytes."""
_PARQUET_ROWS = 64
"""Rows read at once."""


class _Shards(ImageCollection):
    """Shards in the order of their names."""

    one_etag_per_image = False

    def __init__(self, path: Path, files: list[Path]) -> None:
        super().__init__(path)
        self._files = files

    def etags(self) -> Iterator[str]:
        for file in self._files:
            status = file.stat()
            yield f"{file.name}\t{file.resolve()} {status.st_size} {status.st_mtime_ns}"

    def __iter__(self) -> Iterator[ImageFile]:
        for file in self._files:
            try:
                yield from self._images(file)
            except (tarfile.TarError, EOFError, OSError, ValueError) as problem:
                raise DataError(f"{file} is damaged or incomplete: {problem}") from problem

    @abstractmethod
    def _images(self, file: Path) -> Iterator[ImageFile]: ...


class WebDataset(_Shards):
    """Tar files in which neighbouring members of one name form a sample: `0007.jpg`, and its class in `0007.cls`.

    https://github.com/webdataset/webdataset
    """

    def _images(self, file: Path) -> Iterator[ImageFile]:
        _require_complete(file)
        with tarfile.open(file, "r|*") as archive:
            for _, members in groupby(_members(archive), key=lambda member: _sample_key(member[0].name)):
                yield from _image_of_sample(file, list(members))


def _require_complete(file: Path) -> None:
    """Raise ReadError if the end of an uncompressed tar file is missing. tarfile does not notice a cut between members.

    Compressed files are checked while they are read.
    """
    with file.open("rb") as content:
        if content.read(_TAR_MAGIC.stop)[_TAR_MAGIC] != b"ustar":
            return
        content.seek(max(0, file.stat().st_size - _TAR_END_BYTES))
        if content.read().strip(b"\0"):
            raise tarfile.ReadError("the end of the tar file is missing")


def _members(archive: tarfile.TarFile) -> Iterator[tuple[tarfile.TarInfo, bytes]]:
    """Yield each member with its bytes, because a stream cannot seek back. Unused members come with no bytes."""
    for member in archive:
        if member.isfile():
            reader = archive.extractfile(member) if _is_used(member) else None
            yield member, reader.read() if reader else b""


def _is_used(member: tarfile.TarInfo) -> bool:
    name = PurePosixPath(member.name).name
    return member.size <= MAX_FILE_BYTES and (_is_label(name) or is_image(name))


def _is_label(name: str) -> bool:
    return name.endswith(".cls") and not is_hidden(name)


def _sample_key(name: str) -> str:
    path = PurePosixPath(name)
    return str(path.parent / path.name.split(".")[0])


def _image_of_sample(file: Path, members: list[tuple[tarfile.TarInfo, bytes]]) -> Iterator[ImageFile]:
    """Yield one image per sample: the one with the shortest name, so `0007.png` rather than `0007.seg.png`."""
    labels = [_label(member, content) for member, content in members if _is_label(PurePosixPath(member.name).name)]
    images = [each for each in members if is_image(PurePosixPath(each[0].name).name)]
    if images:
        member, content = min(images, key=lambda each: len(each[0].name))
        group = labels[0] if labels else ""
        yield ImageFile(f"{file.name}/{member.name}", group, member.size, "", partial(bytes, content))


def _label(member: tarfile.TarInfo, content: bytes) -> str:
    try:
        return content.decode().strip()
    except UnicodeDecodeError:
        raise DataError(f"{member.name} should hold a label, but is not UTF-8 text") from None


class Parquet(_Shards):
    """Parquet files with a column `image` (bytes, or a struct with `bytes`) and an optional column `label`."""

    def _images(self, file: Path) -> Iterator[ImageFile]:
        try:
            from pyarrow import parquet  # an optional dependency, because it is large
        except ImportError as problem:
            raise DataError(f"{file}: Parquet files need pyarrow: pip install 'latentd[parquet]'") from problem
        with parquet.ParquetFile(file) as table:
            columns = [name for name in ("image", "label") if name in table.schema_arrow.names]
            if "image" not in columns:
                raise DataError(f"{file} has no column `image`; it has {', '.join(table.schema_arrow.names)}")
            number = 0
            for rows in table.iter_batches(_PARQUET_ROWS, columns=columns):
                for row in rows.to_pylist():
                    yield _image_of_row(f"{file.name}/{number}", row)
                    number += 1


def _image_of_row(name: str, row: dict[str, Any]) -> ImageFile:
    image, label = row["image"], row.get("label")
    content = (image.get("bytes") if isinstance(image, dict) else image) or b""
    if not isinstance(content, bytes):
        raise DataError(f"{name}: column `image` holds {type(content).__name__}, not the bytes of image files")
    return ImageFile(name, "" if label is None else str(label), len(content), "", partial(bytes, content))
