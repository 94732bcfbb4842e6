"""The files of a catalog: where they are, and when one has changed and lies still."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from models.checkpoint import SUFFIX


class Stamp(NamedTuple):
    """What tells that a file was written anew."""

    inode: int
    size: int
    modified: int


class Seen(NamedTuple):
    """What one look at the folders found."""

    stamps: dict[Path, Stamp]
    """In the order of the catalog: a later file wins its model's name."""
    missing: dict[Path, str]
    """Places that cannot be read, and why."""


def look(places: Iterable[Path]) -> Seen:
    """The checkpoint files in `places`, which are folders and files."""
    stamps: dict[Path, Stamp] = {}
    missing: dict[Path, str] = {}
    for place in places:
        try:
            for file in _files(place):
                status = file.stat()
                stamps.pop(file, None)  # named twice: the later place counts
                stamps[file] = Stamp(status.st_ino, status.st_size, status.st_mtime_ns)
        except FileNotFoundError:
            missing[place] = "there is no such file or folder"
        except OSError as problem:
            missing[place] = problem.strerror or str(problem)
    return Seen(stamps, missing)


def _files(place: Path) -> Iterator[Path]:
    if not place.is_dir():
        yield place
        return
    for file in sorted(place.iterdir()):
        if file.suffix == SUFFIX and not file.name.startswith(".") and file.exists():
            yield file


class Changes:
    """Tells which files are new, changed or gone since they were last taken note of."""

    def __init__(self, places: Callable[[], Iterable[Path]]) -> None:
        """`places` is asked at every look, since folders come and go."""
        self._places = places
        self._before = Seen({}, {})
        self._settled: dict[Path, Stamp] = {}

    def look(self, wait_until_still: bool = True) -> tuple[Seen, list[Path]]:
        """What is there, and the files to be read: those that changed and then lay still from one look to the next."""
        seen = look(self._places())
        changed = [file for file, stamp in seen.stamps.items() if self._settled.get(file) != stamp]
        if wait_until_still:
            changed = [file for file in changed if self._before.stamps.get(file) == seen.stamps[file]]
        self._before = seen
        self._settled = {file: stamp for file, stamp in self._settled.items() if file in seen.stamps}
        self._settled |= {file: seen.stamps[file] for file in changed}
        return seen, changed
