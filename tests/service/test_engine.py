"""The engine, with a runner that the test can block."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from functools import wraps
from typing import Any

import numpy as np
import pytest
import torch

from latentd.models.checkpoint import Checkpoint
from latentd.models.outputs.base import Samples
from latentd.models.sampling import StageInput, generate
from latentd.service.engine import (
    BatchFailedError,
    Calibration,
    Engine,
    EngineClosedError,
    ForwardResult,
    NotFiniteError,
    OutOfMemoryError,
    QueueFullError,
    StageExecutor,
)
from latentd.service.engine.cpu import CpuRunner
from tests.conftest import image_spec
from tests.service.fakes import HeldRunner, executor, first_numbers, rows


def in_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    @wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        asyncio.run(asyncio.wait_for(test(*args, **kwargs), timeout=30))

    return run


@asynccontextmanager
async def running(**settings: int) -> AsyncIterator[Engine]:
    engine = Engine(**{"max_queue": 100, "parallel": 1, "encoders": 2, **settings})
    engine.start()
    try:
        yield engine
    finally:
        await asyncio.to_thread(engine.close)


def submit(engine: Engine, model: StageExecutor, *values: float, encode: Any = list) -> asyncio.Future[Any]:
    return engine.submit(model, rows(*values), encode, list)


async def begun(runner: HeldRunner) -> None:
    await asyncio.to_thread(runner.wait_for_pass)


@in_loop
async def test_a_lone_request_is_computed_at_once() -> None:
    async with running() as engine:
        held = HeldRunner()
        held.release()
        assert first_numbers(await submit(engine, executor(held), 1, 2)) == [1, 2]
        assert held.passes == [[1, 2]]


@in_loop
async def test_a_batch_joins_the_requests_that_arrived_during_the_last_pass() -> None:
    async with running() as engine:
        held = HeldRunner()
        model = executor(held)
        futures = [submit(engine, model, 99)]
        await begun(held)
        futures += [submit(engine, model, value) for value in (1, 2, 3)]
        held.release()
        assert [first_numbers(each) for each in await asyncio.gather(*futures)] == [[99], [1], [2], [3]]
        assert held.passes == [[99], [1, 2, 3]]


@in_loop
async def test_the_next_pass_runs_while_the_last_one_is_encoded() -> None:
    async with running() as engine:
        held, encoding, go_on = HeldRunner(), asyncio.Event(), asyncio.Event()
        loop = asyncio.get_running_loop()

        def encode(samples: Samples) -> list[Any]:
            loop.call_soon_threadsafe(encoding.set)
            asyncio.run_coroutine_threadsafe(go_on.wait(), loop).result(timeout=10)
            return list(samples)

        model = executor(held)
        first = submit(engine, model, 1, encode=encode)
        await begun(held)
        held.release(1)
        await encoding.wait()
        second = submit(engine, model, 2)
        await begun(held)  # while the first batch is still being encoded
        assert not first.done()
        held.release()
        assert first_numbers(await second) == [2]
        assert not first.done()
        go_on.set()
        assert first_numbers(await first) == [1]


@in_loop
async def test_passes_ahead_are_launched_before_the_last_one_is_done() -> None:
    async with running(parallel=1, ahead=1) as engine:
        held = HeldRunner()
        model = executor(held)
        futures = [submit(engine, model, *range(1, 17))]
        await begun(held)
        futures.append(submit(engine, model, 20))
        await begun(held)
        futures.append(submit(engine, model, 30))
        await asyncio.sleep(0.05)
        assert len(held.passes) == 2  # one that computes, one ahead, no more
        held.release()
        assert [len(each) for each in await asyncio.gather(*futures)] == [16, 1, 1]


@in_loop
async def test_a_lone_large_request_uses_every_free_pass() -> None:
    async with running(parallel=2) as engine:
        held = HeldRunner()
        future = submit(engine, executor(held, 4, 8, 16), *range(1, 17))
        await begun(held)
        await begun(held)  # the second pass, while the first one is held
        assert sorted(map(len, held.passes)) == [8, 8]
        held.release()
        assert sorted(first_numbers(await future)) == list(range(1, 17))


@in_loop
async def test_results_are_in_order_no_matter_which_pass_ends_first() -> None:
    async with running(parallel=2) as engine:
        held = HeldRunner()
        model = executor(held, 4)
        future = submit(engine, model, *range(1, 41))
        for _ in range(10):
            held.release(1)
        assert first_numbers(await future) == list(range(1, 41))


@in_loop
async def test_a_full_queue_takes_no_more_rows() -> None:
    async with running() as engine:
        held = HeldRunner()
        model = executor(held)
        first = submit(engine, model, 99)
        await begun(held)
        waiting = submit(engine, model, *range(1, 65))
        with pytest.raises(QueueFullError, match="64 samples wait, of at most 100"):
            submit(engine, model, *range(1, 38))
        assert engine.queued == 64
        held.release()
        await asyncio.gather(first, waiting)
        assert first_numbers(await submit(engine, model, 5)) == [5]


@in_loop
async def test_cancelled_rows_leave_the_queue_and_are_not_computed() -> None:
    async with running() as engine:
        held = HeldRunner()
        model = executor(held)
        first = submit(engine, model, 99)
        await begun(held)
        dropped = submit(engine, model, *range(1, 61))
        kept = submit(engine, model, 70)
        dropped.cancel()
        await asyncio.sleep(0)
        after = submit(engine, model, *range(1, 100))  # there is room again
        held.release()
        assert first_numbers(await kept) == [70]
        assert first_numbers(await after) == list(range(1, 100))
        assert held.passes[1][0] == 70
        await first


@in_loop
async def test_a_failing_model_fails_its_batch_and_not_the_next(caplog: pytest.LogCaptureFixture) -> None:
    async with running() as engine:
        held = HeldRunner()
        model = executor(held)
        futures = [submit(engine, model, 99)]
        await begun(held)
        futures.append(submit(engine, model, *range(1, 41)))
        held.problem = RuntimeError("the model broke")
        held.release(2)
        for future in futures:
            with pytest.raises(BatchFailedError, match="the model broke"):
                await future
        held.problem = None
        held.release()
        assert "a batch of held failed" in caplog.text
        assert first_numbers(await submit(engine, model, 5)) == [5]
        assert engine.queued == 0
        assert len(held.passes) == 3  # the rest of the failed request was not computed


@in_loop
async def test_a_non_finite_sample_fails_only_its_request() -> None:
    async with running() as engine:
        held = HeldRunner()
        model = executor(held)
        first = submit(engine, model, 99)
        await begun(held)
        bad, good = submit(engine, model, 1, float("inf")), submit(engine, model, 2)
        held.release()
        assert first_numbers(await good) == [2]
        assert len(held.passes) == 2
        with pytest.raises(NotFiniteError):
            await bad
        await first


@in_loop
async def test_out_of_memory_halves_the_largest_size_and_logs_it(caplog: pytest.LogCaptureFixture) -> None:
    class Small(HeldRunner):
        def run(self, rows: StageInput, size: int) -> ForwardResult:
            if size > 8:
                raise OutOfMemoryError("full")
            return super().run(rows, size)

    async with running() as engine:
        held = Small()
        held.release()
        model = executor(held, 4, 8, 12, 16)
        assert first_numbers(await submit(engine, model, *range(1, 31))) == list(range(1, 31))
        assert model.calibration.sizes == [4, 8]
        assert "held: no memory for 16 samples in a pass; from now on 8" in caplog.text

        hopeless = executor(held, 16)
        with pytest.raises(BatchFailedError) as caught:
            await submit(engine, hopeless, 1)
        assert isinstance(caught.value.__cause__, OutOfMemoryError)


@in_loop
async def test_tasks_run_in_a_slot_between_batches() -> None:
    async with running() as engine:
        held = HeldRunner()
        model = executor(held)
        future = submit(engine, model, *range(1, 41))
        await begun(held)
        call = engine.run_in_slot(lambda: len(held.passes))
        held.release()
        assert await asyncio.wrap_future(call) == 1  # ahead of the request's other two batches
        await future
        with pytest.raises(ZeroDivisionError):
            await asyncio.wrap_future(engine.run_in_slot(lambda: 1 // 0))
        assert engine.alive


@in_loop
async def test_close_finishes_the_queued_requests() -> None:
    async with running() as engine:
        held = HeldRunner()
        model = executor(held)
        futures = [submit(engine, model, 99), submit(engine, model, *range(1, 41))]
        held.release()
        await asyncio.to_thread(engine.close)
        assert [len(each) for each in await asyncio.gather(*futures)] == [1, 40]
        with pytest.raises(EngineClosedError):
            submit(engine, model, 1)
        assert not engine.alive


@pytest.mark.parametrize("encoders", [1, 16])
@in_loop
async def test_every_thread_ends_when_the_engine_is_closed_under_load(encoders: int) -> None:
    engine = Engine(max_queue=1000, parallel=1, ahead=1, encoders=encoders)
    engine.start()
    held = HeldRunner()
    model = executor(held)
    futures = [submit(engine, model, *range(16)) for _ in range(10)]
    await begun(held)
    closing = asyncio.create_task(asyncio.to_thread(engine.close))
    await asyncio.sleep(0.05)
    held.release()
    await asyncio.gather(closing, *futures)
    assert not any(thread.is_alive() for thread in engine._threads)


@pytest.mark.parametrize("stage", ["encode", "assemble"])
@in_loop
async def test_a_request_that_cannot_be_encoded_fails_alone(stage: str) -> None:
    def refuse(values: Any) -> list[Any]:
        if any(sample[0] == 13 for sample in values):
            raise ValueError("thirteen")
        return list(values)

    async with running() as engine:
        held = HeldRunner()
        model = executor(held)
        first = submit(engine, model, 99)
        await begun(held)
        encode, assemble = (refuse, list) if stage == "encode" else (list, refuse)
        bad, good = (engine.submit(model, rows(value), encode, assemble) for value in (13, 2))
        held.release()
        assert first_numbers(await good) == [2]
        assert len(held.passes) == 2
        with pytest.raises(BatchFailedError, match="thirteen"):
            await bad
        await first


def test_a_closed_event_loop_does_not_stop_the_engine() -> None:
    engine = Engine(max_queue=100, parallel=1)
    engine.start()
    held = HeldRunner()
    model = executor(held)

    async def leave() -> None:
        submit(engine, model, 1)
        await begun(held)

    asyncio.run(leave())
    held.release()

    async def stay() -> None:
        assert first_numbers(await submit(engine, model, 2)) == [2]

    asyncio.run(asyncio.wait_for(stay(), timeout=10))
    assert engine.alive
    engine.close()


@in_loop
async def test_abort_fails_requests_that_are_in_no_batch_yet() -> None:
    async with running() as engine:
        held = HeldRunner()
        model = executor(held)
        first = submit(engine, model, 99)
        await begun(held)
        queued = submit(engine, model, 1)
        engine.abort()
        with pytest.raises(EngineClosedError):
            await queued
        held.release()
        assert first_numbers(await first) == [99]


@pytest.mark.parametrize("conditional", [False, True])
@in_loop
async def test_bytes_do_not_depend_on_the_batch(conditional: bool, write: Callable[..., Checkpoint]) -> None:
    generator = write(image_spec(conditional=conditional)).build()
    model = StageExecutor("m", CpuRunner(generator, f"test {conditional}"), Calibration("bitwise", {16: 1.0}))
    latents = np.random.RandomState(0).standard_normal((48, 8)).astype(np.float32)
    labels = [index % 3 if conditional else None for index in range(48)]
    expected = generate(generator, latents, labels)
    everything = StageInput.from_labels(generator.spec, latents, labels)
    async with running(parallel=2) as engine:
        together = engine.submit(model, everything, list, np.stack)
        alone = [engine.submit(model, everything[i : i + 1], list, np.stack) for i in range(48)]
        assert np.array_equal(await together, expected)
        assert np.array_equal(np.concatenate(await asyncio.gather(*alone)), expected)


def test_a_failed_allocation_on_the_cpu_is_an_out_of_memory_error(write: Callable[..., Checkpoint]) -> None:
    generator = write(image_spec()).build()

    def refuse(*_: Any) -> None:
        torch.empty(2**62, dtype=torch.uint8)

    generator.register_forward_pre_hook(refuse)
    with pytest.raises(OutOfMemoryError):
        CpuRunner(generator, "test").run(rows(1), 1)
