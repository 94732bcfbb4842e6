"""Event streams over ASGI, with a device that the test can block and clients that disconnect."""

import asyncio
import json
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.applications import Starlette

from latentd.service.engine import Engine
from latentd.service.gateway import Gateway
from latentd.service.runtime import Runtime
from latentd.service.settings import Settings
from latentd.service.telemetry import Telemetry
from tests.service.fakes import BlockingRunner, FixedCatalog, executor, served

FRAMES = 1000
SCOPE = {
    "type": "http",
    "asgi": {"version": "3.0", "spec_version": "2.3"},
    "method": "POST",
    "path": "/interpolate",
    "raw_path": b"/interpolate",
    "query_string": b"",
    "headers": [(b"accept", b"text/event-stream")],
}


class Client:
    """Asks for a stream, counts its frames, and disconnects when the test says so."""

    def __init__(self) -> None:
        self.frames = 0
        self.ended = False
        self.text = b""
        self.disconnected = asyncio.Event()
        self._sent_request = False

    async def receive(self) -> dict[str, Any]:
        if not self._sent_request:
            self._sent_request = True
            body = json.dumps({"keyframes": [{"seed": 1}, {"seed": 2}], "steps": FRAMES}).encode()
            return {"type": "http.request", "body": body, "more_body": False}
        await self.disconnected.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: dict[str, Any]) -> None:
        self.text += message.get("body", b"")
        self.frames = self.text.count(b"event: frame")
        self.ended = message["type"] == "http.response.body" and not message.get("more_body")


@pytest.fixture
def service() -> Any:
    runner = BlockingRunner()
    engine = Engine(max_queue=512, parallel=1)
    engine.start()
    runtime = Runtime(Settings(timeout=300), FixedCatalog(served(executor(runner))), engine, Telemetry())
    service = SimpleNamespace(runner=runner, engine=engine, runtime=runtime)
    service.app = Gateway(Starlette(), lambda: service.runtime)
    yield service
    runner.release()
    engine.close()


async def until(condition: Any) -> None:
    async with asyncio.timeout(300):
        while not condition():  # noqa: ASYNC110  # the condition changes on threads
            await asyncio.sleep(0.005)


def test_a_client_that_disconnects_stops_the_work(service: Any) -> None:
    async def leave() -> None:
        client = Client()
        asking = asyncio.create_task(service.app(SCOPE, client.receive, client.send))
        service.runner.release(1)
        await until(lambda: client.frames == 16)  # the first pass is delivered while the second one is blocked
        client.disconnected.set()
        await asyncio.wait_for(asking, 300)
        assert not client.ended
        await until(lambda: service.engine.queued == 0)
        service.runner.release()

    asyncio.run(leave())
    service.engine.close()
    assert len(service.runner.passes) <= 3


def test_a_stream_that_nobody_reads_is_ended(service: Any) -> None:
    async def never_read() -> None:
        client = Client()

        async def blocked(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.body":
                await asyncio.sleep(3600)

        service.runtime = replace(service.runtime, settings=Settings(timeout=2))  # enough to begin the stream
        service.runner.release()
        await asyncio.wait_for(service.app(SCOPE, client.receive, blocked), 300)
        assert service.engine.queued == 0

    asyncio.run(never_read())


def test_only_a_few_chunks_are_in_progress_at_a_time(service: Any) -> None:
    async def read_slowly() -> None:
        client = Client()
        asking = asyncio.create_task(service.app(SCOPE, client.receive, client.send))
        await until(lambda: service.engine.queued > 0)
        await asyncio.sleep(0.05)
        assert service.engine.queued <= 128
        service.runner.release()
        await asyncio.wait_for(asking, 300)
        assert (client.frames, client.ended) == (FRAMES, True)

    asyncio.run(read_slowly())


def test_streams_leave_most_of_the_queue_to_others(service: Any) -> None:
    async def compete() -> None:
        clients = [Client() for _ in range(4)]
        asking = [asyncio.create_task(service.app(SCOPE, each.receive, each.send)) for each in clients]
        await until(lambda: service.engine.queued > 128)
        await asyncio.sleep(0.1)
        assert (
            service.engine.queued <= 128 + 4 * 16
        )  # above a quarter of the queue, each stream queues only its first chunk
        service.runner.release()
        await asyncio.wait_for(asyncio.gather(*asking), 300)
        for client in clients:
            assert (client.frames, client.ended) == (FRAMES, True)

    asyncio.run(compete())
