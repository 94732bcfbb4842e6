"""The folder for downloads, decoded images and features."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """Return `$XDG_CACHE_HOME/latentd`; by default `~/.cache/latentd`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "latentd"
