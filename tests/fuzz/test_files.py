"""Mutated checkpoints and sidecar files are either read or refused with a CheckpointError."""

import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from latentd.models.checkpoint import Checkpoint
from latentd.models.decision_surface import DecisionSurface
from latentd.models.directions import Directions
from latentd.models.errors import CheckpointError
from tests.conftest import eventually
from tests.e2e.conftest import Server
from tests.e2e.test_bad_input import resident_bytes
from tests.fuzz.cases import NOTES, TRIED, cases
from tests.fuzz.conftest import fuzzed, write_models
from tests.fuzz.mutants import mutants

PEAK = 64 * 2**20
"""Bytes of memory that reading a file may take. Good files have up to 200 KiB, and lists of cards 100,000 members."""
GROWTH = 128 * 2**20
"""Bytes that a server may use more at the end: code that was loaded meanwhile, and nothing of the files."""
HANGS = 120.0
"""Seconds after which reading one file counts as hanging, even on a slow machine."""
_STATUS = Path("/proc/self/status")
_RESET = Path("/proc/self/clear_refs")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    write_models(folder)
    return folder


@pytest.fixture(scope="module")
def most_taken() -> Iterator[list[int]]:
    """Collects the bytes that each reading took. At the end none may be above the limit."""
    taken = [0]
    yield taken
    NOTES.append(f"reading a mutated file took {max(taken) / 2**20:.1f} MiB at its worst")
    assert max(taken) < PEAK


def forget_peak() -> int:
    """Reset the peak of this process's memory to its present size. Only Linux can; elsewhere nothing is measured."""
    if _RESET.exists():
        _RESET.write_text("5")
    return peak_bytes()


def peak_bytes() -> int:
    found = re.search(r"VmHWM:\s+(\d+) kB", _STATUS.read_text()) if _STATUS.exists() else None
    return int(found[1]) * 2**10 if found else 0


def run(checkpoint: Checkpoint) -> None:
    assert re.fullmatch("[0-9a-f]{12}", checkpoint.version)
    spec = checkpoint.card.spec
    classes = spec.condition.size
    samples = checkpoint.build()(torch.zeros(1, spec.input.size), torch.zeros(1, classes) if classes else None)
    assert samples.shape == (1, *spec.output.shape)


def reader(kind: str, path: Path) -> Callable[[], Any]:
    """Return the function that reads the mutant at `path` as the service does."""
    model = Checkpoint.read(path) if kind != "checkpoint" else None
    if model is None:
        return lambda: run(Checkpoint.read(path))
    if kind == "directions":
        return lambda: Directions.read(path, model.version, model.card.spec).version
    return lambda: DecisionSurface.read(path, model.version)


@pytest.mark.parametrize(
    ("name", "kind"),
    [("ring-gan", "checkpoint"), ("pictures", "checkpoint"), ("pictures", "directions"), ("ring-gan", "surface")],
)
@cases(short=200, share=0.075)
@given(data=st.data())
def test_a_mutated_file_is_read_or_refused(
    name: str,
    kind: str,
    whole: Path,
    most_taken: list[int],
    tmp_path_factory: pytest.TempPathFactory,
    data: st.DataObject,
) -> None:
    folder = tmp_path_factory.getbasetemp() / f"mutants-{name}-{kind}"
    folder.mkdir(exist_ok=True)
    good = f"{name}.safetensors" if kind == "checkpoint" else f"{name}.{kind}.safetensors"
    shutil.copy(whole / f"{name}.safetensors", folder)
    read = reader(kind, folder / f"{name}.safetensors")
    (folder / good).write_bytes(data.draw(mutants(whole / good)))
    before, began = forget_peak(), time.monotonic()
    try:
        read()
        outcome, named = "read", True
    except CheckpointError as problem:
        outcome, named = "refused", str(problem).startswith(f"{good}: ")
    assert named
    assert time.monotonic() - began < HANGS
    most_taken.append(peak_bytes() - before)
    TRIED[f"mutated files of a {kind}, {outcome}"] += 1


def replace(path: Path, content: bytes) -> None:
    """Write a file atomically: a watcher sees all of it or nothing."""
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_bytes(content)
    temporary.replace(path)


@pytest.fixture(scope="module")
def watched(whole: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Path]]:
    """A server, and the folder of its catalog."""
    folder = tmp_path_factory.mktemp("watched")
    shutil.copytree(whole, folder, dirs_exist_ok=True)
    with fuzzed(tmp_path_factory.mktemp("home"), folder) as running:
        before = running.generate(model="ring-gan", seed=1).json
        held = resident_bytes(running.pid)
        yield running, folder
        assert running.generate(model="ring-gan", seed=1).json == before
        growth = resident_bytes(running.pid) - held
        NOTES.append(f"a server holds {growth / 2**20:.1f} MiB more after the mutated files")
        assert growth < GROWTH


@cases(short=2, share=0.002)
@given(data=st.data())
def test_a_running_service_lists_unreadable_files(
    whole: Path, watched: tuple[Server, Path], data: st.DataObject
) -> None:
    server, folder = watched
    good = {name: (whole / f"{name}.safetensors").read_bytes() for name in ("ring-gan", "pictures")}
    files: dict[str, bytes] = {}
    for number in range(4):
        files[f"alone-{number}"] = data.draw(mutants(whole / f"{list(good)[number % 2]}.safetensors"))
    files["moved.directions"], files["moved"] = (
        data.draw(mutants(whole / "pictures.directions.safetensors")),
        good["pictures"],
    )
    files["judged.surface"], files["judged"] = (
        data.draw(mutants(whole / "ring-gan.surface.safetensors")),
        good["ring-gan"],
    )
    for name, content in files.items():  # sidecars before what they lie beside
        replace(folder / f"{name}.safetensors", content)

    def told() -> bool:
        listed = server.call("/models").json
        models = {model["name"]: model for model in listed["models"]}
        failures = {failure["file"].removesuffix(".safetensors") for failure in listed["failures"]}
        assert {*good} <= set(models)
        served = set(models) | failures
        served |= {"moved.directions"} if models.get("moved", {}).get("directions_version") else set()
        served |= {"judged.surface"} if models.get("judged", {}).get("surface") else set()
        return set(files) <= served

    eventually(told)
    for name in files:
        (folder / f"{name}.safetensors").unlink()
    eventually(lambda: {each["name"] for each in server.call("/models").json["models"]} == {*good})
    eventually(lambda: not server.call("/models").json["failures"])
    TRIED["mutated files in the folder of a service"] += len(files) - 2
