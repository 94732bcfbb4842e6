"""Errors in a foreign protocol's shape, from whichever part of the service they come."""

from collections.abc import Callable
from typing import Any

import orjson
from starlette.types import Message, Send

Rephrase = Callable[[int, dict[str, Any]], dict[str, Any]]
"""(status, our error's code, message and field) → the foreign body."""


def rephrasing(send: Send, rephrase: Rephrase) -> Send:
    """A `send` that puts the body of `rephrase` in the place of ours."""
    start: Message | None = None
    ours = bytearray()

    async def send_rephrased(message: Message) -> None:
        nonlocal start
        if message["type"] == "http.response.start" and message["status"] >= 400:
            start = message
        elif start is None:
            await send(message)
        elif message["type"] == "http.response.body":
            ours.extend(message.get("body", b""))
            if not message.get("more_body"):
                theirs = orjson.dumps(rephrase(start["status"], orjson.loads(ours)["error"]))
                kept = [header for header in start["headers"] if header[0] != b"content-length"]
                await send({**start, "headers": [*kept, (b"content-length", b"%d" % len(theirs))]})
                await send({"type": "http.response.body", "body": theirs})

    return send_rephrased
