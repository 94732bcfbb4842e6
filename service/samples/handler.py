"""From a request for samples to its response: what all routes with a body share.

A route has a parser, which makes a query from the request, and a responder, which makes a response from the samples.
"""

import asyncio
import math
from collections.abc import Awaitable, Callable, Collection, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import orjson
from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from latentd.models.hardware import core_count
from latentd.service.admission import Ticket
from latentd.service.catalog import Catalog
from latentd.service.content_negotiation import EVENTS, JSON
from latentd.service.context import RequestContext, current_context
from latentd.service.errors import ApiError, invalid, raise_invalid, timed_out
from latentd.service.form_body import is_form, parse_form
from latentd.service.guard.body import check_utf8, check_value_count, read_body, without_byte_order_mark
from latentd.service.queries.query import SampleQuery
from latentd.service.route import Handler, InProcess
from latentd.service.runtime import Runtime
from latentd.service.samples.event_stream import EventStream
from latentd.service.samples.job import SampleJob, prepare_job, reserved_samples
from latentd.service.samples.provenance_text import request_header, seeds_header
from latentd.service.settings import Settings

_T = TypeVar("_T")
_Body = TypeVar("_Body", bound=BaseModel)


@dataclass(frozen=True)
class FinishedJob:
    """Computed samples, and the body that the routes of our own API send."""

    job: SampleJob
    body: bytes

    @property
    def headers(self) -> dict[str, str]:
        """The headers that name the samples."""
        return _headers(self.job)


Responder = Callable[[FinishedJob], Awaitable[Response]]
"""Makes the response from the samples."""


class ParsedRequest(NamedTuple):
    """The query of a request, and the function that makes its response."""

    query: SampleQuery
    respond: Responder


ToQuery = Callable[[Any, str, Catalog, Settings], SampleQuery]
"""(body, Accept header, catalog, settings) → query. Raises ApiError if the body does not fit its model."""

RequestParser = Callable[[Runtime, Request, bytes], ParsedRequest | Awaitable[ParsedRequest]]
"""Makes a query from a request and its body. Raises ApiError if they are wrong."""

_PARSERS = ThreadPoolExecutor(core_count(), thread_name_prefix="latentd-parse")
"""Decoding pictures takes long, and much memory. Threads of their own limit how many are decoded at the same time."""


def native_parser(
    body_type: type[BaseModel], to_query: ToQuery, files: Mapping[str, str] | None = None
) -> RequestParser:
    """Return the parser of a route in our own API, whose responses are JSON, files or a stream of events.

    `files`: as for `parse_form`, if the body may be a form.
    """

    def parse(runtime: Runtime, request: Request, body: bytes) -> ParsedRequest:
        fields: BaseModel
        if files is not None and is_form(request):
            fields = parse_form(body_type, request, body, runtime.settings.max_samples, files)
        else:
            fields = parse_json(body_type, body, runtime)
        accept = ", ".join(request.headers.getlist("accept"))
        return ParsedRequest(to_query(fields, accept, runtime.catalog, runtime.settings), _respond)

    return parse


def _on_thread(parse: RequestParser) -> RequestParser:
    async def parse_on_thread(runtime: Runtime, request: Request, body: bytes) -> ParsedRequest:
        parsed = await asyncio.get_running_loop().run_in_executor(_PARSERS, parse, runtime, request, body)
        assert not isinstance(parsed, Awaitable)  # noqa: S101  # for mypy
        return parsed

    return parse_on_thread


def parse_json(body_type: type[_Body], body: bytes, runtime: Runtime) -> _Body:
    """Parse a JSON body. Raises ApiError 400, which names the wrong field."""
    body = without_byte_order_mark(body)
    check_value_count(body, runtime.settings.max_samples, runtime.catalog.names.versions.values())
    try:
        return body_type.model_validate_json(body)
    except ValidationError as problem:
        check_utf8(body)
        raise_invalid(problem, body_type)


async def _respond(finished: FinishedJob) -> Response:
    media_type = finished.job.batch.query.response_format.media_type
    return Response(finished.body, media_type=media_type, headers=finished.headers)


def sample_handler(
    parse: RequestParser, extra_types: Collection[str] = frozenset(), on_thread: bool = False
) -> Handler:
    """Return a handler that computes the query that `parse` makes, and responds with its samples.

    `extra_types`: media types of the body beside JSON. `on_thread`: run `parse` on a thread, because it takes long.
    """
    if on_thread:
        parse = _on_thread(parse)

    async def handle(runtime: Runtime, request: Request) -> Response:
        context = current_context()
        ticket = context.ticket
        assert ticket is not None  # noqa: S101  # the Gateway admits every request that has a body
        context.timeout = _timeout_of(request, runtime.settings.timeout)
        try:
            request_body = await _read_body_in_time(runtime, request, context, ticket, extra_types)
            async with asyncio.timeout_at(context.deadline):
                job, body, respond = await _while_connected(
                    request, _work(runtime, request, ticket, parse, request_body)
                )
        except TimeoutError as problem:
            runtime.telemetry.expired_samples.add(amount=context.samples or 0)
            if context.timeout < runtime.settings.timeout:
                runtime.telemetry.own_deadlines.add()
            raise timed_out(context.timeout) from problem
        except ClientDisconnect:
            runtime.telemetry.abandoned_samples.add(amount=context.samples or 0)
            raise
        if body is None:
            return EventStream(job, runtime, context, _headers(job))
        ticket.computed()
        return await respond(FinishedJob(job, body))

    return handle


async def _work(
    runtime: Runtime, request: Request, ticket: Ticket, parse: RequestParser, body: bytes
) -> tuple[SampleJob, bytes | None, Responder]:
    """Return the job, the body of the answer (None if it is streamed), and the responder."""
    context = current_context()
    async with ticket.work():
        parsed = parse(runtime, request, body)
        query, respond = await parsed if isinstance(parsed, Awaitable) else parsed
        context.model, context.samples = query.model.reference, query.num_samples
        ticket.samples(query.num_samples, reserved_samples(query))
        return *await _compute(query, runtime), respond


def in_process(body_type: type[BaseModel], to_query: ToQuery) -> InProcess:
    """Return a function for calls inside the process. It returns the JSON answer that HTTP would give."""

    async def call(runtime: Runtime, fields: dict[str, Any]) -> dict[str, Any]:
        query = to_query(body_type(**fields), "", runtime.catalog, runtime.settings)
        _, body = await _compute(query, runtime)
        answer: dict[str, Any] = orjson.loads(body or b"")
        return answer

    return call


async def _compute(query: SampleQuery, runtime: Runtime) -> tuple[SampleJob, bytes | None]:
    """Return the job and the body of the answer (None if it is streamed)."""
    job = await prepare_job(query, runtime.catalog, runtime.engine)
    return job, None if query.response_format.streamed else await job.body()


async def _read_body_in_time(
    runtime: Runtime, request: Request, context: RequestContext, ticket: Ticket, extra_types: Collection[str]
) -> bytes:
    """Read the body. Raises ApiError 408 if it is late, and TimeoutError at the deadline that the request has set."""
    settings = runtime.settings
    limit = min(settings.receive_timeout, settings.timeout)
    try:
        async with asyncio.timeout_at(min(context.started + limit, context.deadline)):
            return await read_body(request, settings.max_body, ticket.body, extra_types)
    except TimeoutError as problem:
        if context.timeout < limit:
            raise
        raise ApiError(408, "request_timeout", f"the body did not arrive within {limit:g} seconds") from problem


def _timeout_of(request: Request, limit: float) -> float:
    """Return the seconds in X-Request-Timeout, at most `limit`. Raises ApiError 400 if the header is not valid."""
    header = request.headers.get("x-request-timeout")
    if header is None:
        return limit
    try:
        seconds = float(header)
    except ValueError:
        seconds = math.nan
    if not seconds > 0:
        raise invalid(None, f"X-Request-Timeout is a number of seconds above 0, not {header!r}")
    return min(seconds, limit)


async def _while_connected(request: Request, work: Coroutine[Any, Any, _T]) -> _T:
    """Await `work`. Cancel it and raise ClientDisconnect as soon as the client leaves."""
    task = asyncio.current_task()
    assert task is not None  # noqa: S101  # we are in a coroutine
    client_left = finished = False

    def stop(_: object) -> None:
        nonlocal client_left
        if not finished:
            client_left = True
            task.cancel()

    disconnect = asyncio.ensure_future(request.receive())  # the body was read, so the next message is http.disconnect
    disconnect.add_done_callback(stop)
    try:
        return await work
    except asyncio.CancelledError:
        if client_left and task.uncancel() == 0:  # not cancelled by anyone else
            raise ClientDisconnect from None
        raise
    finally:
        finished = True
        disconnect.cancel()


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
