"""The definition of a route. `service/routes.py` has the table of all routes."""

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel
from starlette.convertors import StringConvertor, register_url_convertor
from starlette.requests import Request
from starlette.responses import Response

from latentd.service.errors import ErrorAnswer, ErrorBody
from latentd.service.runtime import Runtime

Handler = Callable[[Runtime, Request], Awaitable[Response | BaseModel]]
"""Answers a request. A pydantic model is sent as JSON, and an ApiError in the shape that the route has for errors."""

InProcess = Callable[[Runtime, dict[str, Any]], Awaitable[dict[str, Any]]]
"""(runtime, fields of a body) → the JSON answer."""

Access = Literal["open", "client", "metrics"]
"""Who may send requests: everybody (`open`), clients with a token (`client`), or who has the token for /metrics
(`metrics`). Without tokens in the settings, everybody may."""


@dataclass(frozen=True, kw_only=True)
class Route:
    """A method, a path, their handler, and all that the router, the metrics and the documents need about them."""

    method: Literal["GET", "POST"]
    path: str
    summary: str
    handler: Handler | None
    """None: BentoML answers."""
    access: Access = "client"
    answers: Mapping[str, Any]
    """The type of the answer by its media type: a pydantic model, `str`, `bytes`, or Any."""
    headers: tuple[str, ...] = ()
    """Headers of a successful answer, beside X-Request-Id."""
    body: type[BaseModel] | None = None
    """The JSON body, or the fields of a form. Routes with a body answer with samples, and need admission."""
    body_types: tuple[str, ...] = ("application/json",)
    """The media types of the body, for the OpenAPI document."""
    in_process: InProcess | None = None
    """Answers calls inside the process. Routes that have it are declared to BentoML's own clients."""
    errors: tuple[int, ...] = ()
    """Error statuses of the handler, beside those that follow from `access` and `body`."""
    error_body: type[ErrorBody] = ErrorAnswer
    tag: str
    name: str = ""
    """The operationId of the OpenAPI document. Default: made from the path, `/v2/models/{name}` → `v2_models_name`."""

    @property
    def operation(self) -> str:
        """The unique name of the route."""
        return self.name or re.sub(r"\W+", "_", self.path).strip("_")


class _ModelName(StringConvertor):
    """The name of a model in a path. That of a run, `runs/NAME`, has a slash."""

    regex = "(?:runs/)?[^/]+"


register_url_convertor("model", _ModelName())


def path_pattern(path: str) -> str:
    """Return the pattern that Starlette finds a route by. `path` is what documents and metrics say."""
    return path.replace("/models/{name}", "/models/{name:model}")
