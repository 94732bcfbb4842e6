"""Many rows go through the engine in chunks: in order, without filling its queue, and only as fast as they are read."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any

from latentd.models.stage_input import StageInput
from latentd.service.engine import Engine, StageExecutor
from latentd.service.engine.fair_queue import Encode

CHUNK_SIZE = 16
"""Rows that are queued together. The engine joins chunks into larger batches."""
_MAX_CHUNKS = 8
"""Chunks of a request in progress: enough to keep a device busy, and a limit on memory."""
_POLL_SECONDS = 0.02

Finish = Callable[[int, list[Any]], Any]
"""(index of a chunk's first row, results of the chunk) → what is yielded. Runs on a thread."""


async def run_in_chunks(
    engine: Engine, executor: StageExecutor, rows: StageInput, encode: Encode, finish: Finish
) -> AsyncGenerator[Any, None]:
    """Yield what `finish` returns for each chunk, in order.

    While the queue is crowded, all chunks but the first one wait outside of it, so that other requests find space.
    Raises the exceptions of Engine.submit and of its future.
    """
    starts = deque(range(0, len(rows), CHUNK_SIZE))
    in_progress: deque[asyncio.Future[Any]] = deque()

    def submit(start: int) -> "asyncio.Future[Any]":
        return engine.submit(executor, rows[start : start + CHUNK_SIZE], encode, lambda results: finish(start, results))

    try:
        while starts or in_progress:
            while starts and len(in_progress) < _MAX_CHUNKS and (starts[0] == 0 or not engine.crowded):
                in_progress.append(submit(starts.popleft()))
            if in_progress:
                yield await in_progress.popleft()
            else:
                await asyncio.sleep(_POLL_SECONDS)
    finally:
        for future in in_progress:
            future.cancel()


async def collect(engine: Engine, executor: StageExecutor, rows: StageInput, encode: Encode) -> list[Any]:
    """Return the results of all rows, in order."""
    results: list[Any] = []
    async with aclosing(run_in_chunks(engine, executor, rows, encode, lambda _, chunk: chunk)) as chunks:
        async for chunk in chunks:
            results += chunk
    return results
