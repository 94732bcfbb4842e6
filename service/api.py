"""What the HTTP API answers: a function a route. Everything about samples is elsewhere."""

import asyncio
import logging
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import aclosing
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, TypeVar

import orjson
from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.types import Message, Send

from latentd.models.directions import direction_space
from latentd.models.outputs.animation import MEDIA_TYPES
from latentd.service.catalog import Catalog, ServedModel
from latentd.service.context import current_client, current_context
from latentd.service.endpoints import Endpoint
from latentd.service.engine import Engine, Room
from latentd.service.errors import ApiError, invalid, raise_invalid
from latentd.service.guard.auth import charge
from latentd.service.guard.body import RECEIVING, check_values, read_body
from latentd.service.guard.turns import Turns
from latentd.service.negotiate import EVENTS, JSON
from latentd.service.observability.spans import Tracing
from latentd.service.provenance import request_header
from latentd.service.queries.query import SampleQuery
from latentd.service.sample_job import SampleJob, error_event, prepare_job
from latentd.service.settings import Settings
from latentd.service.telemetry import Telemetry

logger = logging.getLogger("latentd.http")

_BODIES_HELD = 16
"""Of the largest size, at a time: small ones are hardly ever that many, and large ones would fill the memory."""
_STREAM_HEADERS = {"Content-Type": EVENTS, "Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
"""The last keeps nginx from holding events back."""
_T = TypeVar("_T")
_Body = TypeVar("_Body", bound=BaseModel)


@dataclass(frozen=True)
class Runtime:
    """What the routes work with, once the service has started."""

    settings: Settings
    catalog: Catalog
    engine: Engine
    telemetry: Telemetry
    tracing: Tracing | None = None
    """None: no exporter of spans is configured."""

    @cached_property
    def places(self) -> Room:
        """Of requests under way."""
        return Room(self.settings.max_requests)

    @cached_property
    def bodies(self) -> Room:
        """In bytes, of requests that are not over."""
        return Room(_BODIES_HELD * self.settings.max_body)

    @cached_property
    def turns(self) -> Turns:
        """For the work between a request's body and its answer."""
        return Turns()

    @property
    def ready(self) -> bool:
        """Whether there is a model to serve, and what serves it."""
        return bool(self.catalog.models) and self.engine.alive


Handler = Callable[[Runtime, Request], Awaitable[Response]]


@dataclass(frozen=True)
class Answer:
    """Samples that were computed, as `/generate` and its like would answer."""

    job: SampleJob
    body: bytes

    @property
    def headers(self) -> dict[str, str]:
        """What names the samples."""
        return _headers(self.job)


Responder = Callable[[Answer], Awaitable[Response]]
"""How an answer is put to whoever asked."""


class ParsedRequest(NamedTuple):
    """What a request was found to want."""

    query: SampleQuery
    put: Responder


RequestParser = Callable[[Runtime, Request, bytes], ParsedRequest]
"""From a request and its body to what it wants; ApiError says what is wrong with it."""


def in_our_words(endpoint: Endpoint) -> RequestParser:
    """Samples as JSON, as the bytes themselves, or as a stream of events."""

    def understand(runtime: Runtime, request: Request, body: bytes) -> ParsedRequest:
        asked = parsed(endpoint.body, body, runtime)
        accept = ", ".join(request.headers.getlist("accept"))
        return ParsedRequest(endpoint.to_query(asked, accept, runtime.catalog, runtime.settings), _as_it_is)

    return understand


def parsed(kind: type[_Body], body: bytes, runtime: Runtime) -> _Body:
    """A body of JSON; ApiError 400 names the field at fault."""
    check_values(body, runtime.settings.max_samples, runtime.catalog.models)
    try:
        return kind.model_validate_json(body)
    except ValidationError as problem:
        raise_invalid(problem)


async def _as_it_is(answer: Answer) -> Response:
    return Response(answer.body, media_type=answer.job.batch.query.response_format.media_type, headers=answer.headers)


def answering(understand: RequestParser, raw: bool = False) -> Handler:
    """Answers with samples what `understand` makes of a request, whose body may be `raw` bytes instead of JSON."""

    async def answer(runtime: Runtime, request: Request) -> Response:
        settings = runtime.settings
        seconds = _seconds_allowed(request, settings.timeout)
        context = current_context()
        body: bytes | None = None

        async def work(body: bytes) -> tuple[SampleJob, bytes | None, Responder]:
            async with runtime.turns.turn(current_client()):
                query, put = understand(runtime, request, body)
                request.state.model = query.model.name
                context.model, context.samples = f"{query.model.name}@{query.model.version}", query.num_samples
                charge(request.scope, query.num_samples, runtime.engine.seconds_for)
                return *await _carry_out(query, runtime), put

        try:
            async with asyncio.timeout(seconds) as limit:
                request.scope[RECEIVING] = limit
                body = await read_body(request, settings.max_body, raw)
                job, whole, put = await _while_connected(request, work(body))
        except TimeoutError as problem:
            patience = min(settings.receive_timeout, settings.timeout)
            if body is None and patience <= seconds:  # and not a deadline that the request had set
                message = f"the body did not come within {patience:g} seconds"
                raise ApiError(408, "request_timeout", message) from problem
            runtime.telemetry.expired_samples.add(amount=context.samples or 0)
            if seconds < runtime.settings.timeout:
                runtime.telemetry.own_deadlines.add()
            raise _timed_out(seconds) from problem
        except ClientDisconnect:
            runtime.telemetry.abandoned_samples.add(amount=context.samples or 0)
            raise
        if whole is None:
            events = _in_time(job, seconds, runtime.telemetry)
            return _EventStream(events, seconds, _headers(job) | _STREAM_HEADERS)
        return await put(Answer(job, whole))

    return answer


async def answer_in_process(runtime: Runtime, endpoint: Endpoint, fields: dict[str, Any]) -> dict[str, Any]:
    """What the JSON of an answer over HTTP holds."""
    query = endpoint.to_query(endpoint.body(**fields), "", runtime.catalog, runtime.settings)
    _, whole = await _carry_out(query, runtime)
    answer: dict[str, Any] = orjson.loads(whole or b"")
    return answer


async def _carry_out(query: SampleQuery, runtime: Runtime) -> tuple[SampleJob, bytes | None]:
    """The answer's body; None where it is to be streamed."""
    job = await prepare_job(query, runtime.catalog, runtime.engine)
    return job, None if query.response_format.streamed else await job.body()


class _EventStream(StreamingResponse):
    """Events that the client has to read: one that does not take the next in time is left."""

    def __init__(self, events: AsyncIterator[bytes], seconds: float, headers: dict[str, str]) -> None:
        super().__init__(events, headers=headers)
        self._seconds = seconds

    async def stream_response(self, send: Send) -> None:
        async def send_in_time(message: Message) -> None:
            async with asyncio.timeout(self._seconds):
                await send(message)

        try:
            await super().stream_response(send_in_time)
        except TimeoutError:
            logger.info("a client took nothing of its stream for %g seconds", self._seconds)


async def _in_time(job: SampleJob, seconds: float, telemetry: Telemetry) -> AsyncIterator[bytes]:
    """The events of `job`, each of which may take `seconds`; an error is the last of them."""
    try:
        async with aclosing(job.events()) as events:
            while True:
                async with asyncio.timeout(seconds):
                    event = await anext(events)
                yield event
    except StopAsyncIteration:
        return
    except (asyncio.CancelledError, GeneratorExit):
        telemetry.abandoned_samples.add(amount=job.samples_left)
        raise
    except TimeoutError:
        telemetry.expired_samples.add(amount=job.samples_left)
        yield error_event(_timed_out(seconds))
    except ApiError as problem:
        telemetry.rejections.add(problem.code)
        yield error_event(problem)
    except Exception:
        logger.exception("a stream failed")
        yield error_event(ApiError(500, "internal_server_error", "the samples could not be computed"))


def _timed_out(seconds: float) -> ApiError:
    return ApiError(504, "timeout", f"not done within {seconds:g} seconds")


async def list_models(runtime: Runtime, request: Request) -> Response:
    """What is served, and which files are not."""
    del request
    catalog = runtime.catalog
    return JSONResponse(
        {
            "default": catalog.default.name if catalog.default else None,
            "models": [_describe(catalog.models[name], runtime.settings) for name in sorted(catalog.models)],
            "failures": [{"file": failure.file, "error": failure.error} for failure in catalog.failures],
        }
    )


async def show_model(runtime: Runtime, request: Request) -> Response:
    """A model's card, limits and determinism."""
    return JSONResponse(_describe(runtime.catalog.find(request.path_params["name"]), runtime.settings))


async def list_directions(runtime: Runtime, request: Request) -> Response:
    """A model's directions, for sliders; none of a model that has none."""
    model = runtime.catalog.find(request.path_params["name"])
    found = model.directions
    return JSONResponse(
        {
            "model": model.name,
            "version": model.version,
            "directions_version": model.directions_version,
            "space": found.card.space if found else direction_space(model.card.spec)[0],
            "directions": [each.model_dump() for each in found.card.directions] if found else [],
        }
    )


async def show_surface(runtime: Runtime, request: Request) -> Response:
    """What a model's discriminator thought of the plane; row 0 has the lowest y."""
    model = runtime.catalog.find(request.path_params["name"])
    if model.decision_surface is None:
        raise ApiError(404, "no_surface", f"no discriminator's surface lies beside {model.name}")
    return JSONResponse(
        {
            "model": model.name,
            "version": model.version,
            "extent": model.decision_surface.extent,
            "values": model.decision_surface.logits.tolist(),
        }
    )


def _describe(model: ServedModel, settings: Settings) -> dict[str, Any]:
    return {
        "name": model.name,
        "version": model.version,
        "directions_version": model.directions_version,
        "surface": model.decision_surface is not None,
        "formats": list(model.card.spec.output.media_types),
        "films": MEDIA_TYPES if model.card.spec.output.frame_size else {},
        "limits": {"max_samples": settings.max_samples, "max_frames": settings.max_frames},
        "determinism": {
            "mode": model.fingerprint["determinism"],
            "sizes": model.batch_sizes,
            "fingerprint": model.fingerprint,
            "fingerprint_id": model.fingerprint_id,
        },
        "card": model.card.model_dump(mode="json"),
    }


def _seconds_allowed(request: Request, most: float) -> float:
    """What X-Request-Timeout asks for, in seconds, if it is less than `most`."""
    asked = request.headers.get("x-request-timeout")
    if asked is None:
        return most
    try:
        seconds = float(asked)
    except ValueError:
        seconds = math.nan
    if not seconds > 0:
        raise invalid(None, f"X-Request-Timeout is a number of seconds above 0, not {asked!r}")
    return min(seconds, most)


async def _while_connected(request: Request, work: Coroutine[Any, Any, _T]) -> _T:
    """Do `work`, or stop it where the client leaves; its rows then leave the queue. Raises ClientDisconnect."""
    task = asyncio.current_task()
    assert task is not None  # noqa: S101  # we are in a coroutine
    left = finished = False

    def stop(_: object) -> None:
        nonlocal left
        if not finished:
            left = True
            task.cancel()

    leaving = asyncio.ensure_future(request.receive())  # the body was read, so the next message is that
    leaving.add_done_callback(stop)
    try:
        return await work
    except asyncio.CancelledError:
        if left and task.uncancel() == 0:  # not cancelled by anyone else
            raise ClientDisconnect from None
        raise
    finally:
        finished = True
        leaving.cancel()


def _headers(job: SampleJob) -> dict[str, str]:
    query = job.batch.query
    headers = {
        "X-Latentd-Model": query.model.name,
        "X-Latentd-Version": query.model.version,
        "X-Latentd-Fingerprint": query.model.fingerprint_id,
    }
    if job.batch.seeds is not None:
        headers["X-Latentd-Seeds"] = ",".join(map(str, job.batch.seeds))
    if query.edit is not None:
        headers["X-Latentd-Directions"] = query.edit.version
    if query.response_format.media_type not in (JSON, EVENTS):
        headers["X-Latentd-Request"] = request_header(query)
    return headers
