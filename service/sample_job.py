"""From a plan to its answer, as a whole or piece by piece."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from typing import Any

import orjson

from latentd.models.hardware import core_count
from latentd.service.answers import assemble, combined_file, combined_json, encoder, entry, head
from latentd.service.catalog import Catalog
from latentd.service.chunks import CHUNK_SIZE, Finish, collect, run_in_chunks
from latentd.service.context import current_context
from latentd.service.engine import Engine, EngineClosedError, NotFiniteError, QueueFullError, StageExecutor
from latentd.service.errors import ApiError, invalid, too_busy
from latentd.service.latent_batch import LatentBatch, build_latent_batch
from latentd.service.queries.query import SampleQuery

_FILM_THREADS = ThreadPoolExecutor(core_count(), thread_name_prefix="latentd-film")
"""Films take seconds and memory: so many at a time, and nothing else waits behind them."""


@dataclass
class SampleJob:
    """A plan whose samples are placed, on a model that is ready."""

    batch: LatentBatch
    executor: StageExecutor
    engine: Engine
    samples_left: int
    """Those that `events` has not given yet."""

    async def body(self) -> bytes:
        """The answer's body."""
        batch = self.batch
        if batch.query.chunked:
            return await self._gathered()
        with _api_errors(batch.query):
            body: bytes = await self.engine.submit(
                self.executor, batch.rows, encoder(batch.query), lambda results: assemble(batch, results)
            )
        return body

    async def _gathered(self) -> bytes:
        """The same, for more samples than should be queued at a time."""
        query = self.batch.query
        with _api_errors(query):
            results = await collect(self.engine, self.executor, self.batch.rows, encoder(query))
        if query.response_format.animated:
            return await _film(assemble, self.batch, results)
        return await asyncio.to_thread(assemble, self.batch, results)

    async def events(self) -> AsyncGenerator[bytes]:
        """The answer as server-sent events: `frame`s or, for an animation, its `progress`, and then `done`."""
        query = self.batch.query
        yield _event("start", _facts(query) | {"total": query.num_samples})
        pieces = self._sketched() if query.response_format.animated else self._entries()
        async with aclosing(pieces):
            async for piece in pieces:
                yield piece
        yield _event("done", {"total": query.num_samples})

    async def _entries(self) -> AsyncGenerator[bytes]:
        batch = self.batch

        def encoded(first: int, results: list[Any]) -> list[bytes]:
            return [_raw_event("frame", entry(batch, first + index, file)) for index, file in enumerate(results)]

        async with aclosing(self._in_order(encoded)) as pieces:
            async for piece in pieces:
                for frame in piece:
                    self.samples_left -= 1
                    yield frame

    async def _sketched(self) -> AsyncGenerator[bytes]:
        total, frame_data = self.batch.query.num_samples, []
        async with aclosing(self._in_order(lambda _, results: results)) as pieces:
            async for piece in pieces:
                frame_data += piece
                yield _event("progress", {"done": len(frame_data), "total": total})
        film = await _film(_animation_event, self.batch, frame_data)
        self.samples_left = 0
        yield film

    async def _in_order(self, finish: Finish) -> AsyncGenerator[Any]:
        query = self.batch.query
        pieces = run_in_chunks(self.engine, self.executor, self.batch.rows, encoder(query), finish)
        with _api_errors(query):
            async with aclosing(pieces):
                async for piece in pieces:
                    yield piece


async def _film(task: Callable[..., bytes], *arguments: Any) -> bytes:
    return await asyncio.get_running_loop().run_in_executor(_FILM_THREADS, task, *arguments)


async def prepare_job(query: SampleQuery, catalog: Catalog, engine: Engine) -> SampleJob:
    """Place the samples of `plan`. ApiError says what is in the way."""
    with _api_errors(query):
        engine.require_room(min(query.num_samples, CHUNK_SIZE) if query.chunked else query.num_samples)
        deployment = await catalog.ensure_deployed(query.model)
        batch = await build_latent_batch(query, deployment, engine)
        return SampleJob(batch, deployment.synthesis_executor, engine, query.num_samples)


@contextmanager
def _api_errors(query: SampleQuery) -> Iterator[None]:
    """What the engine raises, as an answer to the client."""
    try:
        yield
    except QueueFullError as problem:
        raise too_busy(str(problem), problem.retry_after) from problem
    except EngineClosedError as problem:
        raise ApiError(503, "shutting_down", str(problem)) from problem
    except NotFiniteError as problem:
        if query.edit is not None:
            raise invalid("directions", "they lead to a sample that is not finite; go less far") from problem
        if all(source.latent is None for source in query.sources):
            raise
        message = "they lead to a sample that is not finite; keep near what seeds give"
        raise invalid(query.error_field, message) from problem


def _facts(query: SampleQuery) -> dict[str, Any]:
    return head(query) | {"fingerprint": query.model.fingerprint_id}


def _event(name: str, data: dict[str, Any]) -> bytes:
    return _raw_event(name, orjson.dumps(data))


def _animation_event(batch: LatentBatch, frame_data: list[Any]) -> bytes:
    return _raw_event("animation", combined_json(batch, combined_file(batch.query, frame_data)))


def _raw_event(name: str, data: bytes) -> bytes:
    return b"event: " + name.encode() + b"\ndata: " + data + b"\n\n"


def error_event(problem: ApiError) -> bytes:
    """Return the event that ends a stream early."""
    current_context().code = problem.code
    return _event("error", problem.body())
