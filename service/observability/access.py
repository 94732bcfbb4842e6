"""The lines about requests."""

import asyncio

from latentd.service.observability.context import RequestContext
from latentd.service.observability.formatter import Fields, Formatter, clean, ids_of, write

LONGEST_PATH = 200


class AccessLog:
    """A line for each request that is over.

    Requests of one batch end together, and so do their lines: each write gives Python's lock away, for which the
    engine's threads wait, and costs more than the line.
    """

    def __init__(self, form: Formatter) -> None:
        self._form = form
        self._ended: list[RequestContext] = []

    def add(self, entry: RequestContext) -> None:
        """From the event loop, in whose next turn it is written."""
        if not self._ended:
            asyncio.get_running_loop().call_soon(self.flush)
        self._ended.append(entry)

    def flush(self) -> None:
        """Write what has ended."""
        ended, self._ended = self._ended, []
        write(b"\n".join([self._form(_line(entry)) for entry in ended]))


def _line(entry: RequestContext) -> Fields:
    """What is not there is left out."""
    path = clean(entry.path[:LONGEST_PATH])
    fields: Fields = {
        "time": entry.ended,
        "level": "info",
        "logger": "latentd.access",
        "message": f"{clean(entry.method)} {path} {entry.status}",
        **ids_of(entry),
        "endpoint": entry.endpoint,
        "status": entry.status,
    }
    if entry.code is not None:
        fields["code"] = entry.code
    if entry.account is not None:
        fields["account"] = entry.account
    if entry.model is not None:
        fields |= {"model": entry.model, "samples": entry.samples}
    if entry.batches:
        waits, computed = zip(*entry.batches, strict=True)
        fields |= {
            "queue_seconds": round(max(waits), 6),
            "compute_seconds": round(sum(computed), 6),
            "batches": len(computed),
        }
    fields["seconds"] = round(entry.seconds, 6)
    fields["bytes"] = entry.sent_bytes
    if not entry.whole:
        fields["unfinished"] = True
    if entry.client is not None:
        fields["client"] = entry.client
    return fields
