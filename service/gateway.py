"""The outermost ASGI app. It finds the route of a request, checks its token, and calls the route's handler."""

import re
from collections.abc import Callable
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
from latentd.service.json_responses import error_response, json_response, status_error
from latentd.service.observability.formatter import Formatter
from latentd.service.observability.middleware import RequestMiddleware
from latentd.service.route import Handler, Route, path_pattern
from latentd.service.routes import ROUTES
from latentd.service.runtime import Runtime

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
"""Characters that no path of ours has. Starlette's patterns ignore a newline at the end of a path."""
_KEPT_HEADERS = {b"allow", b"retry-after"}
"""Headers of BentoML's errors that our errors keep."""


class Gateway:
    """Answers the routes of the table, and passes requests for BentoML's own routes to BentoML's app.

    It is in front of BentoML's middleware, which costs a request more time than the engine, and which would keep
    metrics of every path that a client makes up.
    """

    def __init__(
        self,
        bentoml_app: Starlette,
        runtime: Callable[[], Runtime],
        access: Access = OPEN,
        formatter: Formatter | None = None,
    ) -> None:
        """`runtime` is called for every request, because the service starts later than the Gateway.

        `formatter`: the format of the access log; None: no access log.
        """
        self._bentoml_app = bentoml_app
        self._runtime = runtime
        to_bentoml = _with_our_errors(bentoml_app)
        apps: list[tuple[Route, ASGIApp]] = []
        for route in ROUTES:
            app = to_bentoml if route.handler is None else _app_of(route.handler, runtime)
            apps.append((route, _RouteApp(route, app, runtime, access)))
        self._exact: dict[tuple[str, str], ASGIApp] = {(route.method, route.path): app for route, app in apps}
        """A shortcut: most paths have no parameters."""
        patterns = [
            routing.Route(path_pattern(route.path), app, methods=[route.method])
            for route, app in apps
            if route.handler is not None
        ]
        # longer ones first: /models/runs/directions means the directions of a model with the name `runs`
        self._patterns = sorted(patterns, key=lambda each: -each.path.count("/"))
        self._bentoml_routes = {route.path: app for route, app in apps if route.handler is None}
        self._bentoml_files = _with_our_errors(ExceptionMiddleware(bentoml_app.router))
        self._error_bodies = {
            _first_segment(route.path): route.error_body for route in ROUTES if route.error_body is not ErrorAnswer
        }
        self._app = RequestMiddleware(self._answer, runtime, formatter)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._bentoml_app(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        context = current_context()
        context.route = OTHER
        context.error_body = self._error_bodies.get(_first_segment(context.path), ErrorAnswer)
        try:
            app = self._exact.get((context.method, context.path)) or self._find(scope)
            await app(scope, receive, send)
        except ClientDisconnect:
            pass  # there is nobody to answer
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
            raise status_error(405, {"allow": ", ".join(sorted(allowed))})
        if path in self._bentoml_routes:
            return self._bentoml_routes[path]
        folders = (route for route in self._bentoml_app.routes if isinstance(route, routing.Mount))
        if any(folder.matches(scope)[0] is not routing.Match.NONE for folder in folders):
            return self._bentoml_files  # not through BentoML's middleware: any name in a folder matches
        raise self._not_found(scope)

    def _not_found(self, scope: Scope) -> ApiError:
        """Return a 404. It names the right path if there are only too many slashes, as in `/models/` and `//models`."""
        path = "/" + "/".join(filter(None, scope["path"].split("/")))
        candidate = {**scope, "path": path}
        known = path in self._bentoml_routes or any(
            pattern.matches(candidate)[0] is not routing.Match.NONE for pattern in self._patterns
        )
        if not known or path == scope["path"] or _CONTROL.search(path):
            return status_error(404)
        return ApiError(404, "not_found", f"there is no {scope['path']}; send the request to {path}")


def _first_segment(path: str) -> str:
    return path[1:].partition("/")[0]


class _RouteApp:
    """Checks the token of a request, admits requests for samples, and calls the app of the route."""

    def __init__(self, route: Route, app: ASGIApp, runtime: Callable[[], Runtime], access: Access) -> None:
        self._route = route
        self._app = app
        self._runtime = runtime
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        context = current_context()
        context.route = None if self._route.handler is None else self._route.path
        context.client = self._access.client(self._route.access, scope["headers"])
        if self._route.body is None:
            await self._app(scope, receive, send)
        else:
            async with self._runtime().admission.request(context.client) as context.ticket:
                await self._app(scope, receive, send)


def _app_of(handler: Handler, runtime: Callable[[], Runtime]) -> ASGIApp:
    """Return an app that calls `handler` and sends what it returns."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        found = await handler(runtime(), Request(scope, receive))
        response = json_response(found) if isinstance(found, BaseModel) else found
        await response(scope, receive, send)

    return answer


def _with_our_errors(app: ASGIApp) -> ASGIApp:
    """Return BentoML's `app`, with its errors replaced by ours."""

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
