"""From a plan to its answer, as a whole or piece by piece."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from typing import Any

import orjson

from models.hardware import core_count
from models.outputs.animation import animate
from service.answers import assemble, encoder, entry, whole_entry
from service.catalog import Catalog
from service.engine import Engine, EngineClosedError, NotFiniteError, QueueFullError, Replica
from service.errors import ApiError, invalid, too_busy
from service.naming import answer_name
from service.plans.plan import Plan
from service.points import Points, lay_out

_PIECE = 16
"""Samples that are queued together where they are wanted in order; the engine joins pieces to larger batches."""
_PIECES_AHEAD = 8
"""Enough to keep a device busy; so many samples of a stream are in memory at a time."""


_FILM_THREADS = ThreadPoolExecutor(core_count(), thread_name_prefix="latentd-film")
"""Films take seconds and memory: so many at a time, and nothing else waits behind them."""


@dataclass(frozen=True)
class Job:
    """A plan whose samples are placed, on a model that is ready."""

    points: Points
    replica: Replica
    engine: Engine

    async def whole(self) -> bytes:
        """The answer's body."""
        points = self.points
        if points.plan.gradual:
            return await self._gathered()
        with _plain_errors(points.plan):
            body: bytes = await self.engine.submit(
                self.replica, points.rows, encoder(points.plan), lambda results: assemble(points, results)
            )
        return body

    async def _gathered(self) -> bytes:
        """The same, for more samples than should be queued at a time."""
        gathered: list[Any] = []
        async with aclosing(self._in_order(lambda first, results: results)) as pieces:
            async for piece in pieces:
                gathered += piece
        return await _beside(assemble, self.points, gathered)

    async def events(self) -> AsyncGenerator[bytes]:
        """The answer as server-sent events: `frame`s or, for an animation, its `progress`, and then `done`."""
        plan = self.points.plan
        yield _event("start", _facts(plan) | {"total": plan.num_samples})
        pieces = self._sketched() if plan.shape.moving else self._entries()
        async with aclosing(pieces):
            async for piece in pieces:
                yield piece
        yield _event("done", {"total": plan.num_samples})

    async def _entries(self) -> AsyncGenerator[bytes]:
        points = self.points

        def encoded(first: int, results: list[Any]) -> list[bytes]:
            return [_raw_event("frame", entry(points, first + index, file)) for index, file in enumerate(results)]

        async with aclosing(self._in_order(encoded)) as pieces:
            async for piece in pieces:
                for frame in piece:
                    yield frame

    async def _sketched(self) -> AsyncGenerator[bytes]:
        plan, sketches = self.points.plan, []
        async with aclosing(self._in_order(lambda first, results: results)) as pieces:
            async for piece in pieces:
                sketches += piece
                yield _event("progress", {"done": len(sketches), "total": plan.num_samples})
        assert plan.projection is not None  # noqa: S101  # a moving shape has one
        frames = plan.spec.output.draw(sketches)
        film = await _beside(animate, frames, plan.shape.format, plan.projection, answer_name(plan))
        yield _raw_event("animation", whole_entry(self.points, film))

    async def _in_order(self, finish: Callable[[int, list[Any]], list[Any]]) -> AsyncGenerator[list[Any]]:
        """What `finish` makes of each piece's first index and results, in order, with a few pieces under way."""
        plan, rows = self.points.plan, self.points.rows
        starts = deque(range(0, len(rows), _PIECE))
        under_way: deque[asyncio.Future[list[Any]]] = deque()

        def submit(start: int) -> "asyncio.Future[list[Any]]":
            part = rows[start : start + _PIECE]
            return self.engine.submit(self.replica, part, encoder(plan), lambda results: finish(start, results))

        try:
            with _plain_errors(plan):
                while starts or under_way:
                    while starts and len(under_way) < _PIECES_AHEAD:
                        try:
                            under_way.append(submit(starts[0]))
                        except QueueFullError as problem:
                            if under_way:
                                break  # there is room once these are done
                            if starts[0] == 0:
                                raise
                            await asyncio.sleep(problem.retry_after)
                        else:
                            starts.popleft()
                    if under_way:
                        yield await under_way.popleft()
        finally:
            for future in under_way:
                future.cancel()


async def _beside(task: Callable[..., bytes], *arguments: Any) -> bytes:
    return await asyncio.get_running_loop().run_in_executor(_FILM_THREADS, task, *arguments)


async def begin(plan: Plan, catalog: Catalog, engine: Engine) -> Job:
    """Place the samples of `plan`. ApiError says what is in the way."""
    with _plain_errors(plan):
        engine.require_room(min(plan.num_samples, _PIECE) if plan.gradual else plan.num_samples)
        deployment = await catalog.ready(plan.model)
        points = await lay_out(plan, deployment, engine)
        return Job(points, deployment.synthesis, engine)


@contextmanager
def _plain_errors(plan: Plan) -> Iterator[None]:
    """What the engine raises, as an answer to the client."""
    try:
        yield
    except QueueFullError as problem:
        raise too_busy(str(problem), problem.retry_after) from problem
    except EngineClosedError as problem:
        raise ApiError(503, "shutting_down", str(problem)) from problem
    except NotFiniteError as problem:
        if all(source.latent is None for source in plan.sources):
            raise
        raise invalid(plan.at_fault, "they lead to a sample that is not finite; keep near what seeds give") from problem


def _facts(plan: Plan) -> dict[str, Any]:
    model = plan.model
    return {
        "model": model.name,
        "version": model.version,
        "fingerprint": model.fingerprint_id,
        "format": plan.shape.format,
    }


def _event(name: str, data: dict[str, Any]) -> bytes:
    return _raw_event(name, orjson.dumps(data))


def _raw_event(name: str, data: bytes) -> bytes:
    return b"event: " + name.encode() + b"\ndata: " + data + b"\n\n"


def error_event(problem: ApiError) -> bytes:
    """What ends a stream that cannot go on."""
    return _raw_event("error", bytes(problem.response().body))
