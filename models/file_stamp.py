"""Stamps of files. A file whose stamp is the same as before has not changed."""

from pathlib import Path
from typing import NamedTuple, Self


class FileStamp(NamedTuple):
    """A state of a file, as far as the file system shows it."""

    device: int
    inode: int
    size: int
    modified: int
    """Nanoseconds since 1970."""

    @classmethod
    def of(cls, path: Path) -> Self:
        """Return the stamp of the file at `path` now. Raises OSError."""
        status = path.stat()
        return cls(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)

    @classmethod
    def if_readable(cls, path: Path) -> Self | None:
        """Return the stamp of the file at `path` now; None if there is no such file, or if it cannot be read."""
        try:
            return cls.of(path)
        except OSError:
            return None
