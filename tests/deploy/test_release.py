"""`make release`: what it writes, and that it finds what is wrong."""

import json
import re
import tarfile
import zipfile
from pathlib import Path

import pytest

from deploy.release import PROJECT, ROOT, VERSION, build_distributions, check_wheel, unfinished, write_sbom

WITHOUT_VERSION = re.compile(r"==.*")


def test_the_sbom_has_all_packages_that_a_user_gets_and_none_for_development(tmp_path: Path) -> None:
    write_sbom(tmp_path / "sbom.json")
    sbom = json.loads((tmp_path / "sbom.json").read_text())
    assert sbom["bomFormat"] == "CycloneDX"
    component = sbom["metadata"]["component"]
    assert (component["name"], component["version"]) == (PROJECT["name"], VERSION)
    listed = {f"{each['name']}=={each['version']}".lower() for each in sbom["components"]}
    locked = {line.split(" ;")[0] for line in (ROOT / "requirements.lock").read_text().splitlines()}
    assert listed <= locked
    names = {WITHOUT_VERSION.sub("", each) for each in listed}
    assert {"torch", "bentoml", "safetensors", "tensorboardx", "tifffile"} <= names
    assert not names & {"pytest", "ruff", "playwright", "ray"}
    assert all(each["purl"].startswith("pkg:pypi/") for each in sbom["components"])


def test_a_release_needs_a_section_of_the_changelog_and_a_tag(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "CHANGELOG.md").write_text("# Changelog\n\n## [Unreleased]\n")
    monkeypatch.setattr("deploy.release.ROOT", tmp_path)
    monkeypatch.setattr("deploy.release._git", lambda *arguments: "")
    assert [problem.split()[0] for problem in unfinished()] == ["CHANGELOG.md", "tag"]
    (tmp_path / "CHANGELOG.md").write_text(f"# Changelog\n\n## [{VERSION}] - 2026-01-01\n")
    monkeypatch.setattr("deploy.release._git", lambda *arguments: f"v{VERSION}")
    assert [problem.split()[0] for problem in unfinished()] == ["commit"]


@pytest.mark.slow
def test_wheel_and_sdist_are_complete_and_a_wheel_without_its_models_is_refused(tmp_path: Path) -> None:
    build_distributions(tmp_path)
    with tarfile.open(tmp_path / f"latentd-{VERSION}.tar.gz") as sdist:
        assert not [member.name for member in sdist if member.issym()]  # Windows cannot unpack links
    (wheel,) = tmp_path.glob("*.whl")
    check_wheel(wheel)
    (tmp_path / "damaged").mkdir()
    with pytest.raises(SystemExit, match="fashion-dcgan"):
        check_wheel(_without(wheel, "fashion-dcgan.safetensors", tmp_path / "damaged"))


def _without(wheel: Path, ending: str, folder: Path) -> Path:
    """Return a copy of `wheel` in `folder` that lacks the files with this ending."""
    with zipfile.ZipFile(wheel) as source, zipfile.ZipFile(folder / wheel.name, "w") as copy:
        for name in source.namelist():
            if not name.endswith(ending):
                copy.writestr(name, source.read(name))
    return folder / wheel.name
