"""The outermost ASGI app: finds the route of a request, checks who asks, and calls the route's handler."""

import re
from collections.abc import Callable, Iterable
from http import HTTPStatus

from pydantic import BaseModel
from starlette import routing
from starlette.applications import Starlette
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from latentd.service.context import OTHER, current_context
from latentd.service.errors import ApiError, ErrorAnswer
from latentd.service.guard.auth import OPEN, Access
from latentd.service.observability.formatter import Formatter
from latentd.service.observability.middleware import RequestMiddleware
from latentd.service.responses import error_response, json_response, status_error
from latentd.service.route import Route
from latentd.service.routes import ROUTES
from latentd.service.runtime import Runtime

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
"""No path of ours has one. Starlette's patterns ignore a newline at the end of a path."""
_KEPT_HEADERS = {b"allow", b"retry-after"}


class Gateway:
    """Answers the routes of the table, and passes on to BentoML what is its own.

    It stands in front of BentoML's middleware, which costs a request more time than the engine does, and which would
    keep metrics of every path that anybody makes up.
    """

    def __init__(
        self,
        rest: Starlette,
        runtime: Callable[[], Runtime],
        access: Access = OPEN,
        formatter: Formatter | None = None,
    ) -> None:
        """`rest`: BentoML's app. `runtime` is asked at every request: it begins with the service, after this.

        `formatter`: of the access log's lines; None: there is no such log.
        """
        self._rest = rest
        self._runtime = runtime
        apps = [(route, _RouteApp(route, rest, runtime, access)) for route in ROUTES]
        self._by_path: dict[tuple[str, str], ASGIApp] = {(route.method, route.path): app for route, app in apps}
        """A short way to the apps of paths without parameters."""
        self._patterns = [
            routing.Route(route.path, app, methods=[route.method]) for route, app in apps if route.handler is not None
        ]
        self._bentomls = {route.path: app for route, app in apps if route.handler is None}
        self._bentomls_files = ExceptionMiddleware(rest.router)
        self._error_bodies = {
            _first_segment(route.path): route.error for route in ROUTES if route.error is not ErrorAnswer
        }
        self._app = RequestMiddleware(self._answer, runtime, formatter)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._rest(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        context = current_context()
        context.route = OTHER
        context.error_body = self._error_bodies.get(_first_segment(context.path), ErrorAnswer)
        try:
            app = self._by_path.get((context.method, context.path)) or self._find(scope)
            await app(scope, receive, send)
        except ClientDisconnect:
            pass  # nobody is there to be answered
        except ApiError as problem:
            if context.route != OTHER and problem.status != HTTPStatus.GATEWAY_TIMEOUT:
                self._runtime().telemetry.rejections.add(problem.code)
            await error_response(problem)(scope, receive, send)

    def _find(self, scope: Scope) -> ASGIApp:
        """Return the app of the request's path. Raises ApiError 404 or 405."""
        path, allowed = scope["path"], set[str]()
        if not _CONTROL.search(path):
            for pattern in self._patterns:
                match, found = pattern.matches(scope)
                if match is routing.Match.FULL:
                    scope.update(found)
                    return pattern.app
                if match is routing.Match.PARTIAL:
                    allowed |= pattern.methods or set()
        if allowed:
            raise status_error(405, {"Allow": ", ".join(sorted(allowed))})
        if path in self._bentomls:
            return self._bentomls[path]
        if any(route.matches(scope)[0] is not routing.Match.NONE for route in self._mounts()):
            return _with_our_errors(self._bentomls_files)  # around BentoML's counters: any name matches a folder
        raise status_error(404)

    def _mounts(self) -> Iterable[routing.Mount]:
        return (route for route in self._rest.routes if isinstance(route, routing.Mount))


def _first_segment(path: str) -> str:
    return path[1:].partition("/")[0]


class _RouteApp:
    """A route as an ASGI app: checks who asks, admits requests for samples, and sends what the handler returns.

    Raises ApiError.
    """

    def __init__(self, route: Route, rest: Starlette, runtime: Callable[[], Runtime], access: Access) -> None:
        self._route = route
        self._runtime = runtime
        self._access = access
        self._app = _with_our_errors(rest) if route.handler is None else self._handle

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        context = current_context()
        context.route = None if self._route.handler is None else self._route.path
        context.client = self._access.client(self._route.access, scope["headers"])
        if self._route.body is None:
            await self._app(scope, receive, send)
        else:
            with self._runtime().admission.request(context.client) as context.ticket:
                await self._app(scope, receive, send)

    async def _handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert self._route.handler is not None  # noqa: S101  # for mypy
        answer = await self._route.handler(self._runtime(), Request(scope, receive))
        response = json_response(answer) if isinstance(answer, BaseModel) else answer
        await response(scope, receive, send)


def _with_our_errors(app: ASGIApp) -> ASGIApp:
    """Return `app` of BentoML with our error body in the place of its own."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        replaced = False

        async def send_unified(message: Message) -> None:
            nonlocal replaced
            if message["type"] == "http.response.start" and message["status"] >= HTTPStatus.BAD_REQUEST:
                replaced = True
                kept = {name.decode(): value.decode() for name, value in message["headers"] if name in _KEPT_HEADERS}
                await error_response(status_error(message["status"], kept))(scope, receive, send)
            elif not replaced:
                await send(message)

        await app(scope, receive, send_unified)

    return answer
