"""Versions of installed packages."""

import tomllib
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

MISSING = "none"
"""The version of a package that is not installed."""
_OWN_PACKAGE = "latentd"


@cache
def package_version(name: str) -> str:
    """Return the version of an installed package, or `none`. latentd's own is also known in a checkout."""
    try:
        return version(name)
    except PackageNotFoundError:
        return _version_of_checkout() if name == _OWN_PACKAGE else MISSING


def _version_of_checkout() -> str:
    try:
        project = tomllib.loads((Path(__file__).resolve().parents[1] / "pyproject.toml").read_text(encoding="utf-8"))
    except OSError:  # neither installed nor a checkout
        return MISSING
    return str(project["project"]["version"])
