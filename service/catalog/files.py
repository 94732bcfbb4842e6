"""The files of a catalog: where they are, and which of them have changed and are completely written."""

import os
import weakref
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from latentd.models.errors import CheckpointError
from latentd.models.file_names import SIDECAR_ENDINGS, check_model_name, sidecar_path
from latentd.models.file_stamp import FileStamp
from latentd.models.names import CatalogFile
from latentd.models.promotions import promotions_file
from latentd.models.run_folder import RunFacts, checkpoints_in, model_name, run_folders, run_json


class OpenFile:
    """An open file. Its content stays readable if another file takes its path."""

    def __init__(self, path: Path) -> None:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # non-blocking, because the path may be a FIFO
        weakref.finalize(self, os.close, descriptor)
        self.content = Path(f"/dev/fd/{descriptor}")
        """A path to the open file, valid as long as this object exists."""


CheckpointStamp = tuple[FileStamp, *tuple[FileStamp | None, ...]]
"""The stamp of a checkpoint file, then one for each sidecar that it can have; None for one that does not exist."""


@dataclass(frozen=True)
class Scan:
    """The result of one look at the catalog's paths."""

    stamps: dict[CatalogFile, CheckpointStamp] = field(default_factory=dict)
    """The checkpoint files in the order of the catalog. Of two files with one model name, the later one is served."""
    unreadable: dict[Path, str] = field(default_factory=dict)
    """Paths that cannot be read, and why."""
    runs: dict[str, RunFacts] = field(default_factory=dict)
    """Runs by name. Of two runs with the same name, the later one counts."""
    promotions: dict[Path, FileStamp] = field(default_factory=dict)
    """The stamp of each folder's file of promotions, in the order of the catalog. Folders without one are left out."""


def sidecars_of(file: Path) -> list[Path]:
    """Return the paths of a checkpoint's sidecars, whether they exist or not."""
    return [sidecar_path(file, ending) for ending in SIDECAR_ENDINGS]


class ChangeDetector:
    """Finds the files that are new, changed or gone since the scan before."""

    def __init__(self, paths: Callable[[], Iterable[Path]]) -> None:
        """`paths` returns the catalog's folders and files. It is called for every scan, because folders come and go."""
        self._paths = paths
        self._before = Scan()
        self._reported: dict[CatalogFile, CheckpointStamp] = {}
        self._run_facts: dict[Path, tuple[FileStamp | None, RunFacts]] = {}
        """For each folder: the stamp of its `run.json`, and the facts in it."""

    def scan(self, wait_until_stable: bool = True) -> tuple[Scan, list[CatalogFile]]:
        """Return what exists, and the files to load: those that have changed, but not since the scan before.

        Without `wait_until_stable`, files that have changed just now are returned too.
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
        """Scan folders and files. If a path exists but cannot be read, its files stay as they were before."""
        scan = Scan()
        for path in self._paths():
            self._add(scan, path, None)
            with suppress(OSError):
                scan.promotions[path] = FileStamp.of(promotions_file(path))
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
        """Add the files in the folder `path`, or `path` itself if it is a file."""
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
        stamp = FileStamp.if_readable(run_json(folder))
        known = self._run_facts.get(folder)
        if known is None or known[0] != stamp:
            known = self._run_facts[folder] = (stamp, RunFacts.read(folder))
        return known[1]


def _stamps_in(path: Path) -> dict[Path, CheckpointStamp]:
    if not path.is_dir():
        return {path: _checkpoint_stamp(path)}
    stamps: dict[Path, CheckpointStamp] = {}
    for file in checkpoints_in(path):
        with suppress(FileNotFoundError):  # removed in the meantime, or a dangling link
            stamps[file] = _checkpoint_stamp(file)
    return stamps


def _checkpoint_stamp(file: Path) -> CheckpointStamp:
    return FileStamp.of(file), *map(FileStamp.if_readable, sidecars_of(file))
