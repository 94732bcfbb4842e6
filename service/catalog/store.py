"""BentoML's model store as a part of the catalog: `bento:NAME:VERSION`, or `bento:NAME:latest`, which is followed."""

from contextlib import suppress
from pathlib import Path

import bentoml
from bentoml.exceptions import BentoMLException

PREFIX = "bento:"

_Stamp = tuple[int, int]
"""Modification time and size of the store's `latest` file of a model."""
_cache: dict[str, tuple[_Stamp | None, Path]] = {}
"""By tag: the folder that it was found in, and the stamp at that time. A lookup by BentoML takes ten milliseconds."""


def model_folder(reference: str) -> Path:
    """Return the folder of a model in the store. If there is none, return a path that does not exist."""
    tag = reference.removeprefix(PREFIX)
    cached_stamp, folder = _cache.get(tag, (None, None))
    if folder is not None and (not tag.endswith(":latest") or _stamp(folder) == cached_stamp):
        return folder
    with suppress(BentoMLException, OSError, ValueError):  # the model is gone, or is just being written
        stamp = None if folder is None else _stamp(folder)
        folder = Path(bentoml.models.get(tag).path)
        _cache[tag] = (stamp or _stamp(folder), folder)
        return folder
    _cache.pop(tag, None)
    return Path(reference) if folder is None or not folder.exists() else folder


def _stamp(folder: Path) -> _Stamp | None:
    """Return the stamp of the file that names the latest version of a model."""
    try:
        status = (folder.parent / "latest").stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size
