"""From a request for samples to its answer: the part that all routes with a body share.

A route brings a parser, which makes a query of the request, and a responder, which makes a response of the samples.
"""

import asyncio
import logging
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import orjson
from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Message, Send

from latentd.models.hardware import core_count
from latentd.service.admission import Ticket
from latentd.service.catalog import Catalog
from latentd.service.content_negotiation import EVENTS, JSON
from latentd.service.context import RequestContext, current_context
from latentd.service.errors import ApiError, invalid, raise_invalid
from latentd.service.form_body import is_form, parse_form
from latentd.service.guard.body import check_value_count, read_body, without_byte_order_mark
from latentd.service.queries.query import SampleQuery
from latentd.service.route import Handler, InProcess
from latentd.service.runtime import Runtime
from latentd.service.samples.job import SampleJob, error_event, prepare_job, reserved_samples
from latentd.service.samples.provenance_text import request_header, seeds_header
from latentd.service.settings import Settings

logger = logging.getLogger("latentd.http")

_STREAM_HEADERS = {"Content-Type": EVENTS, "Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
"""The last keeps nginx from holding events back."""
_T = TypeVar("_T")
_Body = TypeVar("_Body", bound=BaseModel)


@dataclass(frozen=True)
class FinishedJob:
    """Samples that were computed, and the body that `/generate` and its like answer."""

    job: SampleJob
    body: bytes

    @property
    def headers(self) -> dict[str, str]:
        """The headers that name the samples."""
        return _headers(self.job)


Responder = Callable[[FinishedJob], Awaitable[Response]]
"""Makes the response of the samples."""


class ParsedRequest(NamedTuple):
    """What a request asks for, and how it wants to be answered."""

    query: SampleQuery
    respond: Responder


ToQuery = Callable[[Any, str, Catalog, Settings], SampleQuery]
"""(body, Accept header, catalog, settings) → query. Raises ApiError if the body does not fit the model it names."""

RequestParser = Callable[[Runtime, Request, bytes], ParsedRequest | Awaitable[ParsedRequest]]
"""Makes a query of a request and its body. Raises ApiError if they are wrong."""

_PARSERS = ThreadPoolExecutor(core_count(), thread_name_prefix="latentd-parse")
"""Pictures take long to decode, and much memory. Their own threads limit how many are decoded at a time."""


def native_parser(
    body_type: type[BaseModel], to_query: ToQuery, files: Mapping[str, str] | None = None
) -> RequestParser:
    """Return the parser of a route of our own: samples as JSON, as the bytes themselves, or as a stream of events.

    `files`: where the body may be a form, the fields that its files go to, as `parse_form` takes them.
    """

    def parse(runtime: Runtime, request: Request, body: bytes) -> ParsedRequest:
        asked: BaseModel
        if files is not None and is_form(request):
            asked = parse_form(body_type, request, body, runtime.settings.max_samples, files)
        else:
            asked = parse_json(body_type, body, runtime)
        accept = ", ".join(request.headers.getlist("accept"))
        return ParsedRequest(to_query(asked, accept, runtime.catalog, runtime.settings), _unchanged)

    return parse


def _on_thread(parse: RequestParser) -> RequestParser:
    async def answer(runtime: Runtime, request: Request, body: bytes) -> ParsedRequest:
        found = await asyncio.get_running_loop().run_in_executor(_PARSERS, parse, runtime, request, body)
        assert not isinstance(found, Awaitable)  # noqa: S101  # for mypy
        return found

    return answer


def parse_json(body_type: type[_Body], body: bytes, runtime: Runtime) -> _Body:
    """Parse a JSON body. Raises ApiError 400, which names the field at fault."""
    body = without_byte_order_mark(body)
    check_value_count(body, runtime.settings.max_samples, runtime.catalog.models)
    try:
        return body_type.model_validate_json(body)
    except ValidationError as problem:
        raise_invalid(problem)


async def _unchanged(finished: FinishedJob) -> Response:
    media_type = finished.job.batch.query.response_format.media_type
    return Response(finished.body, media_type=media_type, headers=finished.headers)


def sample_handler(parse: RequestParser, also: Collection[str] = frozenset(), on_thread: bool = False) -> Handler:
    """Return a handler that answers with the samples of the query that `parse` makes.

    `also`: media types of the body beside JSON. `on_thread`: whether `parse` takes so long that it runs on a thread.
    """
    if on_thread:
        parse = _on_thread(parse)

    async def answer(runtime: Runtime, request: Request) -> Response:
        context = current_context()
        ticket = context.ticket
        assert ticket is not None  # noqa: S101  # the Gateway admits every request that has a body
        context.timeout = _seconds_allowed(request, runtime.settings.timeout)
        try:
            body = await _body_in_time(runtime, request, context, ticket, also)
            async with asyncio.timeout_at(context.deadline):
                job, whole, respond = await _while_connected(request, _work(runtime, request, ticket, parse, body))
        except TimeoutError as problem:
            runtime.telemetry.expired_samples.add(amount=context.samples or 0)
            if context.timeout < runtime.settings.timeout:
                runtime.telemetry.own_deadlines.add()
            raise _timed_out(context.timeout) from problem
        except ClientDisconnect:
            runtime.telemetry.abandoned_samples.add(amount=context.samples or 0)
            raise
        if whole is None:
            return _EventStream(_events(job, runtime, context), context.timeout, _headers(job) | _STREAM_HEADERS)
        ticket.computed()
        return await respond(FinishedJob(job, whole))

    return answer


async def _work(
    runtime: Runtime, request: Request, ticket: Ticket, parse: RequestParser, body: bytes
) -> tuple[SampleJob, bytes | None, Responder]:
    """Return the samples' job, the answer's body (None: it is to be streamed), and what makes a response of it."""
    context = current_context()
    async with ticket.work():
        parsed = parse(runtime, request, body)
        query, respond = await parsed if isinstance(parsed, Awaitable) else parsed
        context.model, context.samples = f"{query.model.name}@{query.model.version}", query.num_samples
        ticket.samples(query.num_samples, reserved_samples(query))
        return *await _compute(query, runtime), respond


def in_process(body_type: type[BaseModel], to_query: ToQuery) -> InProcess:
    """Return the function that answers calls within the process as HTTP is answered in JSON."""

    async def answer(runtime: Runtime, fields: dict[str, Any]) -> dict[str, Any]:
        query = to_query(body_type(**fields), "", runtime.catalog, runtime.settings)
        _, whole = await _compute(query, runtime)
        found: dict[str, Any] = orjson.loads(whole or b"")
        return found

    return answer


async def _compute(query: SampleQuery, runtime: Runtime) -> tuple[SampleJob, bytes | None]:
    """Return the job and the answer's body; None if it is to be streamed."""
    job = await prepare_job(query, runtime.catalog, runtime.engine)
    return job, None if query.response_format.streamed else await job.body()


async def _body_in_time(
    runtime: Runtime, request: Request, context: RequestContext, ticket: Ticket, also: Collection[str]
) -> bytes:
    """Read the body. Raises ApiError 408 if it is late, and TimeoutError at a deadline that the request has set."""
    settings = runtime.settings
    patience = min(settings.receive_timeout, settings.timeout)
    try:
        async with asyncio.timeout_at(min(context.started + patience, context.deadline)):
            return await read_body(request, settings.max_body, ticket.body, also)
    except TimeoutError as problem:
        if context.timeout < patience:
            raise
        raise ApiError(408, "request_timeout", f"the body did not come within {patience:g} seconds") from problem


class _EventStream(StreamingResponse):
    """Events that the client has to read: the stream ends if it does not take the next one in time."""

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


async def _events(job: SampleJob, runtime: Runtime, context: RequestContext) -> AsyncIterator[bytes]:
    """Yield the events of `job`. Each may take as long as a request; an error is the last event."""
    telemetry = runtime.telemetry
    try:
        async with aclosing(job.events()) as events:
            while True:
                async with asyncio.timeout(context.timeout):
                    event = await anext(events)
                yield event
    except StopAsyncIteration:
        return
    except (asyncio.CancelledError, GeneratorExit):
        telemetry.abandoned_samples.add(amount=job.samples_left)
        raise
    except TimeoutError:
        telemetry.expired_samples.add(amount=job.samples_left)
        yield error_event(_timed_out(context.timeout))
    except ApiError as problem:
        telemetry.rejections.add(problem.code)
        yield error_event(problem)
    except Exception:
        logger.exception("a stream failed")
        yield error_event(ApiError(500, "internal_server_error", "the samples could not be computed"))


def _timed_out(seconds: float) -> ApiError:
    return ApiError(504, "timeout", f"not done within {seconds:g} seconds")


def _seconds_allowed(request: Request, limit: float) -> float:
    """Return the seconds that X-Request-Timeout asks for, at most `limit`. Raises ApiError 400 if it is no time."""
    asked = request.headers.get("x-request-timeout")
    if asked is None:
        return limit
    try:
        seconds = float(asked)
    except ValueError:
        seconds = math.nan
    if not seconds > 0:
        raise invalid(None, f"X-Request-Timeout is a number of seconds above 0, not {asked!r}")
    return min(seconds, limit)


async def _while_connected(request: Request, work: Coroutine[Any, Any, _T]) -> _T:
    """Do `work`. Raises ClientDisconnect as soon as the client leaves; rows of `work` then leave the queue."""
    task = asyncio.current_task()
    assert task is not None  # noqa: S101  # we are in a coroutine
    left = finished = False

    def stop(_: object) -> None:
        nonlocal left
        if not finished:
            left = True
            task.cancel()

    leaving = asyncio.ensure_future(request.receive())  # the body was read, so the next message says that it left
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
        headers["X-Latentd-Seeds"] = seeds_header(job.batch.seeds)
    if query.edit is not None:
        headers["X-Latentd-Directions"] = query.edit.version
    if query.response_format.media_type not in (JSON, EVENTS):
        headers["X-Latentd-Request"] = request_header(query)
    return headers
