"""The folder for downloads, decoded images and features."""

import os
from pathlib import Path

from latentd.models.errors import LatentdError


class CacheError(LatentdError):
    """There is no folder for the cache."""


def cache_folder() -> Path:
    """Return `$XDG_CACHE_HOME/latentd`; by default `~/.cache/latentd`. Raises CacheError if there is no home folder."""
    if named := os.environ.get("XDG_CACHE_HOME"):
        return Path(named) / "latentd"
    try:
        return Path.home() / ".cache" / "latentd"
    except RuntimeError as problem:
        raise CacheError(f"this user has no home folder for the cache; {CACHE_ADVICE}") from problem


CACHE_ADVICE = "name a folder that can be written to by the variable XDG_CACHE_HOME"
