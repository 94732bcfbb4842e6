"""Files: atomic writes, printable names, and files that only stand in for others."""

import glob
import os
import platform
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_WEB_PAGE = re.compile(rb"\W*(<\?xml[^>]*>\s*)?<(!doctype\s+html|html|head|script|error)\b", re.IGNORECASE)
"""Also matches the XML that object stores send if a link has expired."""
_HOST = platform.node().replace(".", "-") or "host"


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path to write to. When the block ends without an error, that file replaces `path`.

    Its content is on the disk before it replaces `path`. Missing folders are made. After an error, `path` is unchanged.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(path)
    temporary = path.with_name(f".{path.name}.{_HOST}.{os.getpid()}.tmp")
    try:
        yield temporary
        _sync(temporary)
        temporary.replace(path)
        _sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _remove_leftovers(path: Path) -> None:
    """Remove temporary files of processes on this machine that were killed while they wrote `path`."""
    for leftover in path.parent.glob(f".{glob.escape(path.name)}.{_HOST}.*.tmp"):
        pid = leftover.name.rsplit(".", 2)[1]
        if pid.isdecimal() and not process_exists(int(pid)):
            leftover.unlink(missing_ok=True)


def process_exists(pid: int) -> bool:
    """Return whether a process of this machine has the id `pid`."""
    try:
        os.kill(pid, 0)  # signal 0 checks and sends nothing
    except ProcessLookupError:
        return False
    except OSError:  # another user's process
        return True
    return True


def printable(name: str) -> str:
    """Return a file's name as one line of valid text, for logs and answers. On disk, a name may have any bytes."""
    text = name.encode("utf-8", "backslashreplace").decode()
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def placeholder(start: bytes) -> str | None:
    """Return what a file is in place of its real content, and how to get that; None if it is no placeholder.

    A clone without Git LFS has a pointer, and a failed download a web page. `start`: the first 512 bytes of the file.
    """
    if start.startswith(b"version https://git-lfs.github.com/spec/"):
        return "a Git LFS pointer in place of the file; fetch the file with `git lfs pull`"
    if _WEB_PAGE.match(start):
        return "a web page in place of the file; download the file again"
    return None


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
