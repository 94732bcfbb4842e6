"""Versions of packages, installed or not."""

from importlib.metadata import PackageNotFoundError, version

import pytest

from latentd.models import packages
from latentd.models.packages import package_version


def test_versions_are_those_of_the_installed_packages() -> None:
    assert package_version("numpy") == version("numpy")
    assert package_version("no-such-package") == "none"


def test_a_checkout_that_is_not_installed_knows_its_version(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(packages, "version", missing)
    package_version.cache_clear()
    assert package_version("latentd") == version("latentd")
    package_version.cache_clear()
