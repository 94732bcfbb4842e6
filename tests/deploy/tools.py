"""Prometheus's programs, where they are installed."""

import shutil

import pytest


def installed(program: str) -> str:
    """Its path; skips the test where it is not there."""
    path = shutil.which(program)
    if path is None:
        pytest.skip(f"{program} is not installed: apt-get install prometheus")
    return path
