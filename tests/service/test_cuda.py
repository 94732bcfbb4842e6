"""The CUDA path, with a fake torch.cuda that logs what happens on which stream.

The tests prove the order of the work and what is captured, not the results of a GPU.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from latentd.models.checkpoint import Checkpoint
from latentd.models.latents import seeds_to_rows
from latentd.models.sampling import forward_pass
from latentd.models.stage_input import StageInput
from latentd.service.engine import OutOfMemoryError
from latentd.service.engine import cuda as cuda_module
from latentd.service.engine.cuda import CudaDevice, CudaRunner
from tests.conftest import image_spec


class FakeStream:
    def __init__(self, log: list[str], name: str) -> None:
        self.log, self.name = log, name

    def wait_stream(self, other: "FakeStream") -> None:
        self.log.append(f"{self.name} waits for {other.name}")


class FakeEvent:
    """One log line takes a millisecond."""

    def __init__(self, log: list[str]) -> None:
        self.log = log
        self.position = 0

    def record(self, stream: FakeStream) -> None:
        self.position = len(self.log)
        self.log.append(f"event on {stream.name}")

    def synchronize(self) -> None:
        self.log.append("waited for the event")

    def elapsed_time(self, later: "FakeEvent") -> float:
        return float(later.position - self.position)


class FakeCuda:
    """Streams, events and graphs that only log."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.current = FakeStream(self.log, "default")
        self.names = iter(["compute", "copies"])
        self.capturing: Any = None
        self.refuse_capture = False

    def namespace(self) -> Any:
        fakes = {
            "Stream": lambda _: FakeStream(self.log, next(self.names)),
            "current_stream": lambda _: self.current,
            "graph_pool_handle": lambda: "pool",
            "CUDAGraph": lambda: SimpleNamespace(replay=lambda: self.log.append(f"{self.current.name}: replay")),
            "graph": self.graph,
            "stream": self.stream,
            "Event": self.event,
            "empty_cache": lambda: self.log.append("cache is emptied"),
        }
        return SimpleNamespace(**fakes)

    @contextmanager
    def graph(self, graph: Any, pool: str, stream: FakeStream, capture_error_mode: str = "") -> Iterator[None]:
        del graph, capture_error_mode
        assert pool == "pool"
        if self.refuse_capture and "pool owner" in self.log:
            raise RuntimeError("operation not permitted when stream is capturing")
        with self.stream(stream):
            yield
        self.log.append("captured" if "pool owner" in self.log else "pool owner")

    @contextmanager
    def stream(self, stream: FakeStream) -> Iterator[None]:
        before, self.current = self.current, stream
        yield
        self.current = before

    def event(self, enable_timing: bool, blocking: bool) -> Any:
        assert enable_timing
        assert blocking
        return FakeEvent(self.log)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    fake = FakeCuda()

    copy_now = Tensor.copy_

    def copy(self: Tensor, source: Tensor, non_blocking: bool = False) -> Tensor:
        if non_blocking:  # a copy of ours, not one inside torch
            fake.log.append(f"{fake.current.name}: copy")
        return copy_now(self, source)

    class Torch(SimpleNamespace):
        def __getattr__(self, name: str) -> Any:
            return getattr(torch, name)

    def empty(shape: torch.Size, pin_memory: bool) -> Tensor:
        assert pin_memory
        return torch.empty(shape)

    def zeros(*shape: int, device: torch.device) -> Tensor:
        del device
        return torch.zeros(*shape)

    monkeypatch.setattr(cuda_module, "torch", Torch(cuda=fake.namespace(), empty=empty, zeros=zeros))
    monkeypatch.setattr(Tensor, "pin_memory", lambda self: self)
    monkeypatch.setattr(Tensor, "copy_", copy)
    monkeypatch.setattr(Tensor, "record_stream", lambda _, stream: fake.log.append(f"memory is kept for {stream.name}"))
    return fake


def rows_of(checkpoint: Checkpoint, count: int) -> StageInput:
    return seeds_to_rows(checkpoint.card.spec, range(count))


def test_a_pass_computes_on_one_stream_and_is_copied_on_another(
    fake: FakeCuda, write: Callable[..., Checkpoint]
) -> None:
    checkpoint = write(image_spec(conditional=True))
    runner = CudaRunner(CudaDevice(torch.device("cpu")), checkpoint.build())
    assert "compute waits for default" in fake.log  # for the weights
    rows = rows_of(checkpoint, 3)
    runner.run(rows, 4)
    assert fake.log.count("captured") == 1
    fake.log.clear()
    computed = runner.run(rows, 4)
    assert fake.log == [
        "event on compute",
        "compute: copy",  # latents into the graph's input
        "compute: copy",  # and class weights
        "compute: replay",
        "event on compute",
        "copies waits for compute",
        "copies: copy",
        "memory is kept for copies",
        "event on copies",
        "waited for the event",
    ]
    assert (computed.capacity, computed.forward_seconds, computed.copy_seconds) == (4, 0.004, 0.004)


def test_each_size_is_captured_once(fake: FakeCuda, write: Callable[..., Checkpoint]) -> None:
    checkpoint = write(image_spec())
    runner = CudaRunner(CudaDevice(torch.device("cpu")), checkpoint.build())
    for size in (4, 8, 4, 8):
        assert runner.run(rows_of(checkpoint, 3), size).samples.shape == (3, 1, 28, 28)
    assert fake.log.count("captured") == 2


def test_a_stage_that_cannot_be_captured_is_called_and_gives_the_same(
    fake: FakeCuda, write: Callable[..., Checkpoint]
) -> None:
    checkpoint = write(image_spec())
    generator = checkpoint.build()
    device = CudaDevice(torch.device("cpu"))
    fake.refuse_capture = True
    runner = CudaRunner(device, generator)
    for count in (4, 3):
        rows = rows_of(checkpoint, count)
        assert np.array_equal(runner.run(rows, 4).samples, forward_pass(generator, rows, 4))
    assert "compute: replay" not in fake.log


def test_a_pass_without_memory_is_an_out_of_memory_error_and_is_captured_anew_later(fake: FakeCuda) -> None:
    class Greedy(nn.Module):
        memory = 1

        def forward(self, z: Tensor) -> Tensor:
            if len(z) > self.memory:
                raise RuntimeError("CUDA error: out of memory")
            return z

    stage = Greedy()
    runner = CudaRunner(CudaDevice(torch.device("cpu")), stage)
    rows = StageInput(np.ones((2, 3), dtype=np.float32))
    with pytest.raises(OutOfMemoryError):
        runner.run(rows, 2)
    assert "cache is emptied" in fake.log
    assert runner.run(rows[:1], 1).samples.tolist() == [[1, 1, 1]]
    stage.memory = 2
    assert runner.run(rows, 2).samples.shape == (2, 3)
