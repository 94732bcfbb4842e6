"""What a route is. `service/routes.py` has the table of all routes."""

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from latentd.service.errors import ErrorAnswer, ErrorBody
from latentd.service.runtime import Runtime

Handler = Callable[[Runtime, Request], Awaitable[Response | BaseModel]]
"""Answers a request. A model is sent as JSON. An ApiError becomes an answer in the route's shape of errors."""

InProcess = Callable[[Runtime, dict[str, Any]], Awaitable[dict[str, Any]]]
"""Returns the JSON answer to the fields of a body."""

Access = Literal["open", "client", "metrics"]
"""Who may ask: everybody, a client with a token, or who has the token for /metrics. Tokens are asked for if the service
has any."""


@dataclass(frozen=True, kw_only=True)
class Route:
    """A method and a path, what answers them, and all that the router, the metrics and the documents say about them."""

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
    """The JSON body, or the fields of a form. Routes with a body answer with samples, and pass the admission."""
    body_types: tuple[str, ...] = ("application/json",)
    """The media types of the body that the document names."""
    in_process: InProcess | None = None
    """Answers calls within the process. Routes that have it are declared to BentoML's own clients too."""
    errors: tuple[int, ...] = ()
    """Statuses that the handler may answer, beside those that follow from `access` and `body`."""
    error_body: type[ErrorBody] = ErrorAnswer
    tag: str
    name: str = ""
    """The operationId of the OpenAPI document. Default: made from the path, `/v2/models/{name}` → `v2_models_name`."""

    @property
    def operation(self) -> str:
        """The route's name, which no other route has."""
        return self.name or re.sub(r"\W+", "_", self.path).strip("_")
