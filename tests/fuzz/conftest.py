"""Real servers to be fuzzed. Their logs may have no traceback at the end."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from latentd.models.checkpoint import write_checkpoint
from latentd.models.families import build_generator
from tests.conftest import card_of, image_spec
from tests.directions_of import write_directions
from tests.e2e.conftest import ROOT, Server, serving
from tests.fuzz.cases import IN_ALL, NOTES, TRIED

CLIENT = "fuzzer-0123456789abcdef"
SHIPPED = ROOT / "models" / "checkpoints"
_SMALL = {  # so that allowed requests are done quickly
    "LATENTD_MAX_SAMPLES": "8",
    "LATENTD_MAX_FRAMES": "16",
    "LATENTD_LOG": "json",
}


@contextmanager
def fuzzed(home: Path, models: Path, **environment: str) -> Iterator[Server]:
    with serving(home, LATENTD_MODELS=str(models), LATENTD_DEFAULT_MODEL="pictures", **_SMALL | environment) as running:
        yield running
    log = running.log.read_text(errors="replace")
    assert not [line for line in log.splitlines() if "traceback" in line.lower()]


@pytest.fixture(scope="package")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    write_models(folder)
    return folder


def write_models(folder: Path) -> None:
    """Write a model of points, a conditional model of images, and a sidecar file of each kind."""
    for name in ("ring-gan.safetensors", "ring-gan.surface.safetensors"):
        shutil.copy(SHIPPED / name, folder)
    spec = image_spec(conditional=True)
    torch.manual_seed(0)
    pictures = folder / "pictures.safetensors"
    write_checkpoint(pictures, card_of(spec), build_generator(spec).state_dict())
    write_directions(pictures)


@pytest.fixture(scope="package")
def open_server(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with fuzzed(tmp_path_factory.mktemp("open"), models) as running:
        yield running


@pytest.fixture(scope="package")
def guarded_server(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with fuzzed(tmp_path_factory.mktemp("guarded"), models, LATENTD_TOKENS=f"fuzzer {CLIENT}") as running:
        yield running


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if IN_ALL:
        counts = [f"{count:6} {kind}" for kind, count in sorted(TRIED.items())]
        for line in (f"{TRIED.total()} cases in all:", *counts, *NOTES):
            terminalreporter.write_line(line)
