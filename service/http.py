"""The HTTP API: routes, bodies, headers and errors. Everything about samples is elsewhere."""

import asyncio
import math
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Match, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.catalog import Catalog, ServedModel
from service.engine import Engine, EngineClosedError, QueueFullError
from service.errors import ApiError, invalid, raise_invalid
from service.generation import Answer, carry_out, make_plan
from service.schemas import GenerateRequest
from service.settings import Settings


@dataclass(frozen=True)
class Runtime:
    """What the routes work with, once the service has started."""

    settings: Settings
    catalog: Catalog
    engine: Engine


class Gateway:
    """ASGI middleware in front of BentoML: answers our routes itself and gives every error the one error body."""

    def __init__(self, app: ASGIApp, api: Starlette) -> None:
        self._app = app
        self._api = api

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
        elif any(route.matches(scope)[0] is not Match.NONE for route in self._api.routes):
            await self._api(scope, receive, send)
        else:
            await self._app(scope, receive, _with_our_error_body(scope, receive, send))


def create_api() -> Starlette:
    """The routes; `api.state.runtime` is to be set before the first request."""
    return Starlette(
        routes=[
            Route("/generate", generate, methods=["POST"]),
            Route("/models", list_models, methods=["GET"]),
            Route("/models/{name}", show_model, methods=["GET"]),
        ],
        exception_handlers={
            ApiError: _answer_error,
            ClientDisconnect: _answer_nobody,
            HTTPException: _answer_http_error,
            Exception: _answer_failure,
        },
    )


async def generate(request: Request) -> Response:
    """Samples from seeds or latents, as JSON or as the bytes themselves."""
    runtime: Runtime = request.app.state.runtime
    async with _time_limit(_seconds_allowed(request, runtime.settings.timeout)):
        body = await _read_body(request, runtime.settings.max_body_bytes)
        try:
            asked = GenerateRequest.model_validate_json(body)
        except ValidationError as problem:
            raise_invalid(problem)
        accept = ", ".join(request.headers.getlist("accept"))
        answer = await _while_connected(request, answer_generate(runtime, asked, accept))
    return Response(answer.body, media_type=answer.plan.shape.media_type, headers=_headers(answer))


async def answer_generate(runtime: Runtime, asked: GenerateRequest, accept: str) -> Answer:
    """The answer to a request; ApiError says what is in its way."""
    plan = make_plan(asked, accept, runtime.catalog, runtime.settings.max_samples)
    try:
        return await carry_out(plan, runtime.catalog, runtime.engine)
    except QueueFullError as problem:
        seconds = max(1, math.ceil(problem.retry_after))
        raise ApiError(429, "queue_full", str(problem), headers={"Retry-After": str(seconds)}) from problem
    except EngineClosedError as problem:
        raise ApiError(503, "shutting_down", str(problem)) from problem


async def list_models(request: Request) -> Response:
    """What is served, and which files are not."""
    runtime: Runtime = request.app.state.runtime
    catalog = runtime.catalog
    return JSONResponse(
        {
            "default": catalog.default.name if catalog.default else None,
            "models": [_describe(catalog.models[name], runtime.settings) for name in sorted(catalog.models)],
            "failures": [{"file": failure.file, "error": failure.error} for failure in catalog.failures],
        }
    )


async def show_model(request: Request) -> Response:
    """A model's card, limits and determinism."""
    runtime: Runtime = request.app.state.runtime
    return JSONResponse(_describe(runtime.catalog.find(request.path_params["name"]), runtime.settings))


def _describe(model: ServedModel, settings: Settings) -> dict[str, Any]:
    return {
        "name": model.name,
        "version": model.version,
        "formats": list(model.card.spec.output.media_types),
        "limits": {"max_samples": settings.max_samples},
        "determinism": {
            "mode": model.calibration.mode,
            "sizes": model.calibration.sizes,
            "fingerprint": model.fingerprint,
            "fingerprint_id": model.fingerprint_id,
        },
        "card": model.card.model_dump(mode="json"),
    }


@asynccontextmanager
async def _time_limit(seconds: float) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError as problem:
        raise ApiError(504, "timeout", f"not done within {seconds:g} seconds") from problem


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


async def _while_connected(request: Request, work: Coroutine[Any, Any, Answer]) -> Answer:
    """Do `work`, or stop it where the client leaves; its rows then leave the queue. Raises ClientDisconnect."""
    doing = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(request.receive())  # the body was read, so the next message is that
    leaving.add_done_callback(lambda _: doing.cancel())
    try:
        return await doing
    except asyncio.CancelledError:
        if leaving.done() and not leaving.cancelled():
            raise ClientDisconnect from None
        raise
    finally:
        leaving.cancel()
        doing.cancel()


def _headers(answer: Answer) -> dict[str, str]:
    model = answer.plan.model
    headers = {
        "X-Latentd-Model": model.name,
        "X-Latentd-Version": model.version,
        "X-Latentd-Fingerprint": model.fingerprint_id,
    }
    if answer.plan.seeds is not None:
        headers["X-Latentd-Seeds"] = ",".join(map(str, answer.plan.seeds))
    return headers


async def _read_body(request: Request, limit: int) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise ApiError(413, "body_too_large", f"the body is larger than {limit} bytes")
    return bytes(body)


async def _answer_error(_: Request, problem: Exception) -> Response:
    assert isinstance(problem, ApiError)  # noqa: S101  # registered for nothing else
    return problem.response()


async def _answer_http_error(_: Request, problem: Exception) -> Response:
    assert isinstance(problem, HTTPException)  # noqa: S101  # registered for nothing else
    return _from_status(problem.status_code, problem.headers).response()


async def _answer_nobody(_: Request, problem: Exception) -> Response:
    del problem
    return ApiError(400, "client_disconnected", "the client left before its request was whole").response()


async def _answer_failure(_: Request, problem: Exception) -> Response:
    del problem  # Starlette raises it on, and the server logs it
    return _from_status(500).response()


def _from_status(status: int, headers: Any = None) -> ApiError:
    phrase = HTTPStatus(status)
    return ApiError(status, phrase.name.lower(), phrase.description or phrase.phrase, headers=headers)


def _with_our_error_body(scope: Scope, receive: Receive, send: Send) -> Send:
    """A `send` for BentoML's own routes that puts our error body in the place of what they say of an error."""
    replaced = False

    async def send_unified(message: Message) -> None:
        nonlocal replaced
        if message["type"] == "http.response.start" and message["status"] >= HTTPStatus.BAD_REQUEST:
            replaced = True
            kept = {b"allow", b"retry-after"}
            headers = {name.decode(): value.decode() for name, value in message["headers"] if name in kept}
            await _from_status(message["status"], headers).response()(scope, receive, send)
        elif not replaced:
            await send(message)

    return send_unified
