"""Images in tar files: WebDataset's samples, or files in folders.

WebDataset (https://github.com/webdataset/webdataset): neighboring members of one name form a sample, `0007.jpg` and
its class in `0007.cls`. The fields of a sample are what comes after the first dot of a name.
"""

import bz2
import gzip
import lzma
import posixpath
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import IO, Any

import orjson

from latentd.training.data.file_names import is_hidden, is_image, parts_of, suffix_of
from latentd.training.data.image_files import MAX_FILE_BYTES, ImageFile
from latentd.training.data.shards import ShardFile, Shards
from latentd.training.data.source import DataError

_TAR_MAGIC = slice(257, 262)
_TAR_END_BYTES = 1024
"""A tar file ends with so many zero bytes."""
_LABEL, _PROVENANCE = ".cls", ".name.json"
_FIELD = re.compile(r"([A-Za-z_][A-Za-z0-9_-]*\.)*[A-Za-z0-9]+")
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"


@dataclass(frozen=True)
class _Member:
    parts: tuple[str, ...]
    info: tarfile.TarInfo
    content: bytes

    @property
    def name(self) -> str:
        return "/".join(self.parts)

    @property
    def folder(self) -> str:
        return "/".join(self.parts[:-1])

    @property
    def key(self) -> str:
        """The name without fields, as in WebDataset."""
        return posixpath.join(self.folder, self.parts[-1].split(".")[0])

    @property
    def stem(self) -> str:
        """The name without its last suffix."""
        return posixpath.splitext(self.name)[0]

    @property
    def is_image(self) -> bool:
        return is_image(self.parts[-1])

    @property
    def is_plain(self) -> bool:
        """Whether the name has one dot, before the suffix."""
        return self.stem == self.key

    @property
    def is_field(self) -> bool:
        """Whether what comes after the first dot can be a field, as in `7.seg.png`, unlike `10.15.png`."""
        return bool(_FIELD.fullmatch(self.parts[-1].partition(".")[2]))


class _StrictInfo(tarfile.TarInfo):
    """A header that is damaged ends the reading with an error. tarfile would pass over it, or stop without a word."""

    @classmethod
    def fromtarfile(cls, tarfile_: tarfile.TarFile) -> "_StrictInfo":
        try:
            return super().fromtarfile(tarfile_)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]  # typeshed lacks it
            tarfile_.has_ended = True  # type: ignore[attr-defined]
            raise
        except (tarfile.InvalidHeaderError, tarfile.TruncatedHeaderError) as problem:  # type: ignore[attr-defined]
            if getattr(tarfile_, "has_ended", False):
                raise tarfile.EmptyHeaderError from problem  # type: ignore[attr-defined]  # something behind its end
            raise tarfile.ReadError(str(problem)) from problem


class Tars(Shards):
    """Tar files. Labels come from `.cls` files, or from folders if there are none."""

    def _images(self, shard: ShardFile) -> Iterator[ImageFile]:
        _require_complete(shard.path)
        links = dict[str, list[tarfile.TarInfo]]()
        unused, orphans = list[str](), list[str]()
        for _, group in groupby(self._members(shard.path, links), key=lambda member: member.key):
            members = list(group)
            images = [member for member in members if member.is_image]
            used = _images_of_sample(images)
            unused += [member.name for member in images if member not in used]
            if not images:
                orphans += [member.name for member in members if member.name.lower().endswith(_LABEL)]
            for member in used:
                yield _image_file(shard, member, member.parts, _label_of(member, members))
        yield from self._linked(shard, links)
        if unused:
            self.note(f"{shard.name}: {len(unused)} images are further fields of a sample and not used: {unused[0]} …")
        if orphans:
            self.note(f"{shard.name}: {len(orphans)} labels are beside no image of their name: {orphans[0]} …")

    def _members(self, path: Path, links: dict[str, list[tarfile.TarInfo]] | None) -> Iterator[_Member]:
        """Yield images and labels with their bytes, because a stream cannot seek back. Collect links by target."""
        encoding = self.options.names_encoding or "utf-8"
        with _decompressed(path) as stream, _open(stream, encoding) as archive:
            for info in archive:
                parts = parts_of(info.name if "/" in info.name else info.name.replace("\\", "/"))
                if not parts or any(map(is_hidden, parts)):
                    continue
                is_label = parts[-1].lower().endswith((_LABEL, _PROVENANCE))
                if not is_label and not self._is_image(parts[-1]):
                    if info.issym() and not suffix_of(parts[-1]):
                        self.note(f"{path.name}: {info.name}: links to folders in a tar are not followed")
                    continue
                if any("\udc80" <= char <= "\udcff" for char in info.name):
                    self.note(
                        f"{path.name}: names are not of {encoding}; name their encoding by --set "
                        "data.names_encoding=NAME, such as shift_jis, gbk or cp1252"
                    )
                if info.isfile():
                    reader = archive.extractfile(info) if info.size <= MAX_FILE_BYTES else None
                    yield _Member(parts, info, reader.read() if reader else b"")
                elif links is not None and (info.issym() or info.islnk()):
                    links.setdefault(_target(info), []).append(info)

    def _linked(self, shard: ShardFile, links: dict[str, list[tarfile.TarInfo]]) -> Iterator[ImageFile]:
        """Yield images that are links to others in the same tar: a second reading finds the others."""
        if not links:
            return
        for member in self._members(shard.path, None):
            for info in links.pop(member.name, []):
                if is_image(parts_of(info.name)[-1]):
                    yield _image_file(shard, member, parts_of(info.name), None)
        for target, infos in links.items():
            self.note(
                f"{shard.name}: {len(infos)} links were left out, such as {infos[0].name}: {target} is no image in it"
            )


def _target(info: tarfile.TarInfo) -> str:
    base = posixpath.dirname(info.name) if info.issym() else ""
    return "/".join(parts_of(posixpath.normpath(posixpath.join(base, info.linkname))))


def _open(stream: IO[bytes], encoding: str) -> tarfile.TarFile:
    # with ignore_zeros, tars that were joined are read to the end of the last one
    try:
        return tarfile.open(fileobj=stream, mode="r|", ignore_zeros=True, tarinfo=_StrictInfo, encoding=encoding)
    except LookupError as problem:
        raise DataError(f"data.names_encoding: {problem}") from problem


def _decompressed(path: Path) -> Any:
    with path.open("rb") as file:
        start = file.read(6)
    if start.startswith(_ZSTD_MAGIC):
        try:
            from pyarrow import input_stream  # an optional dependency, because it is large
        except ImportError as problem:
            raise DataError(f"{path}: .zst files need pyarrow: pip install 'latentd[parquet]'") from problem
        return input_stream(str(path), compression="zstd")
    for magic, module in ((b"\x1f\x8b", gzip), (b"BZh", bz2), (b"\xfd7zXZ\0", lzma)):
        if start.startswith(magic):
            return module.open(path)
    return path.open("rb")


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


def _images_of_sample(images: list[_Member]) -> list[_Member]:
    """Return the images that are not fields of another one.

    Of `7.png` and `7.seg.png` the first, but both `10.15.png` and `10.16.png`. If all are fields, the one with the
    shortest name is the image.
    """
    plain = [member for member in images if member.is_plain]
    fields = [member for member in images if not member.is_plain and member.is_field]
    others = [member for member in images if not member.is_plain and not member.is_field]
    chosen = min(plain or fields, key=lambda member: len(member.name), default=None)
    return others if chosen is None else [member for member in images if member is chosen or member in others]


def _label_of(image: _Member, members: list[_Member]) -> str | None:
    """Return the label in the image's own `.cls`, or in that of its sample. `latentd bulk` writes names beside it."""
    texts = {member.name.lower(): member for member in members if not member.is_image}
    for stem in dict.fromkeys((image.stem.lower(), image.key.lower())):
        if named := _provenance_label(texts.get(stem + _PROVENANCE)):
            return named
        if label := texts.get(stem + _LABEL):
            return _text(label)
    return None


def _provenance_label(member: _Member | None) -> str | None:
    try:
        provenance = orjson.loads(member.content) if member else None
    except orjson.JSONDecodeError:
        return None
    if not isinstance(provenance, dict) or not {"model", "version", "seed"} <= provenance.keys():
        return None
    label = provenance.get("label")
    return label if isinstance(label, str) else None


def _text(member: _Member) -> str | None:
    """Return a label as it is written, without the end of its line."""
    try:
        text = member.content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise DataError(f"{member.name} should hold a label, but is not UTF-8 text") from None
    return (text.strip() if text.strip().isdecimal() else text.removesuffix("\n").removesuffix("\r")) or None


def _image_file(shard: ShardFile, member: _Member, parts: tuple[str, ...], label: str | None) -> ImageFile:
    folder = posixpath.join(shard.folder, "/".join(parts[:-1]))
    return ImageFile(
        f"{shard.name}/{'/'.join(parts)}", folder, member.info.size, "", partial(bytes, member.content), label
    )
