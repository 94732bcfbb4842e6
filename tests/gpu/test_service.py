"""A server on a GPU: models that leave the device and return, files that are replaced, and an orderly end."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from benchmarks import processes
from benchmarks.processes import Server
from latentd.models.checkpoint import Checkpoint, write_checkpoint
from latentd.models.file_names import SHIPPED, is_sidecar

pytestmark = pytest.mark.gpu

MODELS = ("fashion-dcgan", "fashion-dcgan-conditional")
SWAPPED = "swapped"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two shipped models, and one whose file is replaced."""
    folder = tmp_path_factory.mktemp("models")
    for file in SHIPPED.glob("*.safetensors"):
        if file.stem in MODELS and not is_sidecar(file):
            (folder / file.name).write_bytes(file.read_bytes())
    put_version(folder, 0)
    return folder


@pytest.fixture(scope="module")
def server(folder: Path, device: torch.device) -> Iterator[Server]:
    """A server with memory for one of the models at a time."""
    read = [Checkpoint.read(file) for file in sorted(folder.glob("*.safetensors"))]
    largest = max(sum(tensor.nbytes for tensor in each.tensors.values()) for each in read)
    settings = {"LATENTD_MODELS": str(folder), "LATENTD_MODEL_MEMORY": str(largest)}
    with processes.latentd(LATENTD_DEVICE=device.type, **settings) as running:
        yield running


def put_version(folder: Path, number: int) -> str:
    """Replace the file of the model `swapped` by another version, and return the version."""
    shipped = Checkpoint.read(SHIPPED / f"{MODELS[0]}.safetensors")
    tensors = {
        name: tensor * (1 + number / 100) if tensor.is_floating_point() else tensor
        for name, tensor in shipped.tensors.items()
    }
    return write_checkpoint(folder / f"{SWAPPED}.safetensors", shipped.card, tensors).version


def data_of(answer: dict[str, Any]) -> tuple[str, ...]:
    return tuple(sample["data"] for sample in answer["samples"])


def test_an_evicted_model_returns_with_the_same_bytes(server: Server) -> None:
    request = {"num_samples": 20, "seed": 5}
    before = {name: data_of(server.generate(model=name, **request)) for name in MODELS}
    for _ in range(3):
        for name in MODELS:
            assert data_of(server.generate(model=name, **request)) == before[name]
    assert metric(server, "latentd_model_evictions_total") >= 4


def test_a_file_is_replaced_while_clients_ask(server: Server, folder: Path) -> None:
    expected: dict[str, tuple[str, ...]] = {}
    for number in (0, 1):
        version = put_version(folder, number)
        wait_for(lambda version=version: server.get(f"/models/{SWAPPED}")["version"] == version)
        expected[version] = data_of(server.generate(model=SWAPPED, num_samples=4, seed=0))
    assert len(set(expected.values())) == 2
    stop, found = threading.Event(), Counter[str]()
    lock = threading.Lock()

    def ask() -> None:
        while not stop.is_set():
            answer = server.generate(model=SWAPPED, num_samples=4, seed=0)
            with lock:
                found["right" if expected.get(answer["version"]) == data_of(answer) else "wrong"] += 1

    with ThreadPoolExecutor(4) as pool:
        clients = [pool.submit(ask) for _ in range(4)]
        for turn in range(4):
            version = put_version(folder, turn % 2)
            wait_for(lambda version=version: server.get(f"/models/{SWAPPED}")["version"] == version)
        stop.set()
        for client in clients:
            client.result()
    assert found["wrong"] == 0
    assert found["right"] > 0


def test_what_is_in_progress_is_answered_before_the_server_ends(server: Server) -> None:
    """The last test of this file: it ends the server."""
    expected = data_of(server.generate(num_samples=64, seed=0))
    found, lock = Counter[str](), threading.Lock()

    def ask() -> None:
        while True:
            try:
                outcome = "right" if data_of(server.generate(num_samples=64, seed=0)) == expected else "wrong"
            except OSError as problem:  # 503, or nobody listens any more
                with lock:
                    found[str(getattr(problem, "code", "gone"))] += 1
                return
            with lock:
                found[outcome] += 1

    process = psutil.Process(server.pid)
    with ThreadPoolExecutor(4) as pool:
        clients = [pool.submit(ask) for _ in range(4)]
        wait_for(lambda: found["right"] >= 4)
        process.terminate()
        for client in clients:
            client.result()
    assert found["wrong"] == 0
    assert set(found) <= {"right", "wrong", "503", "gone"}
    wait_for(lambda: not process.is_running() or process.status() == psutil.STATUS_ZOMBIE)
    assert "Traceback" not in server.log.read_text(errors="replace")


def metric(server: Server, name: str) -> float:
    lines = [line for line in server.get_text("/metrics").splitlines() if line.startswith(f"{name} ")]
    return float(lines[0].split()[1])


def wait_for(check: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not check():
        assert time.monotonic() < deadline
        time.sleep(0.02)
