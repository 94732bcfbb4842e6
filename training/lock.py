"""Whose a run folder is: one run's at a time, for as long as its process lives.

The system lets go of a lock when its process ends, however it ends; the file that stays behind means nothing.
"""

import fcntl
import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from latentd.training.directory import OutputError

_LOCK = "lock"
_PATIENCE, _PAUSE = 1.0, 0.05
"""Seconds in which it may fall free: whoever only looks holds it for a moment too."""


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Within the block the run folder, which is made if it is missing, is this process's alone.

    Raises OutputError where it is another's, or cannot be written to.
    """
    with _locked(folder):
        yield


def is_locked(folder: Path) -> bool:
    """Whether a run is at work in the folder."""
    try:
        with (folder / _LOCK).open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # nobody has been there
        return False
    return False


def _locked(folder: Path) -> IO[str]:
    """The lock's file, which holds it until it is closed."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / _LOCK).open("a+")
        if _take(file):
            file.truncate(0)
            file.write(f"process {os.getpid()} on {platform.node()}")
            file.flush()
            return file
        file.seek(0)
        holder = file.read()
    except OSError as problem:
        raise OutputError(f"{folder} cannot be written to ({problem}); choose another folder with --out") from problem
    raise OutputError(
        f"another run is at work in {folder} ({holder}); stop it or wait for it, or choose another folder with --out"
    )


def _take(file: IO[str]) -> bool:
    until = time.monotonic() + _PATIENCE
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > until:
                return False
            time.sleep(_PAUSE)
        else:
            return True
