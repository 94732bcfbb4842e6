"""A query that is computed: the answer as one body, or as a stream of events."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from typing import Any

import orjson

from latentd.models.hardware import core_count
from latentd.service.catalog import Catalog
from latentd.service.context import current_context
from latentd.service.engine import Engine, EngineClosedError, NotFiniteError, QueueFullError, StageExecutor
from latentd.service.errors import ApiError, ErrorAnswer, invalid, too_busy
from latentd.service.queries.query import SampleQuery
from latentd.service.samples.chunks import CHUNK_SIZE, Finish, collect, run_in_chunks
from latentd.service.samples.latent_batch import LatentBatch, build_latent_batch
from latentd.service.samples.response_body import (
    answer_fields,
    build_body,
    combined_file,
    combined_json,
    encoder,
    sample_json,
)

_ANIMATION_THREADS = ThreadPoolExecutor(core_count(), thread_name_prefix="latentd-animation")
"""Encoding an animation takes seconds, and much memory. Threads of their own limit how many are encoded at the same
time, and nothing else waits for them."""


@dataclass
class SampleJob:
    """A query whose latents are computed, and whose model is on the device."""

    batch: LatentBatch
    executor: StageExecutor
    engine: Engine
    samples_left: int
    """The number of samples that `events` has not yielded yet."""

    async def body(self) -> bytes:
        """Return the body of the answer."""
        query = self.batch.query
        if query.chunked:
            return await self._body_from_chunks()
        with _engine_errors_as_api_errors(query):
            body: bytes = await self.engine.submit(
                self.executor, self.batch.rows, encoder(query), lambda results: build_body(self.batch, results)
            )
        return body

    async def _body_from_chunks(self) -> bytes:
        query = self.batch.query
        with _engine_errors_as_api_errors(query):
            results = await collect(self.engine, self.executor, self.batch.rows, encoder(query))
        if query.response_format.animated:
            return await _on_animation_thread(build_body, self.batch, results)
        return await asyncio.to_thread(build_body, self.batch, results)

    async def events(self) -> AsyncGenerator[bytes]:
        """Yield the answer as server-sent events: `start`, then each `frame`, then `done`.

        An animation has `progress` events and one `animation` event instead of frames.
        """
        query = self.batch.query
        facts = answer_fields(query) | {"fingerprint": query.model.fingerprint_id, "total": query.num_samples}
        yield _event("start", facts)
        async with aclosing(self._animation_events() if query.response_format.animated else self._frames()) as events:
            async for event in events:
                yield event
        yield _event("done", {"total": query.num_samples})

    async def _frames(self) -> AsyncGenerator[bytes]:
        batch = self.batch

        def frames(first: int, results: list[Any]) -> list[bytes]:
            return [_raw_event("frame", sample_json(batch, first + index, file)) for index, file in enumerate(results)]

        async with aclosing(self._chunks(frames)) as chunks:
            async for chunk in chunks:
                for frame in chunk:
                    self.samples_left -= 1
                    yield frame

    async def _animation_events(self) -> AsyncGenerator[bytes]:
        total, frame_data = self.batch.query.num_samples, []
        async with aclosing(self._chunks(lambda _, results: results)) as chunks:
            async for chunk in chunks:
                frame_data += chunk
                yield _event("progress", {"done": len(frame_data), "total": total})
        event = await _on_animation_thread(_animation_event, self.batch, frame_data)
        self.samples_left = 0
        yield event

    async def _chunks(self, finish: Finish) -> AsyncGenerator[Any]:
        query = self.batch.query
        with _engine_errors_as_api_errors(query):
            chunks = run_in_chunks(self.engine, self.executor, self.batch.rows, encoder(query), finish)
            async with aclosing(chunks):
                async for chunk in chunks:
                    yield chunk


async def prepare_job(query: SampleQuery, catalog: Catalog, engine: Engine) -> SampleJob:
    """Load the query's model if necessary, and compute the latents. Raises ApiError if that fails."""
    with _engine_errors_as_api_errors(query):
        deployment = await catalog.ensure_deployed(query.model)
        batch = await build_latent_batch(query, deployment, engine)
        return SampleJob(batch, deployment.last, engine, query.num_samples)


def reserved_samples(query: SampleQuery) -> int:
    """Return how many samples are in the queue at the same time. Later chunks of a long request wait outside of it."""
    return min(query.num_samples, CHUNK_SIZE) if query.chunked else query.num_samples


def error_event(problem: ApiError) -> bytes:
    """Return the event that ends a stream early."""
    current_context().code = problem.code
    return _raw_event("error", ErrorAnswer.of(problem).model_dump_json().encode())


@contextmanager
def _engine_errors_as_api_errors(query: SampleQuery) -> Iterator[None]:
    try:
        yield
    except QueueFullError as problem:
        raise too_busy(str(problem), retry_after=1) from problem
    except EngineClosedError as problem:
        raise ApiError(503, "shutting_down", str(problem)) from problem
    except NotFiniteError as problem:
        if query.edit is not None:
            raise invalid(
                "directions", "these amounts lead to a sample that is not finite; use smaller ones"
            ) from problem
        if all(source.seed is not None for source in query.sources):
            raise
        message = "they lead to a sample that is not finite; use inputs like those that the model was trained with"
        raise invalid(query.error_field, message) from problem


async def _on_animation_thread(task: Callable[..., bytes], *arguments: Any) -> bytes:
    return await asyncio.get_running_loop().run_in_executor(_ANIMATION_THREADS, task, *arguments)


def _animation_event(batch: LatentBatch, frame_data: list[Any]) -> bytes:
    return _raw_event("animation", combined_json(batch, combined_file(batch.query, frame_data)))


def _event(name: str, data: dict[str, Any]) -> bytes:
    return _raw_event(name, orjson.dumps(data))


def _raw_event(name: str, data: bytes) -> bytes:
    return b"event: " + name.encode() + b"\ndata: " + data + b"\n\n"
