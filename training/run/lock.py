"""One process at a time in a run directory.

The operating system releases the lock when its process ends, however it ends. The lock's file stays behind, and means
nothing by itself.
"""

import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from filelock import FileLock, Timeout, lock_descriptor

from latentd.training.run.directory import OutputError

_LOCK = "lock"
_TIMEOUT_SECONDS = 1.0
"""How long `locked` waits: `is_locked` holds the lock for a moment too."""
_PROBE_SECONDS, _PROBE_INTERVAL = 0.1, 0.01
"""How long `is_locked` waits for another `is_locked`."""


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Hold the lock of `directory` within the block. The directory is made if it is missing.

    Raises OutputError if another process holds the lock, or if the directory cannot be written to.
    """
    lock = FileLock(directory / _LOCK, timeout=_TIMEOUT_SECONDS, on_acquired=_write_holder)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout:
        raise OutputError(
            f"another run is at work in {directory} ({_read_holder(directory)}); "
            "stop it or wait for it, or choose another folder (`out` or `--out`)"
        ) from None
    except OSError as problem:
        raise OutputError(
            f"{directory} cannot be written to ({problem}); choose another folder (`out` or `--out`)"
        ) from problem
    try:
        yield
    finally:
        lock.release()


def is_locked(directory: Path) -> bool:
    """Whether a process holds the lock of `directory`. Creates and changes no file."""
    with suppress(OSError), _open_existing(directory / _LOCK) as file:
        deadline = time.monotonic() + _PROBE_SECONDS
        while not lock_descriptor(file.fileno(), blocking=False):
            if time.monotonic() > deadline:
                return True
            time.sleep(_PROBE_INTERVAL)
    return False


def _open_existing(path: Path) -> IO[bytes]:
    try:
        return path.open("r+b")  # NFS locks only files that are open for writing
    except OSError:
        return path.open("rb")


def _write_holder(file: int) -> None:
    os.truncate(file, 0)
    os.pwrite(file, f"process {os.getpid()} on {platform.node()}".encode(), 0)


def _read_holder(directory: Path) -> str:
    try:
        return (directory / _LOCK).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return "unknown process"
