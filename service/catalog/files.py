"""The files of a catalog: where they are, and when one has changed and is written completely."""

import os
import weakref
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from latentd.models.card import SIDECAR_ENDINGS, check_model_name
from latentd.models.errors import CheckpointError
from latentd.models.names import CatalogFile
from latentd.models.promotions import promotions_file
from latentd.models.run_folder import RunFacts, checkpoints_in, model_name, run_folders, run_json
from latentd.models.sidecars import sidecar_path


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


@dataclass(frozen=True)
class Scan:
    """The result of one look at the catalog's paths."""

    stamps: dict[CatalogFile, FileStamp] = field(default_factory=dict)
    """The checkpoint files, in the order of the catalog. Of two files with one model name, the later one is served."""
    unreadable: dict[Path, str] = field(default_factory=dict)
    """Paths that cannot be read, and why."""
    runs: dict[str, RunFacts] = field(default_factory=dict)
    """The runs by their names. Of two with one name, the later one counts."""
    promotions: dict[Path, FileStamp] = field(default_factory=dict)
    """The folders that have a file of promotions, in the order of the catalog."""


def sidecars_of(file: Path) -> list[Path]:
    """Return the paths of a checkpoint's sidecars, whether they exist or not."""
    return [sidecar_path(file, ending) for ending in SIDECAR_ENDINGS]


class ChangeDetector:
    """Finds the files that are new, changed or gone since the scan before."""

    def __init__(self, paths: Callable[[], Iterable[Path]]) -> None:
        """`paths` returns the catalog's folders and files. It is called at every scan, since folders come and go."""
        self._paths = paths
        self._before = Scan()
        self._reported: dict[CatalogFile, FileStamp] = {}
        self._run_facts: dict[Path, tuple[FileStamp | None, RunFacts]] = {}
        """By folder: the facts, and the stamp of the file that they were read from."""

    def scan(self, wait_until_stable: bool = True) -> tuple[Scan, list[CatalogFile]]:
        """Return what exists, and the files to load: those that changed, and did not change since the scan before.

        Without `wait_until_stable`, files that changed are to be loaded at once.
        """
        scan = self._scan()
        changed = [file for file, stamp in scan.stamps.items() if self._reported.get(file) != stamp]
        if wait_until_stable:
            changed = [file for file in changed if self._before.stamps.get(file) == scan.stamps[file]]
        self._before = scan
        self._reported = {file: stamp for file, stamp in self._reported.items() if file in scan.stamps}
        self._reported |= {file: scan.stamps[file] for file in changed}
        return scan, changed

    def _scan(self) -> Scan:
        """Scan folders and files. A path that exists and cannot be read keeps the files that it had before."""
        scan = Scan()
        for path in self._paths():
            self._add(scan, path, None)
            with suppress(OSError):
                scan.promotions[path] = _stamp(promotions_file(path))
            for folder in run_folders(path):
                self._add_run(scan, folder)
        return scan

    def _add_run(self, scan: Scan, folder: Path) -> None:
        name = model_name(folder)
        try:
            check_model_name(folder.name)
        except CheckpointError as problem:
            scan.unreadable[folder] = str(problem)
            return
        self._add(scan, folder, name)
        scan.runs[name] = self._facts(folder)

    def _add(self, scan: Scan, path: Path, run: str | None) -> None:
        """Add the files of `path`, or the file that it is."""
        try:
            found = _stamps_in(path)
        except FileNotFoundError:
            if run is None:
                scan.unreadable[path] = "there is no such file or folder"
            return
        except OSError as problem:
            scan.unreadable[path] = problem.strerror or str(problem)
            before = self._before.stamps.items()
            found = {
                file.path: stamp for file, stamp in before if file.run == run and path in (file.path, file.path.parent)
            }
        for file, stamp in found.items():
            scan.stamps.pop(CatalogFile(file, run), None)  # a file that is named twice takes its later position
            scan.stamps[CatalogFile(file, run)] = stamp

    def _facts(self, folder: Path) -> RunFacts:
        try:
            stamp: FileStamp | None = _stamp(run_json(folder))
        except OSError:
            stamp = None
        known = self._run_facts.get(folder)
        if known is None or known[0] != stamp:
            known = self._run_facts[folder] = (stamp, RunFacts.read(folder))
        return known[1]


def _stamps_in(path: Path) -> dict[Path, FileStamp]:
    if not path.is_dir():
        return {path: _stamp_with_sidecars(path)}
    stamps: dict[Path, FileStamp] = {}
    for file in checkpoints_in(path):
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
