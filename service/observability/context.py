"""What is known of a request so far, wherever the code that works for it runs."""

import time
from dataclasses import dataclass, field
from datetime import datetime

from opentelemetry.trace import Span

from latentd.service.engine import request_context

CLIENT_LEFT = 499
"""What is counted where nobody is left to be answered; nginx's number for that."""
OTHER = "other"
"""The endpoint of all that has no route of ours: nobody can make up new ones."""
METRICS = "/metrics"


@dataclass(slots=True, eq=False)
class RequestContext:
    """One request's. Nothing in it is a client's text but `id`, `method` and `path`."""

    id: str
    method: str
    path: str
    endpoint: str = OTHER
    """A route, or `other`."""
    status: int = CLIENT_LEFT
    """`CLIENT_LEFT` until there is one."""
    code: str | None = None
    """The error's."""
    account: str | None = None
    """The name that stands beside the token which the request had."""
    model: str | None = None
    """name@version."""
    samples: int | None = None
    sent_bytes: int = 0
    whole: bool = False
    """Whether the answer went out to its end."""
    batches: list[tuple[float, float]] = field(default_factory=list)
    """Of each batch that it was in: seconds that it waited, and that the batch took. Engine threads append."""
    span: Span | None = None
    client: str | None = None
    """The address that the connection comes from."""
    started: float = field(default_factory=time.perf_counter)
    ended: datetime | None = None
    seconds: float = 0.0
    """From start to end."""

    def __str__(self) -> str:
        return self.id


def current_entry() -> RequestContext:
    """The entry of the request that the caller works for; where there is none, one that nobody reads."""
    entry = request_context.get()
    return entry if isinstance(entry, RequestContext) else RequestContext("", "", "")
