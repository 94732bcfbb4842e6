"""BentoML's model store as a place of the catalog: `bento:NAME:VERSION`, or `bento:NAME:latest`, which is followed."""

from contextlib import suppress
from pathlib import Path

import bentoml
from bentoml.exceptions import BentoMLException

PREFIX = "bento:"

_found: dict[str, tuple[tuple[int, int] | None, Path]] = {}
"""What each tag was when it was last looked up, and what its `latest` file was then: BentoML takes ten milliseconds."""


def model_folder(place: str) -> Path:
    """Where the model lies that `place` names; a path where nothing is, if there is none."""
    tag = place.removeprefix(PREFIX)
    seen, folder = _found.get(tag, (None, None))
    if folder is not None and (not tag.endswith(":latest") or _stamp(folder) == seen):
        return folder
    with suppress(BentoMLException, OSError, ValueError):  # gone, or just being written
        stamp = None if folder is None else _stamp(folder)
        folder = Path(bentoml.models.get(tag).path)
        _found[tag] = (stamp or _stamp(folder), folder)
        return folder
    _found.pop(tag, None)
    return Path(place) if folder is None or not folder.exists() else folder


def _stamp(folder: Path) -> tuple[int, int] | None:
    """Of the file that says which version of a model is the latest."""
    try:
        status = (folder.parent / "latest").stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size
