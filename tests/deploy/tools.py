"""The programs of Prometheus."""

import shutil

import pytest


def installed(program: str) -> str:
    """Return the path of a program. Skip the test if it is not installed."""
    path = shutil.which(program)
    if path is None:
        pytest.skip(f"{program} is not installed: apt-get install prometheus")
    return path
