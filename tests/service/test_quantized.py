"""Samples that the device quantizes, as a GPU does: every answer has the bytes that it has without it."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from starlette.testclient import TestClient

from latentd.models.outputs.image import ImageOutput, quantize, to_pixels
from latentd.models.stage_input import StageInput
from latentd.service.catalog import Loader
from latentd.service.engine import Engine, ForwardResult, StageExecutor
from latentd.service.engine.encoder_threads import EncoderThreads
from latentd.service.engine.fair_queue import QuantizedEncode
from tests.conftest import image_spec
from tests.service.fakes import calibration, in_loop
from tests.service.in_process import serving

PICTURES = {"seeds": [1, 2, 3]}
KEYFRAMES = {"keyframes": [{"seed": 1}, {"seed": 2}], "steps": 5}
REQUESTS = [
    ("/generate", PICTURES | {"format": encoding, "layout": layout}, "*/*")
    for encoding in ("png", "jpeg", "webp")
    for layout in ("separate", "grid")
] + [
    ("/generate", PICTURES | {"format": "npy"}, "*/*"),
    ("/generate", PICTURES, "application/x-npy"),
    ("/generate", {"seed": 4}, "image/png"),
    ("/interpolate", KEYFRAMES | {"format": "gif"}, "*/*"),
    ("/interpolate", KEYFRAMES | {"layout": "grid"}, "*/*"),
    ("/interpolate", KEYFRAMES, "text/event-stream"),
]


class QuantizingRunner:
    """Quantizes what another runner computes, as CudaRunner does on the device."""

    asked: list[bool]

    def __init__(self, runner: Any) -> None:
        self._runner = runner

    def prepare(self, *arguments: Any) -> None:
        self._runner.prepare(*arguments)

    def run(self, rows: StageInput, size: int, quantized: bool = False) -> ForwardResult:
        self.asked.append(quantized)
        result: ForwardResult = self._runner.run(rows, size)
        if not quantized:
            return result
        samples = (quantize(torch.from_numpy(result.samples))).to(torch.uint8).numpy()
        return result._replace(samples=samples, finite=np.ones(len(rows), dtype=bool))


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    with serving(tmp_path_factory.mktemp("plain"), {"model": image_spec(channels=3, side=32)}) as client:
        yield client


@pytest.fixture(scope="module")
def quantizing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    QuantizingRunner.asked = []
    with pytest.MonkeyPatch.context() as patch:
        make = Loader._runner
        patch.setattr(Loader, "_runner", lambda *arguments: QuantizingRunner(make(*arguments)))
        with serving(tmp_path_factory.mktemp("quantizing"), {"model": image_spec(channels=3, side=32)}) as client:
            yield client


@pytest.mark.parametrize(("path", "body", "accept"), REQUESTS)
def test_an_answer_has_the_same_bytes(
    plain: TestClient, quantizing: TestClient, path: str, body: dict[str, Any], accept: str
) -> None:
    QuantizingRunner.asked.clear()
    answers = [client.post(path, json=body, headers={"accept": accept}) for client in (plain, quantizing)]
    assert [each.status_code for each in answers] == [200, 200]
    assert answers[0].content == answers[1].content
    wants_floats = "npy" in (body.get("format"), accept.removeprefix("application/x-"))
    assert set(QuantizingRunner.asked) == {not wants_floats}


def test_arrays_and_tensors_are_quantized_to_the_same_bits() -> None:
    halves = (np.arange(-2, 258, dtype=np.float32) + 0.5) / 127.5 - 1  # between two integers, and outside of [-1, 1]
    near = [np.nextafter(halves, np.float32(side)) for side in (-9, 9)]
    random = np.random.RandomState(0).uniform(-1.1, 1.1, 10**6)
    values = np.concatenate([halves, *near, random]).astype(np.float32)
    expected = np.rint((values.clip(-1.0, 1.0) + 1.0) * 127.5)
    for found in (quantize(values), quantize(torch.from_numpy(values)).numpy()):
        assert found.dtype == np.float32
        assert np.array_equal(found, expected)


def test_quantized_images_are_their_pixels() -> None:
    images = np.random.RandomState(0).uniform(-1, 1, (3, 1, 4, 5)).astype(np.float32)
    output = ImageOutput(channels=1, height=4, width=5)
    quantized = output.as_quantized(images)
    assert np.array_equal(to_pixels(quantized), to_pixels(images))
    assert output.as_quantized(quantized) is quantized


@in_loop
async def test_a_batch_is_quantized_only_if_all_its_requests_accept_it() -> None:
    class Recorder:
        def __init__(self) -> None:
            self.asked: list[bool] = []

        def run(self, rows: StageInput, size: int, quantized: bool = False) -> ForwardResult:
            self.asked.append(quantized)
            return ForwardResult(rows.inputs, size, 0.1)

        def prepare(self, *_: Any) -> None: ...

    runner = Recorder()
    model = StageExecutor("m", runner, calibration())
    engine = Engine(100, parallel=1)
    rows = StageInput(np.ones((2, 3), dtype=np.float32))
    futures = [
        engine.submit(model, rows, QuantizedEncode(list), list),
        engine.submit(model, rows, list, list),
    ]
    engine.start()
    for each in futures:
        await each
    await engine.submit(model, rows, QuantizedEncode(list), list)
    assert runner.asked == [False, True]
    engine.close()


@pytest.mark.parametrize("count", [1, 7, 48, 100])
def test_the_order_of_samples_does_not_depend_on_the_number_of_threads(count: int) -> None:
    images = np.random.RandomState(0).uniform(-1, 1, (count, 1, 28, 28)).astype(np.float32)
    output = ImageOutput(channels=1, height=28, width=28)
    sizes: list[int] = []

    def encode(samples: Any) -> list[bytes]:
        sizes.append(len(samples))
        return output.encode(samples, "png")

    threads = EncoderThreads(4)
    assert threads.encode(encode, images) == output.encode(images, "png")
    threads.close()
    assert sum(sizes) == count
    assert max(sizes) <= max(21, -(-count // 4))  # 21 images have 16,464 numbers, which one thread encodes


def test_an_encoder_that_fails_on_another_thread_fails_the_whole_call() -> None:
    def encode(samples: Any) -> list[Any]:
        if samples[0, 0] > 0:
            raise ValueError("not the first part")
        return list(samples)

    threads = EncoderThreads(2)
    samples = np.stack([np.zeros(2**14), np.ones(2**14)])
    with pytest.raises(ValueError, match="not the first part"):
        threads.encode(encode, samples)
    threads.close()
