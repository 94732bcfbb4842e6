"""The access log: a line for each request."""

import asyncio

from latentd.service.context import RequestContext
from latentd.service.observability.formatter import Fields, Formatter, clean, ids_of, write

MAX_PATH = 200
"""Characters of a path that are logged."""


class AccessLog:
    """Writes a line for each request that has ended.

    Requests of one batch end together, and their lines are written together too. Each write releases the GIL, for which
    the engine's threads wait, and that costs more than the line itself.
    """

    def __init__(self, formatter: Formatter) -> None:
        self._formatter = formatter
        self._ended: list[RequestContext] = []

    def add(self, context: RequestContext) -> None:
        """Write a line in the next iteration of the event loop. Call it from that loop."""
        if not self._ended:
            asyncio.get_running_loop().call_soon(self.flush)
        self._ended.append(context)

    def flush(self) -> None:
        """Write the lines of all requests that have ended."""
        ended, self._ended = self._ended, []
        write(b"\n".join([self._formatter(_line(context)) for context in ended]))


def _line(context: RequestContext) -> Fields:
    """Return the fields of a request's line. Fields without a value are left out."""
    path = clean(context.path[:MAX_PATH])
    fields: Fields = {
        "time": context.ended,
        "level": "info",
        "logger": "latentd.access",
        "message": f"{clean(context.method)} {path} {context.status}",
        **ids_of(context),
        "endpoint": context.label,
        "status": context.status,
    }
    if context.code is not None:
        fields["code"] = context.code
    if context.client is not None:
        fields["account"] = context.client.name
    if context.model is not None:
        fields |= {"model": context.model, "samples": context.samples}
    if context.batches:
        waits, computed = zip(*context.batches, strict=True)
        fields |= {
            "queue_seconds": round(max(waits), 6),
            "compute_seconds": round(sum(computed), 6),
            "batches": len(computed),
        }
    fields["seconds"] = round(context.seconds, 6)
    fields["bytes"] = context.sent_bytes
    if not context.sent_completely:
        fields["unfinished"] = True
    if context.address is not None:
        fields["client"] = context.address
    return fields
