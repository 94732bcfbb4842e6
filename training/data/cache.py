"""Where downloads and decoded images are kept."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """`$XDG_CACHE_HOME/latentd`, by default `~/.cache/latentd`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "latentd"
