"""Forward passes on a GPU: graphs, streams, quantized samples, memory."""

import random
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from latentd.models.checkpoint import Checkpoint
from latentd.models.family import Generator
from latentd.models.latents import seeds_to_rows
from latentd.models.outputs.image import to_pixels
from latentd.models.sampling import forward_pass, generate_rows
from latentd.models.spec import GeneratorSpec
from latentd.models.stage_input import StageInput
from latentd.service.catalog.loader import quantizer
from latentd.service.engine import Calibration, OutOfMemoryError, StageExecutor
from latentd.service.engine.cuda import CudaDevice, CudaRunner
from tests.conftest import image_spec, points_spec

pytestmark = pytest.mark.gpu

SIZES = (1, 2, 4, 8, 16, 32, 64)
SPECS = {
    "28": image_spec(),
    "28 conditional": image_spec(conditional=True),
    "128 in color": image_spec(side=128, channels=3),
    "points": points_spec(),
}
MIB = 2**20


@pytest.fixture(scope="module")
def shared(cuda: torch.device) -> CudaDevice:
    return CudaDevice(cuda)


@pytest.fixture(params=SPECS)
def generator(request: pytest.FixtureRequest, cuda: torch.device, write: Callable[..., Checkpoint]) -> Generator:
    return write(SPECS[request.param]).build(cuda)


def runner_of(shared: CudaDevice, generator: Generator) -> CudaRunner:
    return CudaRunner(shared, generator, quantizer(generator.spec.output))


def test_a_graph_gives_the_bits_of_a_pass_without_one(shared: CudaDevice, generator: Generator) -> None:
    runner = runner_of(shared, generator)
    for size in SIZES:
        for count in {size, (size + 1) // 2}:
            rows = seeds_to_rows(generator.spec, range(count))
            expected = forward_pass(generator, rows, size)
            for _ in range(2):  # the first one captures
                assert np.array_equal(runner.run(rows, size).samples, expected), (size, count)


def test_every_size_is_one_graph(shared: CudaDevice, generator: Generator) -> None:
    runner = runner_of(shared, generator)
    runner.prepare(seeds_to_rows(generator.spec, range(32)), SIZES)
    passes = dict(runner._passes)
    assert set(passes) == set(SIZES)
    assert all(each._graph is not None for each in passes.values())
    for size in SIZES:
        runner.run(seeds_to_rows(generator.spec, range(size)), size)
    assert runner._passes == passes


def test_quantized_samples_have_the_bits_that_the_host_gives(
    shared: CudaDevice, cuda: torch.device, write: Callable[..., Checkpoint]
) -> None:
    generator = write(SPECS["128 in color"]).build(cuda)
    runner = runner_of(shared, generator)
    rows = seeds_to_rows(generator.spec, range(64))
    floats, quantized = (runner.run(rows, 64, each) for each in (False, True))
    assert quantized.samples.dtype == np.uint8
    assert np.array_equal(to_pixels(quantized.samples), to_pixels(floats.samples))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_quantized_samples_are_known_not_to_be_finite(shared: CudaDevice, value: float) -> None:
    class Identity(nn.Module):
        def forward(self, values: Tensor) -> Tensor:
            return values * 1.0

    output = image_spec().output
    images = np.zeros((3, *output.shape), dtype=np.float32)
    images[1, 0, 5, 5] = value
    found = CudaRunner(shared, Identity(), quantizer(output)).run(StageInput(images), 4, quantized=True).finite
    assert found is not None
    assert found.tolist() == [True, False, True]


def test_each_of_many_threads_gets_its_own_samples(
    shared: CudaDevice, cuda: torch.device, write: Callable[..., Checkpoint]
) -> None:
    specs: list[GeneratorSpec] = [SPECS["28"], SPECS["128 in color"]]
    generators = [write(spec, name=f"model{index}").build(cuda) for index, spec in enumerate(specs)]
    runners = [runner_of(shared, each) for each in generators]
    rows = [seeds_to_rows(each.spec, range(64)) for each in generators]
    expected = [forward_pass(each, part, 64) for each, part in zip(generators, rows, strict=True)]
    sizes = [[size for size in SIZES if _same(runners[index], rows[index], size, expected[index])] for index in (0, 1)]
    assert all(64 in each for each in sizes)
    wrong: list[tuple[int, int]] = []

    def work(seed: int) -> None:
        draw = random.Random(seed)  # noqa: S311  # a test's order
        for _ in range(100):
            index = draw.randrange(2)
            size, first = draw.choice(sizes[index]), draw.randrange(64)
            part = rows[index][first : first + draw.randint(1, size)]
            quantized = draw.random() < 0.5
            samples = runners[index].run(part, size, quantized).samples
            right = expected[index][first : first + len(part)]
            if quantized:
                right = generators[index].spec.output.as_quantized(right)
            if not np.array_equal(samples, right):
                wrong.append((index, size))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    assert wrong == []


def _same(runner: CudaRunner, rows: StageInput, size: int, expected: object) -> bool:
    """Return whether passes of `size` give the bits of a pass of 64: calibration would keep it."""
    samples = [runner.run(rows[start : start + size], size).samples for start in range(0, 64, size)]
    return bool(np.array_equal(np.concatenate(samples), expected))


class Hungry(nn.Module):
    """Needs 16 MiB for each row."""

    def forward(self, values: Tensor) -> Tensor:
        large = values[:, :1].expand(-1, 4 * MIB).clone()  # [N, 2**22]
        return values + 0 * large.mean(dim=1, keepdim=True)


def test_without_memory_the_sizes_are_halved_and_everything_is_computed(shared: CudaDevice, cuda: torch.device) -> None:
    sizes = [16, 64, 256, 512]
    calibration = Calibration("bitwise", dict.fromkeys(sizes, 1.0))
    executor = StageExecutor("hungry", CudaRunner(shared, Hungry()), calibration)
    rows = StageInput(np.random.RandomState(0).standard_normal((700, 4)).astype(np.float32))
    total = torch.cuda.get_device_properties(cuda).total_memory
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved(cuda) + 3072 * MIB) / total, cuda)
    try:
        assert np.array_equal(executor.compute(rows).samples, rows.inputs)
        assert executor.calibration.sizes == [16, 64]
        hopeless = StageExecutor("hungry", CudaRunner(shared, Hungry()), Calibration("bitwise", {512: 1.0}))
        with pytest.raises(OutOfMemoryError):
            hopeless.compute(rows)
        assert np.array_equal(executor.compute(rows).samples, rows.inputs)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, cuda)


def test_a_size_is_captured_while_others_run(
    shared: CudaDevice, cuda: torch.device, write: Callable[..., Checkpoint]
) -> None:
    generator = write(SPECS["28"]).build(cuda)
    runner, rows = runner_of(shared, generator), seeds_to_rows(generator.spec, range(16))
    expected = forward_pass(generator, rows, 16)
    runner.run(rows, 16)
    stop, wrong = threading.Event(), []

    def keep_running() -> None:
        while not stop.is_set():
            if not np.array_equal(runner.run(rows, 16).samples, expected):
                wrong.append("replay")

    thread = threading.Thread(target=keep_running)
    thread.start()
    try:
        for index in range(3):
            other = write(SPECS["128 in color"], name=f"other{index}").build(cuda)
            other_rows = seeds_to_rows(other.spec, range(16))
            assert np.array_equal(
                runner_of(shared, other).run(other_rows, 16).samples, generate_rows(other, other_rows)
            )
    finally:
        stop.set()
        thread.join()
    assert wrong == []


def test_the_allocator_grows_its_segments(cuda: torch.device) -> None:
    code = (
        "import torch; from latentd.models.hardware import configure_device; device = torch.device('cuda');"
        "configure_device(device); tensor = torch.zeros(2**22, device=device);"
        "print(all(segment['is_expandable'] for segment in torch.cuda.memory_snapshot()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True"
