"""Many rows through the engine a few at a time: in order, without filling its queue, for as long as somebody reads."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any

from latentd.models.sampling import StageInput
from latentd.service.engine import Engine, StageExecutor
from latentd.service.engine.fair_queue import Encode

CHUNK_SIZE = 16
"""StageInput that are queued together; the engine joins pieces to larger batches."""
_PIECES_AHEAD = 8
"""Enough to keep a device busy; so many are in memory at a time."""
_WAIT_SECONDS = 0.02

Finish = Callable[[int, list[Any]], Any]


async def run_in_chunks(
    engine: Engine, executor: StageExecutor, rows: StageInput, encode: Encode, finish: Finish
) -> AsyncGenerator[Any, None]:
    """What `finish` makes, on a thread, of each piece's first index and results.

    Raises as Engine.submit and its future do. Beyond the first, pieces wait while the queue is crowded: what comes in
    pieces leaves room for what cannot.
    """
    starts = deque(range(0, len(rows), CHUNK_SIZE))
    under_way: deque[asyncio.Future[Any]] = deque()

    def submit(start: int) -> "asyncio.Future[Any]":
        return engine.submit(executor, rows[start : start + CHUNK_SIZE], encode, lambda results: finish(start, results))

    try:
        while starts or under_way:
            while starts and len(under_way) < _PIECES_AHEAD and (starts[0] == 0 or not engine.crowded):
                under_way.append(submit(starts.popleft()))
            if under_way:
                yield await under_way.popleft()
            else:
                await asyncio.sleep(_WAIT_SECONDS)
    finally:
        for future in under_way:
            future.cancel()


async def collect(engine: Engine, executor: StageExecutor, rows: StageInput, encode: Encode) -> list[Any]:
    """All results, in order."""
    results: list[Any] = []
    async with aclosing(run_in_chunks(engine, executor, rows, encode, lambda _, piece: piece)) as pieces:
        async for piece in pieces:
            results += piece
    return results
