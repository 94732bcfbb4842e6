"""BentoML's model store as a part of the catalog: `bento:NAME:VERSION`, or `bento:NAME:latest`, which is followed."""

from contextlib import suppress
from pathlib import Path

import bentoml
from bentoml.exceptions import BentoMLException

from latentd.models.file_stamp import FileStamp

PREFIX = "bento:"

_cache: dict[str, tuple[FileStamp | None, Path]] = {}
"""For each tag: `_latest_stamp` at the time of the last lookup, and the folder. A lookup by BentoML takes 10 ms."""


def model_folder(reference: str) -> Path:
    """Return the folder of a model in the store. If there is none, return a path that does not exist."""
    tag = reference.removeprefix(PREFIX)
    cached_stamp, folder = _cache.get(tag, (None, None))
    if folder is not None and (not tag.endswith(":latest") or _latest_stamp(folder) == cached_stamp):
        return folder
    with suppress(BentoMLException, OSError, ValueError):  # the model is gone, or is just being written
        stamp = None if folder is None else _latest_stamp(folder)
        folder = Path(bentoml.models.get(tag).path)
        _cache[tag] = (stamp or _latest_stamp(folder), folder)
        return folder
    _cache.pop(tag, None)
    return Path(reference) if folder is None or not folder.exists() else folder


def _latest_stamp(folder: Path) -> FileStamp | None:
    """Return the stamp of the file that names the latest version of the model in `folder`; None if there is none."""
    return FileStamp.if_readable(folder.parent / "latest")
