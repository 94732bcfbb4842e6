"""The outermost ASGI app: which requests are ours, how many at a time, and one body for every error."""

import logging
import math
import re
import time
from collections.abc import Callable
from functools import cache, partial
from http import HTTPStatus
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Match, Mount, Route, Router
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from latentd.service.api import (
    Handler,
    Runtime,
    answering,
    in_our_words,
    list_directions,
    list_models,
    show_model,
    show_surface,
)
from latentd.service.context import CLIENT_LEFT, OTHER, current_client, current_context
from latentd.service.endpoints import ENDPOINTS
from latentd.service.errors import ApiError, too_busy
from latentd.service.explorer import give_part, show_page
from latentd.service.guard.auth import OPEN, Access
from latentd.service.openapi import show_document
from latentd.service.protocols import kserve, openai
from latentd.service.protocols.errors import Rephrase, rephrasing
from latentd.service.responses import error_response

logger = logging.getLogger("latentd.http")

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
"""No path of ours has one, and a pattern of Starlette's takes a path that ends in a newline for the one without it."""
METRICS = "/metrics"
_FULL = "too_many_requests"
_NO_ROOM = "the service has all that it can carry, or all that it carries for one client; try again later"
_SAMPLES: dict[str, Handler] = {
    **{endpoint.path: answering(in_our_words(endpoint)) for endpoint in ENDPOINTS},
    **kserve.SAMPLES,
    **openai.SAMPLES,
}
_SHOWN: dict[str, Handler] = {
    "/models": list_models,
    "/models/{name}": show_model,
    "/models/{name}/directions": list_directions,
    "/models/{name}/surface": show_surface,
    **kserve.SHOWN,
    **openai.SHOWN,
}
_OPEN: dict[str, Handler] = {  # a page asks for a token itself
    "/docs.json": show_document,
    "/explore": show_page,
    "/explore/{build}/{name}": give_part,
    **kserve.OPEN,
}
_REPHRASED: dict[str, Rephrase] = {"v1": openai.rephrase, "v2": kserve.rephrase}
"""Whose error bodies are not ours, by the beginning of the path."""


class Gateway:
    """Answers our routes itself and passes on those of BentoML, whose errors it gives our body.

    It stands in front of BentoML's own middleware, which costs a request more time than the engine does, and which
    would keep metrics of every path that anybody made up.
    """

    def __init__(self, rest: Starlette, runtime: Callable[[], Runtime], access: Access = OPEN) -> None:
        """`runtime` is asked at every request; it begins with the service, after this."""

        def refused(code: str) -> None:
            runtime().telemetry.rejections.add(code)

        async def bentomls(scope: Scope, receive: Receive, send: Send) -> None:
            await rest(scope, receive, _with_our_error_body(scope, receive, send))

        def closed(app: ASGIApp) -> ASGIApp:
            return access.to_api(app, refused)

        self._rest = rest
        endpoint = partial(_Endpoint, runtime=runtime)
        counted = partial(_Counted, runtime=runtime)
        limited = partial(_Limited, runtime=runtime)
        self._samples = {path: counted(path, closed(limited(endpoint(handler)))) for path, handler in _SAMPLES.items()}
        self._router = Router(
            routes=[
                *(Route(path, app, methods=["POST"]) for path, app in self._samples.items()),
                *(
                    Route(path, counted(path, closed(endpoint(handler))), methods=["GET"])
                    for path, handler in _SHOWN.items()
                ),
                *(Route(path, counted(path, endpoint(handler)), methods=["GET"]) for path, handler in _OPEN.items()),
            ]
        )
        self._other_methods = counted(OTHER, self._router)
        self._bentomls_files = counted(OTHER, ExceptionMiddleware(rest.router))
        self._metrics = access.to_metrics(bentomls, refused)
        self._nothing = counted(OTHER, Response(status_code=HTTPStatus.NOT_FOUND))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._rest(scope, receive, send)
        else:
            if (rephrase := _REPHRASED.get(scope["path"][1:].partition("/")[0])) is not None:
                send = rephrasing(send, rephrase)
            await self._answer(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] == "POST" and (app := self._samples.get(scope["path"])):
            await app(scope, receive, send)  # as the router would, but sooner
        else:
            await self._route(scope, receive, send)

    async def _route(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == METRICS:
            await self._metrics(scope, receive, send)
            return
        matches = self._matches(scope)
        if Match.FULL in matches:
            await self._router(scope, receive, send)
        else:
            app = self._other_methods if Match.PARTIAL in matches else self._not_ours(scope)
            await app(scope, receive, _with_our_error_body(scope, receive, send))

    def _matches(self, scope: Scope) -> set[Match]:
        if _CONTROL.search(scope["path"]):
            return set()
        return {route.matches(scope)[0] for route in self._router.routes}

    def _not_ours(self, scope: Scope) -> ASGIApp:
        """What answers a path that is not ours: BentoML where it is one of its own to the letter."""
        for route in self._rest.routes:
            if isinstance(route, Mount):
                # a folder matches any name in it: past BentoML's counters, then
                if route.matches(scope)[0] is not Match.NONE:
                    return self._bentomls_files
            elif isinstance(route, Route) and route.path == scope["path"]:
                return self._rest
        return self._nothing


class _Endpoint:
    """A handler as an ASGI app: whatever it raises becomes an answer."""

    def __init__(self, handler: Handler, runtime: Callable[[], Runtime]) -> None:
        self._handler = handler
        self._runtime = runtime

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            response = await self._handler(self._runtime(), Request(scope, receive))
        except ApiError as problem:
            if problem.status != HTTPStatus.GATEWAY_TIMEOUT:
                self._runtime().telemetry.rejections.add(problem.code)
            response = error_response(problem)
        except HTTPException as problem:
            response = error_response(_from_status(problem.status_code, problem.headers))
        except ClientDisconnect:
            return  # nobody is there to be answered
        except Exception:
            logger.exception("%s %s failed", scope["method"], scope["path"])
            response = error_response(_from_status(500))
        await response(scope, receive, send)


class _Counted:
    """Counts and times the requests of one route."""

    def __init__(self, endpoint: str, app: ASGIApp, runtime: Callable[[], Runtime]) -> None:
        self._endpoint = endpoint
        self._app = app
        self._runtime = runtime

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = time.perf_counter()
        status: int = CLIENT_LEFT
        current_context().route = self._endpoint

        async def send_noting_status(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, send_noting_status)
        except Exception:
            status = HTTPStatus.INTERNAL_SERVER_ERROR  # as the Journal answers it, or as good as that
            raise
        finally:
            model = scope.get("state", {}).get("model", "")  # once the handler knows it
            self._runtime().telemetry.count_request(self._endpoint, model, status, time.perf_counter() - started)


class _Limited:
    """Turns requests away unread while the service has all that it can carry, or this client its part of that.

    The engine's own limit counts samples, but only once a request was read; a flood must not get that far.
    """

    def __init__(self, app: ASGIApp, runtime: Callable[[], Runtime]) -> None:
        self._app = app
        self._runtime = runtime

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        runtime, asking = self._runtime(), current_client()
        places, bodies = runtime.places, runtime.bodies
        if (reason := _full(runtime)) is not None:
            await runtime.turns.refuse(asking)
            refusal = _refusal(reason, math.ceil(_until_room(runtime)))
            runtime.telemetry.rejections.add(reason)
            current_context().code = reason
            await refusal(scope, receive, send)
            return
        read, held = False, 0

        async def receive_noting_end() -> Message:
            nonlocal read, held
            message = await receive()
            size = len(message.get("body", b""))
            held += size
            bodies.take(asking, size)
            if read:
                return message
            if places.excess(asking, 1) > 0 or bodies.excess(asking, 0) > 0:  # others were faster
                raise too_busy(_NO_ROOM, _until_room(runtime), _FULL)
            if not message.get("more_body"):  # what is still being sent takes no place from others
                read = True
                places.take(asking, 1)
            return message

        try:
            await self._app(scope, receive_noting_end, send)
        finally:
            if read:
                places.leave(asking, 1)
            bodies.leave(asking, held)


def _full(runtime: Runtime) -> str | None:
    """Why there is no room for another request of the current client; None where there is."""
    if runtime.places.excess(current_client(), 1) > 0:
        return _FULL
    return "queue_full" if runtime.engine.overfull else None


def _until_room(runtime: Runtime) -> float:
    """Seconds."""
    return runtime.engine.seconds_for(runtime.engine.queued)


@cache
def _refusal(reason: str, retry_after: int) -> Response:
    """Made once: under a flood it is what the service says most."""
    return error_response(too_busy(_NO_ROOM, retry_after, reason))


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
            await error_response(_from_status(message["status"], headers))(scope, receive, send)
        elif not replaced:
            await send(message)

    return send_unified
