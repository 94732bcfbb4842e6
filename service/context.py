"""What the service knows about the current request. One context variable leads to it from everywhere."""

from __future__ import annotations

import math
import time
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from latentd.service.errors import ErrorAnswer, ErrorBody

if TYPE_CHECKING:
    from datetime import datetime

    from opentelemetry.trace import Span

    from latentd.service.admission import Ticket
    from latentd.service.guard.client import Client

CLIENT_LEFT = 499
"""The status of a request whose client left before the answer. nginx uses the same number."""
OTHER = "other"
"""The route of all requests that match no route of ours. So clients cannot make up routes."""


@dataclass(slots=True, eq=False)
class RequestContext:
    """One request, from its headers to the end of its answer. Only `id`, `method` and `path` hold a client's text."""

    id: str = ""
    method: str = ""
    path: str = ""
    address: str | None = None
    """The address that the connection comes from."""
    route: str | None = None
    """The path of a route of ours, with its parameters' names in braces, or `OTHER`. None: BentoML answers, and counts
    the request itself."""
    error_body: type[ErrorBody] = ErrorAnswer
    """The shape of the route's errors."""
    client: Client | None = None
    """The owner of the request's token. None for all requests without a token."""
    ticket: Ticket | None = None
    """What the request holds of the service's budgets. None if its route does not answer with samples."""
    model: str | None = None
    """`name@version`."""
    samples: int | None = None
    timeout: float = math.inf
    """Seconds within which the request must be answered."""
    status: int = CLIENT_LEFT
    """The answer's status; `CLIENT_LEFT` until there is one."""
    code: str | None = None
    """The code of the error that was answered."""
    sent_bytes: int = 0
    sent_completely: bool = False
    batches: list[tuple[float, float]] = field(default_factory=list)
    """For each batch with samples of the request: the seconds in the queue, and the seconds of the batch. The engine's
    threads append them."""
    span: Span | None = None
    started: float = field(default_factory=time.monotonic)
    ended: datetime | None = None
    seconds: float = 0.0
    """From start to end."""

    @property
    def deadline(self) -> float:
        """The end of `timeout`, on the event loop's clock."""
        return self.started + self.timeout

    @property
    def label(self) -> str:
        """The route as logs and traces name it."""
        return self.route or OTHER

    def __str__(self) -> str:
        return self.id


request_context: ContextVar[RequestContext | None] = ContextVar("request_context", default=None)
"""None outside of requests."""


def current_context() -> RequestContext:
    """Return the context of the current request. Outside of a request, return a new one that nobody reads."""
    return request_context.get() or RequestContext()
