"""JSON Lines files that stay readable after a crash: one JSON value per line (https://jsonlines.org).

A process that dies while it writes leaves an incomplete last line. The reader skips it, and the appender starts a new
line after it.
"""

import errno
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

from latentd.models.files import atomic_write

T = TypeVar("T")


def read_json_lines(path: Path, parse: Callable[[bytes], T]) -> Iterator[T]:
    """Yield `parse(line)` of each line, in order. A missing file has no lines.

    Lines are skipped if `parse` raises ValueError for them (as json.loads and pydantic do), or if their JSON is nested
    too deeply. Raises OSError if the file cannot be read.
    """
    try:
        lines = path.read_bytes().splitlines()
    except FileNotFoundError:
        return
    for line in lines:
        try:
            value = parse(line)
        except (ValueError, RecursionError):
            continue
        yield value


def write_json_lines(path: Path, lines: Iterable[str]) -> None:
    """Write a whole file atomically. Each of `lines` is one JSON value without line breaks."""
    with atomic_write(path) as temporary:
        temporary.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


class JsonLinesAppender:
    """Appends lines to a file, and creates it if it is missing. Each line is handed to the system at once."""

    def __init__(self, path: Path, durable: bool = False) -> None:
        """`durable`: whether each line is on the disk before `append` returns."""
        self._file = path.open("a+b", buffering=0)
        self._durable = durable
        self._is_torn = _ends_torn(self._file.fileno())

    def append(self, line: str) -> None:
        """Append one JSON value. Raises OSError if it cannot be written, as on a full disk."""
        data = b"\n" * self._is_torn + line.encode() + b"\n"
        self._is_torn = True
        if self._file.write(data) != len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if self._durable:
            os.fsync(self._file.fileno())
        self._is_torn = False

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _ends_torn(file: int) -> bool:
    """Return whether the last line has no line break."""
    size = os.fstat(file).st_size
    return size > 0 and os.pread(file, 1, size - 1) != b"\n"
