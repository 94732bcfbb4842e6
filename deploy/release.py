"""Makes what is published of a version, in dist/, and checks it: `make release`. It takes about a minute.

- the sdist, and the wheel that is built from it;
- the SBOM (CycloneDX, JSON): the locked packages of a wheel and of an image.

The version is the one in pyproject.toml. The wheel is checked in an environment of its own, with the packages of this
one, so nothing is downloaded.
"""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
from pathlib import Path
from tempfile import TemporaryDirectory

import click

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
VERSION = PROJECT["version"]
_SEEDS = "0-15"
_PROGRAM = "from latentd.cli.main import main; main()"


def main() -> None:
    """Build the distributions and the SBOM in dist/, check them, and say what a release still needs."""
    dist = ROOT / "dist"
    shutil.rmtree(dist, ignore_errors=True)
    build_distributions(dist)
    write_sbom(dist / f"latentd-{VERSION}.cdx.json")
    (wheel,) = dist.glob("*.whl")
    check_wheel(wheel)
    for file in sorted(dist.iterdir()):
        click.echo(f"{file.relative_to(ROOT)}: {file.stat().st_size / 1e6:.1f} MB")
    click.echo(f"The image latentd:{VERSION}-cpu is built with Docker or buildah: docs/deploy.md#a-container")
    for problem in unfinished():
        click.echo(f"before you publish: {problem}")


def build_distributions(dist: Path) -> None:
    """Write the sdist and the wheel of the last commit to `dist`. Files in them have the time of that commit."""
    environment = os.environ | {"SOURCE_DATE_EPOCH": _git("log", "-1", "--format=%ct")}
    with TemporaryDirectory() as name:
        archive, source = Path(name, "latentd.tar"), Path(name, "latentd")
        _git("archive", "--output", str(archive), "HEAD")
        shutil.unpack_archive(archive, source, filter="tar")  # setuptools leaves files in the folder that it builds
        _run([sys.executable, "-m", "build", "--no-isolation", "--outdir", dist, source], environment)
    names = {file.name for file in dist.iterdir()}
    expected = {f"latentd-{VERSION}.tar.gz", f"latentd-{VERSION}-py3-none-any.whl"}
    if names != expected:
        raise SystemExit(f"the build wrote {sorted(names)} instead of {sorted(expected)}")


def write_sbom(path: Path) -> None:
    """Write the SBOM: the packages of the image, and those that only training needs, with their locked versions."""
    image = (ROOT / "deploy" / "container" / "requirements.lock").read_text().splitlines()
    direct = {_name(each) for each in PROJECT["dependencies"]}
    training = [line for line in (ROOT / "requirements.lock").read_text().splitlines() if _name(line) in direct]
    command = [sys.executable, "-W", "ignore::UserWarning", "-m", "cyclonedx_py", "requirements"]  # no dependency graph
    options = ["--pyproject", ROOT / "pyproject.toml", "--output-reproducible", "--output-file", path, "-"]
    _run([*command, *options], os.environ, "\n".join(sorted({*image, *training})))


def check_wheel(wheel: Path) -> None:
    """Install `wheel` in a new environment, and compare its version and its samples with the checkout's."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        venv.create(folder / "venv")
        program = folder / "venv" / "bin" / "latentd"
        python = folder / "venv" / "bin" / "python"
        # With PYTHONPATH, pip or Python could find the checkout instead.
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        install = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index"]
        _run([*install, "--disable-pip-version-check", wheel], environment)
        (packages,) = (folder / "venv" / "lib").glob("python*/site-packages")
        (packages / "locked.pth").write_text(sysconfig.get_path("purelib") + "\n")
        said = _run([program, "--version"], environment, folder=folder)
        place = _run([python, "-c", "import latentd; print(latentd.__file__)"], environment, folder=folder)
        if VERSION not in said or not Path(place.strip()).is_relative_to(packages):
            raise SystemExit(f"the wheel does not answer for itself: {said.strip()}, from {place.strip()}")
        checkpoint = ROOT / "models" / "checkpoints" / "fashion-dcgan.safetensors"
        _run([program, "sample", "fashion-dcgan", "--seeds", _SEEDS, "-o", "wheel.png"], environment, folder=folder)
        ours = [sys.executable, "-c", _PROGRAM, "sample", checkpoint, "--seeds", _SEEDS, "-o"]
        _run([*ours, folder / "checkout.png"], os.environ | {"PYTHONPATH": str(ROOT)}, folder=folder)
        if (folder / "wheel.png").read_bytes() != (folder / "checkout.png").read_bytes():
            raise SystemExit("the wheel's samples have other bytes than the checkout's")
    click.echo(f"ok: the wheel is {said.strip()}, and its samples have the bytes of the checkout")


def unfinished() -> list[str]:
    """Return what has to be done before this version is published."""
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    checks = {
        "commit your changes; the wheel and the sdist do not have them": bool(_git("status", "--porcelain")),
        f"CHANGELOG.md has no section [{VERSION}]; rename [Unreleased]": f"\n## [{VERSION}]" not in changes,
        f"tag the commit: git tag v{VERSION}": f"v{VERSION}" not in _git("tag", "--points-at", "HEAD").split(),
    }
    return [problem for problem, holds in checks.items() if holds]


def _git(*arguments: str) -> str:
    return _run(["git", *arguments], os.environ).strip()


def _name(requirement: str) -> str:
    return re.split(r"[=<>~!;\[ ]", requirement)[0].lower().replace("_", "-")


def _run(
    command: list[str | Path], environment: "os._Environ[str] | dict[str, str]", given: str = "", folder: Path = ROOT
) -> str:
    """Run a command and return what it printed. Exits with all of its output if it fails."""
    done = subprocess.run(
        command, cwd=folder, env=environment, input=given, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}")
    return done.stdout


if __name__ == "__main__":
    main()
