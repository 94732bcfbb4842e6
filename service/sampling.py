"""From a plan to its answer, as a whole or piece by piece."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from typing import Any

import orjson

from latentd.models.hardware import core_count
from latentd.service.answers import assemble, encoder, entry, head, whole_entry, whole_file
from latentd.service.catalog import Catalog
from latentd.service.chunks import PIECE, Finish, gathered, in_order
from latentd.service.engine import Engine, EngineClosedError, NotFiniteError, QueueFullError, StageExecutor
from latentd.service.errors import ApiError, invalid, too_busy
from latentd.service.latent_batch import LatentBatch, lay_out
from latentd.service.observability.context import current_entry
from latentd.service.plans.query import SampleQuery

_FILM_THREADS = ThreadPoolExecutor(core_count(), thread_name_prefix="latentd-film")
"""Films take seconds and memory: so many at a time, and nothing else waits behind them."""


@dataclass
class Job:
    """A plan whose samples are placed, on a model that is ready."""

    points: LatentBatch
    executor: StageExecutor
    engine: Engine
    samples_left: int
    """Those that `events` has not given yet."""

    async def whole(self) -> bytes:
        """The answer's body."""
        points = self.points
        if points.plan.gradual:
            return await self._gathered()
        with _plain_errors(points.plan):
            body: bytes = await self.engine.submit(
                self.executor, points.rows, encoder(points.plan), lambda results: assemble(points, results)
            )
        return body

    async def _gathered(self) -> bytes:
        """The same, for more samples than should be queued at a time."""
        plan = self.points.plan
        with _plain_errors(plan):
            results = await gathered(self.engine, self.executor, self.points.rows, encoder(plan))
        if plan.shape.moving:
            return await _film(assemble, self.points, results)
        return await asyncio.to_thread(assemble, self.points, results)

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
                    self.samples_left -= 1
                    yield frame

    async def _sketched(self) -> AsyncGenerator[bytes]:
        total, frame_data = self.points.plan.num_samples, []
        async with aclosing(self._in_order(lambda _, results: results)) as pieces:
            async for piece in pieces:
                frame_data += piece
                yield _event("progress", {"done": len(frame_data), "total": total})
        film = await _film(_animation_event, self.points, frame_data)
        self.samples_left = 0
        yield film

    async def _in_order(self, finish: Finish) -> AsyncGenerator[Any]:
        plan = self.points.plan
        pieces = in_order(self.engine, self.executor, self.points.rows, encoder(plan), finish)
        with _plain_errors(plan):
            async with aclosing(pieces):
                async for piece in pieces:
                    yield piece


async def _film(task: Callable[..., bytes], *arguments: Any) -> bytes:
    return await asyncio.get_running_loop().run_in_executor(_FILM_THREADS, task, *arguments)


async def begin(plan: SampleQuery, catalog: Catalog, engine: Engine) -> Job:
    """Place the samples of `plan`. ApiError says what is in the way."""
    with _plain_errors(plan):
        engine.require_room(min(plan.num_samples, PIECE) if plan.gradual else plan.num_samples)
        deployment = await catalog.ready(plan.model)
        points = await lay_out(plan, deployment, engine)
        return Job(points, deployment.synthesis, engine, plan.num_samples)


@contextmanager
def _plain_errors(plan: SampleQuery) -> Iterator[None]:
    """What the engine raises, as an answer to the client."""
    try:
        yield
    except QueueFullError as problem:
        raise too_busy(str(problem), problem.retry_after) from problem
    except EngineClosedError as problem:
        raise ApiError(503, "shutting_down", str(problem)) from problem
    except NotFiniteError as problem:
        if plan.shift is not None:
            raise invalid("directions", "they lead to a sample that is not finite; go less far") from problem
        if all(source.latent is None for source in plan.sources):
            raise
        raise invalid(plan.at_fault, "they lead to a sample that is not finite; keep near what seeds give") from problem


def _facts(plan: SampleQuery) -> dict[str, Any]:
    return head(plan) | {"fingerprint": plan.model.fingerprint_id}


def _event(name: str, data: dict[str, Any]) -> bytes:
    return _raw_event(name, orjson.dumps(data))


def _animation_event(points: LatentBatch, frame_data: list[Any]) -> bytes:
    return _raw_event("animation", whole_entry(points, whole_file(points.plan, frame_data)))


def _raw_event(name: str, data: bytes) -> bytes:
    return b"event: " + name.encode() + b"\ndata: " + data + b"\n\n"


def error_event(problem: ApiError) -> bytes:
    """Return the event that ends a stream early."""
    current_entry().code = problem.code
    return _event("error", problem.body())
