"""The files of a catalog: where they are, and when one has changed and lies still."""

import os
import weakref
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from latentd.models.checkpoint import SIDECAR_ENDINGS, SUFFIX
from latentd.models.sidecars import is_sidecar, sidecar_path


class OpenFile:
    """A file that stays what it is while this exists, whatever takes its place in the folder.

    Raises OSError where it cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # what is no file might keep us waiting
        weakref.finalize(self, os.close, descriptor)
        self.content = Path(f"/dev/fd/{descriptor}")
        """Where others can open it, too."""


class Stamp(NamedTuple):
    """What tells that a file, or one that belongs to it, was written anew."""

    inode: int
    size: int
    modified: int
    sidecars: tuple["Stamp | None", ...] = ()
    """Of the files beside it, None where there is none."""


class Seen(NamedTuple):
    """What one look at the folders found."""

    stamps: dict[Path, Stamp]
    """In the order of the catalog: a later file wins its model's name."""
    missing: dict[Path, str]
    """Places that cannot be read, and why."""


def look(places: Iterable[Path], before: Seen) -> Seen:
    """The checkpoint files in `places`, which are folders and files.

    Of a place that cannot be read just now, the files are taken to be as they were `before`.
    """
    stamps: dict[Path, Stamp] = {}
    missing: dict[Path, str] = {}
    for place in places:
        try:
            found = _stamps_in(place)
        except FileNotFoundError:
            missing[place] = "there is no such file or folder"
            continue
        except OSError as problem:
            missing[place] = problem.strerror or str(problem)
            found = {file: stamp for file, stamp in before.stamps.items() if place in (file, file.parent)}
        for file, stamp in found.items():
            stamps.pop(file, None)  # named twice: the later place counts
            stamps[file] = stamp
    return Seen(stamps, missing)


def _stamps_in(place: Path) -> dict[Path, Stamp]:
    if not place.is_dir():
        return {place: _stamp_of_all(place)}
    stamps: dict[Path, Stamp] = {}
    for file in sorted(place.iterdir()):
        if file.suffix == SUFFIX and not file.name.startswith(".") and not is_sidecar(file):
            with suppress(FileNotFoundError):  # gone since, or a link to nowhere
                stamps[file] = _stamp_of_all(file)
    return stamps


def sidecars_of(file: Path) -> list[Path]:
    """Where a checkpoint's sidecars lie, if it has any."""
    return [sidecar_path(file, ending) for ending in SIDECAR_ENDINGS]


def _stamp_of_all(file: Path) -> Stamp:
    sidecars: list[Stamp | None] = []
    for sidecar in sidecars_of(file):
        try:
            sidecars.append(_stamp(sidecar))
        except OSError:
            sidecars.append(None)
    return _stamp(file)._replace(sidecars=tuple(sidecars))


def _stamp(file: Path) -> Stamp:
    status = file.stat()
    return Stamp(status.st_ino, status.st_size, status.st_mtime_ns)


class Changes:
    """Tells which files are new, changed or gone since they were last taken note of."""

    def __init__(self, places: Callable[[], Iterable[Path]]) -> None:
        """`places` is asked at every look, since folders come and go."""
        self._places = places
        self._before = Seen({}, {})
        self._settled: dict[Path, Stamp] = {}

    def look(self, wait_until_still: bool = True) -> tuple[Seen, list[Path]]:
        """What is there, and the files to be read: those that changed and then lay still from one look to the next."""
        seen = look(self._places(), self._before)
        changed = [file for file, stamp in seen.stamps.items() if self._settled.get(file) != stamp]
        if wait_until_still:
            changed = [file for file in changed if self._before.stamps.get(file) == seen.stamps[file]]
        self._before = seen
        self._settled = {file: stamp for file, stamp in self._settled.items() if file in seen.stamps}
        self._settled |= {file: seen.stamps[file] for file in changed}
        return seen, changed
