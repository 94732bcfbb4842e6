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
from latentd.service.catalog.loader import quantizer
from latentd.service.engine import OutOfMemoryError, cuda_buffers
from latentd.service.engine import cuda as cuda_module
from latentd.service.engine.cuda import CudaDevice, CudaRunner
from tests.conftest import image_spec, points_spec


class FakeStream:
    def __init__(self, log: list[str], name: str) -> None:
        self.log, self.name = log, name

    def wait_stream(self, other: "FakeStream") -> None:
        self.log.append(f"{self.name} waits for {other.name}")

    def wait_event(self, event: "FakeEvent") -> None:
        self.log.append(f"{self.name} waits for the event on {event.stream.name}")


class FakeEvent:
    """One log line takes a millisecond."""

    def __init__(self, log: list[str]) -> None:
        self.log = log
        self.position = 0
        self.stream: FakeStream

    def record(self, stream: FakeStream) -> None:
        self.stream = stream
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

    def empty(size: int, dtype: torch.dtype, pin_memory: bool = False, device: torch.device | None = None) -> Tensor:
        assert pin_memory == (device is None)  # the host's buffers are page-locked
        fake.log.append(f"buffer of {'the host' if pin_memory else 'the device'}")
        return torch.empty(size, dtype=dtype)

    for module in (cuda_module, cuda_buffers):
        monkeypatch.setattr(module, "torch", Torch(cuda=fake.namespace(), empty=empty))
    monkeypatch.setattr(Tensor, "copy_", copy)
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
        "compute: copy",  # latents and class weights together into the graph's input
        "compute: replay",
        "compute: copy",  # the output, which the next replay overwrites
        "event on compute",
        "copies waits for the event on compute",
        "copies: copy",
        "event on copies",
        "waited for the event",
    ]
    assert (computed.capacity, computed.forward_seconds, computed.copy_seconds) == (4, 0.004, 0.003)


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


def quantizing(device: CudaDevice, checkpoint: Checkpoint) -> CudaRunner:
    return CudaRunner(device, checkpoint.build(), quantizer(checkpoint.card.spec.output))


def test_quantized_samples_have_the_bits_that_the_host_gives(fake: FakeCuda, write: Callable[..., Checkpoint]) -> None:
    fake.refuse_capture = True  # a replay would compute nothing here
    checkpoint = write(image_spec(channels=3, side=32))
    output = checkpoint.card.spec.output
    runner = quantizing(CudaDevice(torch.device("cpu")), checkpoint)
    rows = rows_of(checkpoint, 3)
    floats, quantized = (runner.run(rows, 4, each) for each in (False, True))
    assert quantized.samples.dtype == np.uint8
    assert floats.samples.dtype == np.float32
    assert np.array_equal(quantized.samples, output.as_quantized(floats.samples))
    assert quantized.finite is not None
    assert quantized.finite.tolist() == [True] * 3
    assert output.encode(quantized.samples, "png") == output.encode(floats.samples, "png")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_quantized_samples_are_known_not_to_be_finite(fake: FakeCuda, value: float) -> None:
    class Identity(nn.Module):
        def forward(self, values: Tensor) -> Tensor:
            return values

    fake.refuse_capture = True
    output = image_spec(side=28).output
    images = np.zeros((3, *output.shape), dtype=np.float32)
    images[1, 0, 5, 5] = value
    runner = CudaRunner(CudaDevice(torch.device("cpu")), Identity(), quantizer(output))
    found = runner.run(StageInput(images), 4, quantized=True).finite
    assert found is not None
    assert found.tolist() == [True, False, True]


def test_a_stage_that_cannot_quantize_returns_floats(fake: FakeCuda, write: Callable[..., Checkpoint]) -> None:
    checkpoint = write(points_spec())
    runner = quantizing(CudaDevice(torch.device("cpu")), checkpoint)
    assert runner.run(rows_of(checkpoint, 3), 4, quantized=True).samples.dtype == np.float32


def test_buffers_are_made_once_and_used_by_all_later_passes(fake: FakeCuda, write: Callable[..., Checkpoint]) -> None:
    checkpoint = write(image_spec())
    device = CudaDevice(torch.device("cpu"))
    for runner in (quantizing(device, checkpoint), quantizing(device, checkpoint)):
        for size, quantized in ((8, False), (4, True), (8, True), (4, False)):
            runner.run(rows_of(checkpoint, 3), size, quantized)
    assert fake.log.count("buffer of the host") == 2  # one for inputs, one for outputs
    assert fake.log.count("buffer of the device") == 1
    device.empty_cache()
    runner.run(rows_of(checkpoint, 3), 4)
    assert fake.log.count("buffer of the device") == 2


def test_every_size_is_captured_before_the_first_request(fake: FakeCuda, write: Callable[..., Checkpoint]) -> None:
    checkpoint = write(image_spec())
    runner = quantizing(CudaDevice(torch.device("cpu")), checkpoint)
    rows = rows_of(checkpoint, 32)
    runner.run(rows[:2], 2)
    runner.prepare(rows, [4, 8, 64])
    assert fake.log.count("captured") == 4
    for size in (4, 8, 64):
        runner.run(rows[:3], size)
    assert fake.log.count("captured") == 4
    runner.run(rows[:2], 2)  # was forgotten
    assert fake.log.count("captured") == 5


def test_sizes_without_memory_are_not_prepared(fake: FakeCuda) -> None:
    class Greedy(nn.Module):
        def forward(self, z: Tensor) -> Tensor:
            if len(z) > 4:
                raise RuntimeError("CUDA error: out of memory")
            return z

    runner = CudaRunner(CudaDevice(torch.device("cpu")), Greedy())
    rows = StageInput(np.ones((8, 3), dtype=np.float32))
    runner.prepare(rows, [4, 8, 16])
    assert fake.log.count("captured") == 1
    assert runner.run(rows[:4], 4).samples.shape == (4, 3)
