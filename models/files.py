"""Files that are seen whole or not at all, and their names."""

import glob
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_HOST = platform.node().replace(".", "-") or "host"


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yields a temporary path beside `path` to write to; it takes `path`'s place when the block ends without an error.

    What was written is on the disk before it takes that place. Makes the folder if it is missing.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_what_the_dead_left(path)
    temporary = path.with_name(f".{path.name}.{_HOST}.{os.getpid()}.tmp")
    try:
        yield temporary
        _sync(temporary)
        temporary.replace(path)
        _sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _remove_what_the_dead_left(path: Path) -> None:
    """Temporary files of processes of this machine that were killed while they wrote to `path`."""
    for left in path.parent.glob(f".{glob.escape(path.name)}.{_HOST}.*.tmp"):
        pid = left.name.rsplit(".", 2)[1]
        if pid.isdecimal() and not process_exists(int(pid)):
            left.unlink(missing_ok=True)


def process_exists(pid: int) -> bool:
    """Whether this machine has such a process."""
    try:
        os.kill(pid, 0)  # asks, and sends nothing
    except ProcessLookupError:
        return False
    except OSError:  # another user's
        return True
    return True


def printable(name: str) -> str:
    """`name` as one line of text that can be logged and sent: a file's name is bytes that need not be text."""
    text = name.encode("utf-8", "backslashreplace").decode()
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
