"""The package's public names, and the one name that an installation leaves."""

import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import version
from pathlib import Path

import latentd

ROOT = Path(__file__).parents[2]
EXPORTED = [
    "ActiveRun",
    "Callback",
    "LatentdError",
    "MetricResult",
    "Model",
    "Run",
    "Samples",
    "evaluate",
    "load",
    "train",
]


def test_these_names_are_public() -> None:
    assert latentd.__all__ == EXPORTED
    assert dir(latentd) == EXPORTED
    for name in EXPORTED:
        assert getattr(latentd, name).__doc__, name


def test_the_version_is_that_of_the_installed_package() -> None:
    assert latentd.__version__ == version("latentd")


def test_a_missing_name_is_an_attribute_error() -> None:
    assert not hasattr(latentd, "nothing")


def test_a_wheel_installs_one_name_and_everything_that_serves(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--no-deps",
        "--no-build-isolation",
        "--quiet",
        "-w",
        tmp_path,
        ROOT,
    ]
    subprocess.run([str(part) for part in command], check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    built = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert {name.split("/")[0] for name in names} == {"latentd", f"latentd-{built}.dist-info"}
    expected = subprocess.run(
        ["/usr/bin/env", "git", "ls-files", "models", "training", "service", "cli"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if expected.returncode == 0:
        files = {f"latentd/{name}" for name in expected.stdout.splitlines() if not name.endswith((".md", ".typed"))}
        assert files <= set(names)
