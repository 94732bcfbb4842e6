"""The files of a catalog: where they are, and when one has changed and is written completely."""

import os
import weakref
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from latentd.models.card import SIDECAR_ENDINGS, SUFFIX
from latentd.models.sidecars import is_sidecar, sidecar_path


class OpenFile:
    """A file that is held open: its content stays readable if the path is replaced. Raises OSError."""

    def __init__(self, path: Path) -> None:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # non-blocking, because the path may be a FIFO
        weakref.finalize(self, os.close, descriptor)
        self.content = Path(f"/dev/fd/{descriptor}")
        """A path to the open file, as long as this object exists."""


class FileStamp(NamedTuple):
    """Identifies a state of a file and its sidecars."""

    inode: int
    size: int
    modified: int
    sidecars: tuple["FileStamp | None", ...] = ()
    """One for each sidecar that a file can have; None for one that does not exist."""


class Scan(NamedTuple):
    """The result of one look at the catalog's paths."""

    stamps: dict[Path, FileStamp]
    """The checkpoint files, in the order of the catalog. Of two files with one model name, the later one is served."""
    unreadable: dict[Path, str]
    """Paths that cannot be read, and why."""


def sidecars_of(file: Path) -> list[Path]:
    """Return the paths of a checkpoint's sidecars, whether they exist or not."""
    return [sidecar_path(file, ending) for ending in SIDECAR_ENDINGS]


class ChangeDetector:
    """Finds the files that are new, changed or gone since the scan before."""

    def __init__(self, paths: Callable[[], Iterable[Path]]) -> None:
        """`paths` returns the catalog's folders and files. It is called at every scan, since folders come and go."""
        self._paths = paths
        self._before = Scan({}, {})
        self._reported: dict[Path, FileStamp] = {}

    def scan(self, wait_until_stable: bool = True) -> tuple[Scan, list[Path]]:
        """Return what exists, and the files to load: those that changed, and did not change since the scan before.

        Without `wait_until_stable`, files that changed are to be loaded at once.
        """
        scan = _scan(self._paths(), self._before)
        changed = [file for file, stamp in scan.stamps.items() if self._reported.get(file) != stamp]
        if wait_until_stable:
            changed = [file for file in changed if self._before.stamps.get(file) == scan.stamps[file]]
        self._before = scan
        self._reported = {file: stamp for file, stamp in self._reported.items() if file in scan.stamps}
        self._reported |= {file: scan.stamps[file] for file in changed}
        return scan, changed


def _scan(paths: Iterable[Path], before: Scan) -> Scan:
    """Scan folders and files. A path that exists and cannot be read keeps the files that it had `before`."""
    stamps: dict[Path, FileStamp] = {}
    unreadable: dict[Path, str] = {}
    for path in paths:
        try:
            found = _stamps_in(path)
        except FileNotFoundError:
            unreadable[path] = "there is no such file or folder"
            continue
        except OSError as problem:
            unreadable[path] = problem.strerror or str(problem)
            found = {file: stamp for file, stamp in before.stamps.items() if path in (file, file.parent)}
        for file, stamp in found.items():
            stamps.pop(file, None)  # a file that is named twice takes its later position
            stamps[file] = stamp
    return Scan(stamps, unreadable)


def _stamps_in(path: Path) -> dict[Path, FileStamp]:
    if not path.is_dir():
        return {path: _stamp_with_sidecars(path)}
    stamps: dict[Path, FileStamp] = {}
    for file in sorted(path.iterdir()):
        if file.suffix == SUFFIX and not file.name.startswith(".") and not is_sidecar(file):
            with suppress(FileNotFoundError):  # removed in the meantime, or a dangling link
                stamps[file] = _stamp_with_sidecars(file)
    return stamps


def _stamp_with_sidecars(file: Path) -> FileStamp:
    sidecars: list[FileStamp | None] = []
    for sidecar in sidecars_of(file):
        try:
            sidecars.append(_stamp(sidecar))
        except OSError:
            sidecars.append(None)
    return _stamp(file)._replace(sidecars=tuple(sidecars))


def _stamp(file: Path) -> FileStamp:
    status = file.stat()
    return FileStamp(status.st_ino, status.st_size, status.st_mtime_ns)
