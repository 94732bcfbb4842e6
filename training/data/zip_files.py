"""Images in a zip file, whichever system and program wrote it."""

import errno
import os
import posixpath
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from latentd.training.data.file_names import is_hidden, parts_of
from latentd.training.data.image_files import ImageCollection, ImageFile, ReadOptions
from latentd.training.data.source import DataError

_UTF8_FLAG, _ENCRYPTED_FLAG = 0x800, 0x1
_UNIX, _MACOS = 3, 19
_UNICODE_PATH = 0x7075
_END_BYTES = 22
_CANDIDATES = ("cp437", "shift_jis", "gbk", "big5", "cp949", "cp1252", "cp1251", "cp866")
"""Encodings shown if the zip does not name its own."""
_METHODS = {9: "Deflate64", 14: "LZMA", 93: "Zstandard", 95: "XZ", 98: "PPMd", 99: "AES encryption"}


class Zip(ImageCollection):
    """The members of a zip file. Hidden files and folders are skipped."""

    def __init__(self, path: Path, options: ReadOptions) -> None:
        """Raises DataError if the zip is damaged."""
        super().__init__(path, options)
        try:
            self._archive = zipfile.ZipFile(path)  # several threads may read at once
        except OSError as problem:
            raise DataError(f"{path} cannot be read: {problem.strerror or problem}") from problem
        except Exception as problem:  # struct.error, ValueError, NotImplementedError and others, from broken headers
            raise DataError(f"{path} is not a valid zip file ({problem}); copy or download it again") from problem
        if _is_last_part(path, self._archive):
            join = f"zip -s 0 {path.name} --out whole.zip"
            raise DataError(f"{path} is the last part of a split zip; join its parts, by `{join}`")
        self._members = sorted(self._named_members(), key=lambda member: member[0])
        self._by_name = dict(self._members)  # of two members of one name, the later one

    def _files(self) -> Iterator[ImageFile]:
        for name, info in self._members:
            parts = parts_of(name)
            if name.endswith("/") or not parts or any(map(is_hidden, parts)):
                continue
            if self._is_image(parts[-1]):
                etag = f"{info.file_size} {info.CRC} {info.flag_bits} {info.compress_type}"
                yield ImageFile(name, "/".join(parts[:-1]), info.file_size, etag, partial(self._read, name, info))
            elif _is_link(info):
                self.note(f"{name}: links to folders in a zip are not followed")

    def _read(self, name: str, info: zipfile.ZipInfo) -> bytes:
        for _ in range(8):  # a link may lead to a link
            if info.flag_bits & _ENCRYPTED_FLAG:
                raise ValueError("it is encrypted; unpack the zip with its password and name the folder")
            try:
                content = self._archive.read(info)
            except NotImplementedError:
                method = _METHODS.get(info.compress_type, f"method {info.compress_type}")
                raise ValueError(f"it is compressed by {method}; unpack the zip and name the folder") from None
            except OSError as problem:
                if problem.errno == errno.EINVAL:  # a place before the file's beginning
                    raise ValueError("its place in the zip is damaged") from None
                raise
            if not _is_link(info):
                return content
            target = content.decode("utf-8", "replace")
            name = posixpath.normpath(posixpath.join(posixpath.dirname(name), target))
            if name not in self._by_name:
                raise ValueError(f"it is a link to {target}, which is not in the zip")
            info = self._by_name[name]
        raise ValueError("it is a link in a circle")

    def _named_members(self) -> Iterator[tuple[str, zipfile.ZipInfo]]:
        """Yield members by their names, with `/` between folders."""
        members = self._archive.infolist()
        encoding = self._encoding([raw for info in members if (raw := _raw_name(info)) and not raw.isascii()])
        names = [_name(info, encoding) for info in members]
        has_slashes = any("/" in name for name in names)
        for name, info in zip(names, members, strict=True):
            # a file of Windows has no \ in its name; elsewhere it may, but not where all folders are missing
            if "\\" in name and (not has_slashes or info.create_system not in (_UNIX, _MACOS)):
                name = name.replace("\\", "/")
            yield name, info

    def _encoding(self, raw_names: list[bytes]) -> str:
        """Return the encoding of names that are not marked as UTF-8. Raises DataError if the named one does not fit."""
        if not raw_names:
            return "utf-8"
        for encoding in filter(None, (self.options.names_encoding, "utf-8")):
            try:
                for name in raw_names:
                    name.decode(encoding)
            except LookupError as problem:
                raise DataError(f"data.names_encoding: {problem}") from problem
            except ValueError as problem:
                if encoding == self.options.names_encoding:
                    raise DataError(f"{self.path}: names in it are not of {encoding}: {problem}") from problem
            else:
                return encoding
        if any(not name.replace(b"\\", b"/").rpartition(b"/")[0].isascii() for name in raw_names):
            self.note(_ask_for_encoding(raw_names))  # names of files alone do not matter
        return "cp437"


def _is_last_part(path: Path, archive: zipfile.ZipFile) -> bool:
    """Return whether the record at the end of the zip has the number of another disk than the first."""
    with path.open("rb") as file:
        file.seek(-_END_BYTES - len(archive.comment), os.SEEK_END)
        end = file.read(6)
    return end.startswith(b"PK\5\6") and end[4:] not in (b"\0\0", b"\xff\xff")


def _is_link(info: zipfile.ZipInfo) -> bool:
    return info.create_system in (_UNIX, _MACOS) and stat.S_ISLNK(info.external_attr >> 16)


def _raw_name(info: zipfile.ZipInfo) -> bytes | None:
    """Return a name as it is in the zip; None if it is known to be UTF-8."""
    if info.flag_bits & _UTF8_FLAG or _unicode_path(info):
        return None
    return info.orig_filename.encode("cp437", "replace").split(b"\0")[
        0
    ]  # zipfile decodes as cp437, which loses nothing


def _name(info: zipfile.ZipInfo, encoding: str) -> str:
    raw = _raw_name(info)
    return _unicode_path(info) or info.filename if raw is None or raw.isascii() else raw.decode(encoding)


def _unicode_path(info: zipfile.ZipInfo) -> str:
    """Return the name in Info-ZIP's extra field of UTF-8; "" if there is none."""
    extra = info.extra
    while len(extra) >= 4:
        kind, length = struct.unpack_from("<HH", extra)
        data, extra = extra[4 : 4 + length], extra[4 + length :]
        if kind == _UNICODE_PATH and data[:1] == b"\1":
            raw = info.orig_filename.encode("cp437", "replace")
            if data[1:5] == struct.pack("<I", zlib.crc32(raw)):
                return data[5:].decode("utf-8", "replace")
    return ""


def _ask_for_encoding(raw_names: list[bytes]) -> str:
    readings = []
    for encoding in _CANDIDATES:
        try:
            names = [name.decode(encoding).replace("\\", "/") for name in raw_names]
        except ValueError:
            continue
        folders = dict.fromkeys(name.rpartition("/")[0] for name in names)
        readings.append(f"{encoding}: {', '.join(list(folders)[:3])}")
    return (
        "the zip does not say how names of folders are encoded; they were read as cp437. If that is wrong, name the "
        f"encoding by --set data.names_encoding=NAME. They would read: {'; '.join(readings)}"
    )
