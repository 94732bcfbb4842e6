"""The speed of serving: the bare model, the engine without HTTP, the service over HTTP, and LitServe.

The bare model replays one CUDA graph again and again, without copying anything. The difference to the
engine is the cost of batching, copies and Python.
"""

import asyncio
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from benchmarks import processes
from benchmarks.gpu.busy import busy_share
from benchmarks.gpu.models import models
from benchmarks.gpu.part import Part
from benchmarks.processes import Server
from benchmarks.rivals.work import MODEL
from latentd.models.checkpoint import Checkpoint
from latentd.models.family import Generator
from latentd.models.hardware import configure_device, core_count, reduce_gc_pauses, use_serving_threads
from latentd.models.latents import seeds_to_rows
from latentd.models.names import CatalogFile
from latentd.models.outputs.base import OutputKind
from latentd.models.sampling import forward_pass
from latentd.models.stage_input import StageInput
from latentd.service.catalog import Loader
from latentd.service.engine import BatchReport, Engine, StageExecutor
from latentd.service.engine.fair_queue import Encode, QuantizedEncode
from latentd.service.engine.threads import engine_threads

_BATCHES = (16, 32, 64, 128, 256, 512)
_CELLS = ((1, 1), (16, 1), (64, 1), (16, 16), (64, 16))
"""Clients, samples per request."""
_SUMS = ("forward", "copy", "encode", "queue_wait")
_MAX_BATCH = 64
"""The largest batch of LitServe."""
_COMPILED_PASSES = 200
_COMPILE_SECONDS = 45.0


class Recorder:
    """An observer that keeps the engine's reports."""

    def __init__(self) -> None:
        self.reports: list[BatchReport] = []

    def batch_done(self, batch: BatchReport) -> None:
        """Keep a report."""
        self.reports.append(batch)


def bare_model(part: Part, generator: Generator, seconds: float) -> dict[str, Any]:
    """Return the images per second of the model alone, for the best batch."""
    rates: dict[int, float] = {}
    for size in _BATCHES[:1] if part.smallest else _BATCHES:
        run = _repeatable(generator, size, part.device)
        run()
        part.synchronize()
        count, started = 0, time.perf_counter()
        while (elapsed := time.perf_counter() - started) < seconds:
            for _ in range(10):
                run()
            part.synchronize()
            count += 10
        rates[size] = size * count / elapsed
    best = max(rates, key=lambda size: rates[size])
    return {"images/s": rates[best], "batch": best, "by batch": rates}


def compiled_model(part: Part, file: Path) -> dict[str, Any]:
    """Return the images per second of the compiled model alone, and whether it gives the same bits."""
    size = _BATCHES[2]
    plain, compiled = (Checkpoint.read(file).build(part.device) for _ in range(2))
    compiled.compile(dynamic=False)
    rates = {}
    for name, generator in (("plain", plain), ("compiled", compiled)):
        run = _repeatable(generator, size, part.device)
        part.synchronize()
        started = time.perf_counter()
        for _ in range(_COMPILED_PASSES):
            run()
        part.synchronize()
        rates[name] = size * _COMPILED_PASSES / (time.perf_counter() - started)
    rows = seeds_to_rows(plain.spec, range(size))
    same = np.array_equal(forward_pass(plain, rows, size), forward_pass(compiled, rows, size))
    return {"images/s": rates["compiled"], "of the plain model": rates["compiled"] / rates["plain"], "same bits": same}


@torch.inference_mode()
def _repeatable(generator: Generator, size: int, device: torch.device) -> Callable[[], Any]:
    """Return a function that launches one pass: a graph on a GPU, a plain call on a CPU."""
    inputs = [torch.from_numpy(each).to(device) for each in seeds_to_rows(generator.spec, range(size)).arrays]

    @torch.inference_mode()
    def call() -> Any:
        return generator(*inputs)

    if device.type != "cuda":
        return call
    stream, graph = torch.cuda.Stream(device), torch.cuda.CUDAGraph()  # type: ignore[no-untyped-call]  # in torch
    with torch.cuda.stream(stream):
        call()
    with torch.cuda.graph(graph, stream=stream):
        call()
    return graph.replay


@contextmanager
def running_engine(part: Part, file: Path) -> Iterator[tuple[Engine, StageExecutor, Recorder]]:
    """Run an engine in this process, as the service does, with the model of `file`."""
    recorder = Recorder()
    engine = Engine(100_000, **engine_threads(part.device), observer=recorder)
    engine.start()
    try:
        model = Loader(part.device, engine, deterministic=True).load(CatalogFile(file))
        assert model.deployment is not None  # noqa: S101  # it was loaded just now
        yield engine, model.deployment.last, recorder
    finally:
        engine.close()


def engine_alone(part: Part, file: Path, bare: float, seconds: float) -> dict[str, Any]:
    """Return the images per second of the engine, with and without encoding, and the times of a lone sample."""
    output = Checkpoint.read(file).card.spec.output
    rows = seeds_to_rows(Checkpoint.read(file).card.spec, range(2048))
    png = _encode(output)
    with running_engine(part, file) as (engine, executor, recorder):
        reduce_gc_pauses()
        size = executor.calibration.largest
        figures: dict[str, Any] = {"sizes": executor.calibration.sizes, "determinism": executor.calibration.mode}
        for name, encode in (("copied", QuantizedEncode(lambda samples: [0] * len(samples))), ("PNG", png)):
            recorder.reports.clear()
            started = time.perf_counter()
            done, _ = asyncio.run(_closed_loop(engine, executor, rows, encode, clients=6, size=size, seconds=seconds))
            elapsed = time.perf_counter() - started
            figures[f"{name}: images/s"] = done / elapsed
            figures[f"{name}: busy"] = sum(each.forward_seconds for each in recorder.reports) / elapsed
        if bare:
            figures["copied, of the bare model"] = figures["copied: images/s"] / bare
        recorder.reports.clear()
        _, times = asyncio.run(_closed_loop(engine, executor, rows, png, clients=1, size=1, seconds=seconds / 2))
        figures |= _lone(times, recorder.reports)
    return figures


def _encode(output: OutputKind) -> Encode:
    return QuantizedEncode(lambda samples: output.encode(samples, output.default_format))


def _lone(times: list[float], reports: list[BatchReport]) -> dict[str, float]:
    """Return the milliseconds of a lone sample, and of its parts."""
    parts = {
        "pass": [each.forward_seconds for each in reports],
        "copy": [each.copy_seconds or 0.0 for each in reports],
        "encode": [each.encode_seconds for each in reports],
        "wait": [each.waited_seconds[0] for each in reports],
    }
    found = {f"lone {name}, ms": statistics.median(values) * 1e3 for name, values in parts.items()}
    whole = statistics.median(times) * 1e3
    return {"lone p50, ms": whole, **found, "lone launch and hand-over, ms": whole - sum(found.values())}


async def _closed_loop(
    engine: Engine, executor: StageExecutor, rows: StageInput, encode: Encode, clients: int, size: int, seconds: float
) -> tuple[int, list[float]]:
    """Submit `size` rows for each client again and again. Return the samples computed, and the seconds of each call."""
    end = time.perf_counter() + seconds
    times: list[float] = []

    async def client() -> None:
        while (started := time.perf_counter()) < end:
            first = np.random.randint(len(rows) - size + 1)  # noqa: NPY002  # which rows does not matter
            await engine.submit(executor, rows[first : first + size], encode, len)
            times.append(time.perf_counter() - started)

    await asyncio.gather(*(client() for _ in range(clients)))
    return size * len(times), times


def over_http(part: Part, server: Server, clients: int, samples: int, seconds: float) -> dict[str, Any]:
    """Return the figures of one load, and the fractions of the time in which the device and the encoders worked."""
    before = _sums(server)
    with busy_share(part.device) as busy:
        found = processes.load(server, clients=clients, samples=samples, seconds=seconds, warm_up=seconds / 4)
    after = _sums(server)
    spent = {name: after[name] - before[name] for name in before}
    requests = max(1, found["requests"]) * (1 + 1 / 4)  # the warm-up is in the sums too
    figures = _seen_by_clients(found) | {"forward, of the time": spent["forward"] / (seconds * (1 + 1 / 4))}
    return figures | busy() | {"milliseconds a request": {name: 1e3 * spent[name] / requests for name in spent}}


def _seen_by_clients(found: dict[str, Any]) -> dict[str, Any]:
    names = {"images/s": "images_per_second", "p50, ms": "p50_ms", "p99, ms": "p99_ms", "failed": "failed"}
    return {name: found[key] for name, key in names.items()}


def _sums(server: Server) -> dict[str, float]:
    """Return the seconds of all batches so far, by step."""
    lines = server.get_text("/metrics").splitlines()
    return {
        name: sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"latentd_{name}_seconds_sum"))
        for name in _SUMS
    }


def measure_model(part: Part, name: str, file: Path) -> None:
    """Measure one model by itself, in the engine and over HTTP."""
    short, cells = (0.2, _CELLS[:1]) if part.smallest else (1.0, _CELLS)
    generator = Checkpoint.read(file).build(part.device)
    bare = part.measure(f"{name}: bare model", lambda: bare_model(part, generator, short), 5 * short).get("images/s", 0)
    part.measure(f"{name}: engine", lambda: engine_alone(part, file, bare, 2 * short), 10 * short)
    if part.left < 15 * short:
        part.add(f"{name}: HTTP", {"left out": "no time is left"})
        return
    settings = {"LATENTD_DEVICE": part.device.type, "LATENTD_MODELS": str(file)}
    with part.reporting(f"{name}: HTTP"), processes.latentd(**settings) as server:
        for clients, samples in cells:
            part.measure(
                f"{name}: HTTP, {clients} × {samples}",
                lambda: over_http(part, server, clients, samples, 3 * short),  # noqa: B023  # called at once
                5 * short,
            )


def measure_litserve(part: Part) -> None:
    """Measure LitServe with the shipped model."""
    short, cells = (0.2, _CELLS[:1]) if part.smallest else (1.0, _CELLS)
    for samples in sorted({samples for _, samples in cells}):
        if part.left < 20 * short:
            part.add("LitServe", {"left out": "no time is left"})
            return
        batch = max(1, _MAX_BATCH // samples)  # of requests
        with part.reporting("LitServe"), processes.litserve(batch, core_count(), part.device.type) as server:
            for clients in [clients for clients, size in cells if size == samples]:
                found = processes.load(server, clients=clients, samples=samples, seconds=3 * short, warm_up=short)
                part.add(f"{MODEL}: LitServe, {clients} × {samples}", _seen_by_clients(found))


def main() -> None:
    """Measure all models, the shipped one and LitServe first."""
    part = Part.from_command_line("serving")
    configure_device(part.device)
    use_serving_threads(part.device)
    with TemporaryDirectory(prefix="latentd-gpu-") as folder:
        for index, (name, file_in) in enumerate(models(part.smallest).items()):
            with part.reporting(name):
                file = file_in(Path(folder) / name)
                measure_model(part, name, file)
                if index == 0 and find_spec("litserve"):
                    measure_litserve(part)
                if part.device.type == "cuda":
                    part.measure(f"{name}: compiled model", partial(compiled_model, part, file), _COMPILE_SECONDS)
    part.finish()


if __name__ == "__main__":
    main()
