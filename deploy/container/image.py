"""Builds the image of the checkout with the Dockerfile that `bentoml build` writes."""

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from deploy.container.container_engine import ContainerEngine, tool

ROOT = Path(__file__).parents[2]
IMAGE = "localhost/latentd:test"
DOCKERFILE = Path("env", "docker", "Dockerfile")


def build_bento(home: Path) -> Path:
    """Build a Bento of the checkout in a new BentoML home, and return its folder."""
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    program = Path(sys.executable).with_name("bentoml")
    environment = os.environ | {"BENTOML_HOME": str(home), "BENTOML_DO_NOT_TRACK": "True"}
    subprocess.run(
        [program, "build", "--version", "test"], cwd=ROOT, env=environment, check=True, stdout=subprocess.DEVNULL
    )
    return home / "bentos" / "latentd" / "test"


def build_image(engine: ContainerEngine, bento: Path, folder: Path) -> None:
    """Build the Bento's Dockerfile unchanged. pip uses the settings of this machine, which do not stay in the image."""
    for base in set(re.findall(r"^FROM (\S+)", (bento / DOCKERFILE).read_text(), re.MULTILINE)):
        _provide(engine, base, folder)
    engine.buildah("bud", "--tag", IMAGE, "--file", bento / DOCKERFILE, *_pip_options(folder), bento, quiet=False)
    engine.podman("image", "prune", "--force")


def _provide(engine: ContainerEngine, base: str, folder: Path) -> None:
    """Pull `base`. If that fails, build a minimal Debian with its Python instead."""
    name = f"docker.io/library/{base}"
    if engine.has(name):
        return
    try:
        engine.buildah("pull", name)
    except subprocess.CalledProcessError:
        root, archive = folder / "base", folder / "base.tar"
        shutil.rmtree(root, ignore_errors=True)
        subprocess.run(
            [tool("debootstrap"), "--variant=minbase", "--include=python3,python3-venv,python3-pip", "bookworm", root],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        shutil.rmtree(root / "var" / "cache" / "apt")
        subprocess.run([tool("tar"), "--directory", root, "--create", "--file", archive, "."], check=True)
        engine.podman("import", str(archive), name)
        shutil.rmtree(root)
        archive.unlink()


def _pip_options(folder: Path) -> list[str]:
    """Return options of `buildah bud` that mount this machine's pip settings, and the paths that they name."""
    listed = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True)
    found = re.findall(r"^(\S+)\.(\S+?)=(.+)$", listed.stdout, re.MULTILINE)
    # those of the environment override those of files
    settings = {key: ast.literal_eval(text) for place, key, text in sorted(found, key=lambda each: each[0] == ":env:")}
    options = []
    if "extra-index-url" in settings:
        options += ["--build-arg", f"PIP_EXTRA_INDEX_URL={settings['extra-index-url']}"]
    paths = {_path(word) for value in settings.values() for word in value.split()}
    conf = folder / "pip.conf"
    conf.write_text("[global]\n" + "".join(f"{key} = {value}\n" for key, value in settings.items()))
    options += [f"--volume={conf}:/etc/pip.conf:ro"]
    return options + [f"--volume={path}:{path}:ro" for path in sorted(paths) if path.is_absolute() and path.exists()]


def _path(word: str) -> Path:
    """Return the path that a setting names. For an index: its parent folder, which also has the packages."""
    return Path(word.removeprefix("file://")).parent if word.startswith("file://") else Path(word)
