"""What all tests share: small specs, checkpoints of untrained networks, and folders and ports of their own."""

import os
import random
import shutil
import signal
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, settings
from xdist.scheduler import LoadFileScheduling

from latentd.models.card import Card, DataCard
from latentd.models.checkpoint import Checkpoint, write_checkpoint
from latentd.models.conditions.base import ConditionKind
from latentd.models.conditions.classes import ClassCondition
from latentd.models.conditions.none import NoCondition
from latentd.models.families import build_generator, families
from latentd.models.inputs.latent import LatentInput
from latentd.models.outputs.base import OutputKind
from latentd.models.outputs.image import ImageOutput
from latentd.models.outputs.points import PointsOutput
from latentd.models.spec import GeneratorSpec
from latentd.training.data.idx import IDX_SETS

# A shell that starts the tests in the background has Ctrl-C ignored, and so would all programs that they start.
signal.signal(signal.SIGINT, signal.default_int_handler)

_OWN = tempfile.TemporaryDirectory(prefix="latentd-tests-")
for _name in ("BENTOML_HOME", "XDG_CACHE_HOME"):  # no test reads, or leaves a file in, the user's home
    os.environ[_name] = str(Path(_OWN.name) / _name.lower())
os.environ.setdefault("OMP_NUM_THREADS", "1")  # programs that tests start do not wait for each other's threads

# The same examples on every machine, however slow it is.
settings.register_profile(
    "latentd", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow], database=None
)
settings.load_profile("latentd")

_SPREAD = (
    "tests/benchmarks/test_programs.py",
    "tests/cli/test_cli.py",
    "tests/training/test_ranks.py",
    "tests/training/test_resume.py",
    "tests/training/test_training.py",
)
"""Files whose tests take long and share no fixture: any worker may run any of their tests."""

needs_fashion = pytest.mark.skipif(
    not all((folder / "t10k-images-idx3-ubyte.gz").is_file() for folder in IDX_SETS["fashion-mnist"].folders),
    reason="Fashion-MNIST is not installed (Debian: apt install dataset-fashion-mnist)",
)

CLASSES = ("cat", "dog", "owl")


def spec_of(
    family: str,
    output: OutputKind,
    condition: ConditionKind = NoCondition(),  # noqa: B008  # frozen
    distribution: Any = "normal",
    **config: Any,
) -> GeneratorSpec:
    settings = families()[family].generator_config.model_validate(config).model_dump(mode="json")
    return GeneratorSpec(
        family=family,
        config=settings,
        input=LatentInput(dim=8, distribution=distribution),
        condition=condition,
        output=output,
    )


def image_spec(side: int = 28, channels: int = 1, conditional: bool = False) -> GeneratorSpec:
    condition = ClassCondition(names=CLASSES) if conditional else NoCondition()
    return spec_of("dcgan", ImageOutput(channels=channels, height=side, width=side), condition, width=8)


def points_spec() -> GeneratorSpec:
    return spec_of("mlp", PointsOutput(dim=2), hidden=(16,))


def card_of(spec: GeneratorSpec, **changes: Any) -> Card:
    facts: dict[str, Any] = {
        "spec": spec,
        "recipe": "test",
        "description": "untrained",
        "settings": {},
        "data": DataCard(name="none", size=0, sha256=None, licence="CC0-1.0"),
        "steps": 0,
        "images_seen": 0,
        "seed": 0,
        "created": "2026-01-01T00:00:00+00:00",
        "wall_seconds": 0.0,
        "hardware": "none",
        "versions": {},
        "metrics": {},
        "licence": "Apache-2.0",
    }
    return Card(**facts | changes)


class Scheduling(LoadFileScheduling):
    """Gives all tests of a file to one worker, so that a server that they share starts once."""

    def _split_scope(self, nodeid: str) -> str:
        return nodeid if nodeid.startswith(_SPREAD) else str(super()._split_scope(nodeid))


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Scheduling:
    return Scheduling(config, log)


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Use one thread, as the service does: with several, the first pass of a process sometimes rounds differently.

    Small networks are also slower with several threads on a busy machine.
    """
    torch.set_num_threads(1)


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Checkpoint]:
    """Return a function that writes `tmp_path / NAME.safetensors` with new weights, which depend on spec and seed."""

    def write_untrained(spec: GeneratorSpec, name: str = "model", seed: int = 0, **changes: Any) -> Checkpoint:
        torch.manual_seed(seed)
        tensors = build_generator(spec).state_dict()
        return write_checkpoint(tmp_path / f"{name}.safetensors", card_of(spec, **changes), tensors)

    return write_untrained


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """A real browser, if there is one. Not for the whole session, because it occupies the main thread's event loop."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = shutil.which("chromium") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("there is no chromium on this machine")
    with playwright.sync_playwright() as session:
        browser = session.chromium.launch(executable_path=path, args=["--no-sandbox"])
        new_page = browser.new_page

        def new_patient_page(**options: Any) -> Any:
            page = new_page(**options)
            page.set_default_timeout(300_000)
            return page

        browser.new_page = new_patient_page
        yield browser
        browser.close()


def free_port() -> int:
    """Return a loopback port that nothing listens on.

    Linux gives outgoing connections ports from 32768 on: none of them takes this one before a server listens on it.
    """
    while True:
        port = random.SystemRandom().randint(20_000, 32_000)  # Ray's workers have those below
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def eventually(check: Callable[[], bool], otherwise: str = "") -> None:
    """Wait until `check` is true. Raises AssertionError with the text `otherwise` after five minutes."""
    deadline = time.monotonic() + 300
    while not check():
        assert time.monotonic() < deadline, otherwise
        time.sleep(0.02)
