"""The engine, with a runner that the test can block."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest
import torch

from latentd.models.checkpoint import Checkpoint
from latentd.models.latents import seeds_to_rows
from latentd.models.outputs.base import Samples
from latentd.models.sampling import generate_rows
from latentd.models.stage_input import StageInput
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
from tests.models.test_imports import loaded
from tests.service.fakes import BlockingRunner, executor, first_numbers, in_loop, rows


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


async def pass_started(runner: BlockingRunner) -> None:
    await asyncio.to_thread(runner.wait_for_pass)


@in_loop
async def test_a_lone_request_is_computed_at_once() -> None:
    async with running() as engine:
        runner = BlockingRunner()
        runner.release()
        assert first_numbers(await submit(engine, executor(runner), 1, 2)) == [1, 2]
        assert runner.passes == [[1, 2]]


@in_loop
async def test_a_batch_joins_the_requests_that_arrived_during_the_last_pass() -> None:
    async with running() as engine:
        runner = BlockingRunner()
        model = executor(runner)
        futures = [submit(engine, model, 99)]
        await pass_started(runner)
        futures += [submit(engine, model, value) for value in (1, 2, 3)]
        runner.release()
        assert [first_numbers(each) for each in await asyncio.gather(*futures)] == [[99], [1], [2], [3]]
        assert runner.passes == [[99], [1, 2, 3]]


@in_loop
async def test_the_next_pass_runs_while_the_last_one_is_encoded() -> None:
    async with running() as engine:
        runner, encoding, go_on = BlockingRunner(), asyncio.Event(), asyncio.Event()
        loop = asyncio.get_running_loop()

        def encode(samples: Samples) -> list[Any]:
            loop.call_soon_threadsafe(encoding.set)
            asyncio.run_coroutine_threadsafe(go_on.wait(), loop).result(timeout=300)
            return list(samples)

        model = executor(runner)
        first = submit(engine, model, 1, encode=encode)
        await pass_started(runner)
        runner.release(1)
        await encoding.wait()
        second = submit(engine, model, 2)
        await pass_started(runner)  # while the first batch is still being encoded
        assert not first.done()
        runner.release()
        assert first_numbers(await second) == [2]
        assert not first.done()
        go_on.set()
        assert first_numbers(await first) == [1]


@in_loop
async def test_passes_ahead_are_launched_before_the_last_one_is_done() -> None:
    async with running(parallel=1, ahead=1) as engine:
        runner = BlockingRunner()
        model = executor(runner)
        futures = [submit(engine, model, *range(1, 17))]
        await pass_started(runner)
        futures.append(submit(engine, model, 20))
        await pass_started(runner)
        futures.append(submit(engine, model, 30))
        await asyncio.sleep(0.05)
        assert len(runner.passes) == 2  # one that computes, one ahead, no more
        runner.release()
        assert [len(each) for each in await asyncio.gather(*futures)] == [16, 1, 1]


@in_loop
async def test_a_lone_large_request_uses_every_free_pass() -> None:
    async with running(parallel=2) as engine:
        runner = BlockingRunner()
        future = submit(engine, executor(runner, 4, 8, 16), *range(1, 17))
        await pass_started(runner)
        await pass_started(runner)  # the second pass, while the first one is held
        assert sorted(map(len, runner.passes)) == [8, 8]
        runner.release()
        assert sorted(first_numbers(await future)) == list(range(1, 17))


@in_loop
async def test_results_are_in_order_no_matter_which_pass_ends_first() -> None:
    async with running(parallel=2) as engine:
        runner = BlockingRunner()
        model = executor(runner, 4)
        future = submit(engine, model, *range(1, 41))
        for _ in range(10):
            runner.release(1)
        assert first_numbers(await future) == list(range(1, 41))


@in_loop
async def test_a_full_queue_takes_no_more_rows() -> None:
    async with running() as engine:
        runner = BlockingRunner()
        model = executor(runner)
        first = submit(engine, model, 99)
        await pass_started(runner)
        waiting = submit(engine, model, *range(1, 65))
        with pytest.raises(QueueFullError, match="64 samples wait, of at most 100"):
            submit(engine, model, *range(1, 38))
        assert engine.queued == 64
        runner.release()
        await asyncio.gather(first, waiting)
        assert first_numbers(await submit(engine, model, 5)) == [5]


@in_loop
async def test_cancelled_rows_leave_the_queue_and_are_not_computed() -> None:
    async with running() as engine:
        runner = BlockingRunner()
        model = executor(runner)
        first = submit(engine, model, 99)
        await pass_started(runner)
        dropped = submit(engine, model, *range(1, 61))
        kept = submit(engine, model, 70)
        dropped.cancel()
        await asyncio.sleep(0)
        after = submit(engine, model, *range(1, 100))  # there is room again
        runner.release()
        assert first_numbers(await kept) == [70]
        assert first_numbers(await after) == list(range(1, 100))
        assert runner.passes[1][0] == 70
        await first


@in_loop
async def test_a_failing_model_fails_its_batch_and_not_the_next(caplog: pytest.LogCaptureFixture) -> None:
    async with running() as engine:
        runner = BlockingRunner()
        model = executor(runner)
        futures = [submit(engine, model, 99)]
        await pass_started(runner)
        futures.append(submit(engine, model, *range(1, 41)))
        runner.problem = RuntimeError("the model broke")
        runner.release(2)
        for future in futures:
            with pytest.raises(BatchFailedError, match="the model broke"):
                await future
        runner.problem = None
        runner.release()
        assert "a batch of gan failed" in caplog.text
        assert first_numbers(await submit(engine, model, 5)) == [5]
        assert engine.queued == 0
        assert len(runner.passes) == 3  # the rest of the failed request was not computed


@in_loop
async def test_a_non_finite_sample_fails_only_its_request() -> None:
    async with running() as engine:
        runner = BlockingRunner()
        model = executor(runner)
        first = submit(engine, model, 99)
        await pass_started(runner)
        bad, good = submit(engine, model, 1, float("inf")), submit(engine, model, 2)
        runner.release()
        assert first_numbers(await good) == [2]
        assert len(runner.passes) == 2
        with pytest.raises(NotFiniteError):
            await bad
        await first


@in_loop
async def test_out_of_memory_halves_the_largest_size_and_logs_it(caplog: pytest.LogCaptureFixture) -> None:
    class Small(BlockingRunner):
        def run(self, rows: StageInput, size: int, quantized: bool = False) -> ForwardResult:
            if size > 8:
                raise OutOfMemoryError("full")
            return super().run(rows, size, quantized)

    async with running() as engine:
        runner = Small()
        runner.release()
        model = executor(runner, 4, 8, 12, 16)
        assert first_numbers(await submit(engine, model, *range(1, 31))) == list(range(1, 31))
        assert model.calibration.sizes == [4, 8]
        assert "gan: no memory for 16 samples in a pass; from now on 8" in caplog.text

        hopeless = executor(runner, 16)
        with pytest.raises(BatchFailedError) as caught:
            await submit(engine, hopeless, 1)
        assert isinstance(caught.value.__cause__, OutOfMemoryError)


@in_loop
async def test_tasks_run_in_a_slot_between_batches() -> None:
    async with running() as engine:
        runner = BlockingRunner()
        model = executor(runner)
        future = submit(engine, model, *range(1, 41))
        await pass_started(runner)
        call = engine.run_in_slot(lambda: len(runner.passes))
        runner.release()
        assert await asyncio.wrap_future(call) == 1  # ahead of the request's other two batches
        await future
        with pytest.raises(ZeroDivisionError):
            await asyncio.wrap_future(engine.run_in_slot(lambda: 1 // 0))
        assert engine.alive


@in_loop
async def test_close_finishes_the_queued_requests() -> None:
    async with running() as engine:
        runner = BlockingRunner()
        model = executor(runner)
        futures = [submit(engine, model, 99), submit(engine, model, *range(1, 41))]
        runner.release()
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
    runner = BlockingRunner()
    model = executor(runner)
    futures = [submit(engine, model, *range(16)) for _ in range(10)]
    await pass_started(runner)
    closing = asyncio.create_task(asyncio.to_thread(engine.close))
    await asyncio.sleep(0.05)
    runner.release()
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
        runner = BlockingRunner()
        model = executor(runner)
        first = submit(engine, model, 99)
        await pass_started(runner)
        encode, assemble = (refuse, list) if stage == "encode" else (list, refuse)
        bad, good = (engine.submit(model, rows(value), encode, assemble) for value in (13, 2))
        runner.release()
        assert first_numbers(await good) == [2]
        assert len(runner.passes) == 2
        with pytest.raises(BatchFailedError, match="thirteen"):
            await bad
        await first


def test_a_closed_event_loop_does_not_stop_the_engine() -> None:
    engine = Engine(max_queue=100, parallel=1)
    engine.start()
    runner = BlockingRunner()
    model = executor(runner)

    async def leave() -> None:
        submit(engine, model, 1)
        await pass_started(runner)

    asyncio.run(leave())
    runner.release()

    async def stay() -> None:
        assert first_numbers(await submit(engine, model, 2)) == [2]

    asyncio.run(asyncio.wait_for(stay(), timeout=300))
    assert engine.alive
    engine.close()


@in_loop
async def test_abort_fails_requests_that_are_in_no_batch_yet() -> None:
    async with running() as engine:
        runner = BlockingRunner()
        model = executor(runner)
        first = submit(engine, model, 99)
        await pass_started(runner)
        queued = submit(engine, model, 1)
        engine.abort()
        with pytest.raises(EngineClosedError):
            await queued
        runner.release()
        assert first_numbers(await first) == [99]


@pytest.mark.parametrize("conditional", [False, True])
@in_loop
async def test_bytes_do_not_depend_on_the_batch(conditional: bool, write: Callable[..., Checkpoint]) -> None:
    generator = write(image_spec(conditional=conditional)).build()
    model = StageExecutor("m", CpuRunner(generator, f"test {conditional}"), Calibration("bitwise", {16: 1.0}))
    everything = seeds_to_rows(generator.spec, range(48))
    expected = generate_rows(generator, everything)
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


def test_the_engine_imports_neither_http_nor_bentoml() -> None:
    modules = loaded("import latentd.service.engine, latentd.service.engine.cpu, latentd.service.engine.cuda")
    assert "latentd.service.engine.delivery" in modules
    assert not modules & {"starlette", "uvicorn", "bentoml", "http.server"}
