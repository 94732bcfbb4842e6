"""Whose request is worked on next, without a server; time passes when a test says so."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.types import ASGIApp

from latentd.service.engine import Engine
from latentd.service.errors import ApiError, too_busy
from latentd.service.gateway import Gateway
from latentd.service.guard import turns as module
from latentd.service.guard.auth import Access
from latentd.service.guard.tokens import Tokens
from latentd.service.guard.turns import Turns
from latentd.service.runtime import Runtime
from latentd.service.settings import Settings
from latentd.service.telemetry import Telemetry
from tests.service.fakes import HeldRunner, executor, served
from tests.service.test_http import FixedCatalog


class House:
    """Requests whose work lasts until it is ended."""

    def __init__(self) -> None:
        self.now = 0.0
        self.turns = Turns(lambda: self.now)
        self.begun: list[str] = []
        self.ends: dict[str, asyncio.Event] = {}

    async def ask(self, name: str, refusal: ApiError | None = None) -> None:
        """The client is the first letter of a request's name."""
        end = self.ends[name] = asyncio.Event()
        async with self.turns.turn(name[0]):
            self.begun.append(name)
            if refusal is not None:
                raise refusal
            await end.wait()

    async def begin(self, *names: str) -> list[asyncio.Task[None]]:
        tasks = [asyncio.create_task(self.ask(name)) for name in names]
        await settled()
        return tasks

    async def end(self, *names: str) -> None:
        for name in names:
            self.ends[name].set()
        await settled()


async def settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(test, 10))


def test_who_is_alone_waits_for_nobody() -> None:
    async def alone() -> None:
        house = House()
        tasks = await house.begin(*(f"a{index}" for index in range(100)))
        assert len(house.begun) == 100
        await house.end(*house.begun)
        await asyncio.gather(*tasks)

    run(alone())


def test_who_is_not_alone_has_a_few_more_than_others_in_the_order_they_came() -> None:
    async def together() -> None:
        house = House()
        tasks = await house.begin("b0", *(f"a{index}" for index in range(8)), "b1")
        assert house.begun == ["b0", "a0", "a1", "a2", "a3", "a4", "b1"]
        await house.end("a2", "b0")
        assert house.begun[7:] == ["a5", "a6"]
        await house.end("b1", "a0")
        assert house.begun[9:] == []
        await house.end("a1", "a3", "a4")
        assert house.begun[9:] == ["a7"]
        await house.end("a5", "a6", "a7")
        await asyncio.gather(*tasks)

    run(together())


@pytest.mark.parametrize(("asked", "at_work"), [(30, 60), (200, 64)])
def test_who_asks_as_much_as_another_is_not_held_back_but_several_do_not_lift_each_other(
    asked: int, at_work: int
) -> None:
    async def both() -> None:
        house = House()
        house.turns._seen("b")
        tasks = await house.begin(*(f"{client}{index}" for index in range(asked) for client in "ab"))
        assert len(house.begun) == at_work
        while len(house.begun) < 2 * asked:
            await house.end(*house.begun)
        await house.end(*house.begun)
        await asyncio.gather(*tasks)
        assert not any((house.turns._at_work, house.turns._waiting, house.turns._looks))

    run(both())


def test_what_was_begun_alone_goes_on_and_nothing_more_begins_until_few_are_left() -> None:
    async def joined() -> None:
        house = House()
        tasks = await house.begin(*(f"a{index}" for index in range(7)))
        tasks += await house.begin("b0", "a7")
        assert house.begun[7:] == ["b0"]
        await house.end("a0", "a1")
        assert "a7" not in house.begun
        await house.end("a2")
        assert house.begun[8:] == ["a7"]
        await house.end("a3", "a4", "a5", "a6", "a7", "b0")
        await asyncio.gather(*tasks)

    run(joined())


def test_once_the_others_have_been_silent_all_that_wait_begin() -> None:
    async def alone_again() -> None:
        house = House()
        tasks = await house.begin("b0", *(f"a{index}" for index in range(10)))
        assert len(house.begun) == 6
        house.now = 1.5
        await house.end("a0")
        assert len(house.begun) == 11
        await house.end(*house.begun)
        await asyncio.gather(*tasks)

    run(alone_again())


def test_what_is_stuck_lets_a_few_more_begin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_STUCK_SECONDS", 0.2)

    async def stuck() -> None:
        house = House()
        tasks = await house.begin("b0", *(f"a{index}" for index in range(14)))
        assert len(house.begun) == 6
        await asyncio.sleep(0.1)
        assert len(house.begun) == 6
        await asyncio.sleep(0.2)
        assert len(house.begun) == 10
        await house.end("a0")  # which is a sign of life
        await asyncio.sleep(0.15)
        assert len(house.begun) == 10
        await asyncio.sleep(0.15)
        assert len(house.begun) == 14
        await house.end(*house.begun)
        await house.end("a13")
        await asyncio.gather(*tasks)

    run(stuck())


def test_who_leaves_while_waiting_takes_no_turn() -> None:
    async def left() -> None:
        house = House()
        tasks = await house.begin("b0", *(f"a{index}" for index in range(8)))
        tasks[6].cancel()  # a5 waits
        await settled()
        await house.end("a0")
        assert house.begun[6:] == ["a6"]
        house.ends["a1"].set()
        tasks[8].cancel()  # a7, in the moment in which its turn comes
        await settled()
        tasks += await house.begin("a8")
        assert house.begun[7:] == ["a8"]
        await house.end("a2", "a3", "a4", "a6", "a8", "b0")
        done = await asyncio.gather(*tasks, return_exceptions=True)
        assert [isinstance(each, asyncio.CancelledError) for each in done].count(True) == 2

    run(left())


def test_a_queue_that_comes_and_goes_is_not_stuck(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_STUCK_SECONDS", 0.2)

    async def bursts() -> None:
        house = House()
        tasks = await house.begin("b0")
        for burst in range(10):
            names = [f"a{burst}-{index}" for index in range(8)]
            tasks += await house.begin(*names)
            assert len([name for name in house.begun if name in names]) == 5
            await asyncio.sleep(0.05)
            assert len([name for name in house.begun if name in names]) == 5
            await house.end(*names[:5])
            await house.end(*names[5:])
        await house.end("b0")
        await asyncio.gather(*tasks)

    run(bursts())


@pytest.mark.parametrize(("others", "at_once"), [((), 20), (("b0",), 5)])
def test_a_refusal_takes_a_turn_for_longer_where_others_are_there(
    others: tuple[str, ...], at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_REFUSAL_SECONDS", 0.05)

    async def refused() -> None:
        house = House()
        tasks = await house.begin(*others)
        refusals = [asyncio.create_task(house.ask(f"a{index}", too_busy("no", 1))) for index in range(10)]
        refusals += [asyncio.create_task(house.turns.refuse("a")) for _ in range(10)]
        await settled()
        assert sum(each.done() for each in refusals) == at_once
        done = await asyncio.gather(*refusals, return_exceptions=True)
        assert [isinstance(each, ApiError) for each in done] == [True] * 10 + [False] * 10
        await house.end(*others)
        await asyncio.gather(*tasks)

    run(refused())


class Asking:
    """A request to a service, whose client may leave."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self.status = 0
        self._left = asyncio.Event()
        self._sent = False
        headers = [(b"authorization", f"Bearer {token}".encode()), (b"content-type", b"application/json")]
        scope = {"type": "http", "method": "POST", "path": "/generate", "headers": headers, "state": {}}
        self.task = asyncio.ensure_future(app(scope, self._receive, self._send))

    def leave(self) -> None:
        self._left.set()

    async def _receive(self) -> Any:
        if not self._sent:
            self._sent = True
            return {"type": "http.request", "body": b'{"seed": 1}', "more_body": False}
        await self._left.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]


GREEDY, OTHER = "greedy-0123456789", "other-0123456789"


def test_a_service_gives_turns_and_those_who_leave_while_they_wait_are_gone() -> None:
    async def served_in_turns() -> None:
        runner, telemetry = HeldRunner(), Telemetry()
        engine = Engine(max_queue=64, parallel=1)
        engine.start()
        runtime = Runtime(Settings(), FixedCatalog(served(executor(runner, name="m"))), engine, telemetry)
        tokens = Tokens(lambda: f"greedy {GREEDY}\nother {OTHER}")
        app = Gateway(Starlette(), lambda: runtime, Access(tokens))
        asking = [Asking(app, OTHER), *(Asking(app, GREEDY) for _ in range(12))]
        await settled()
        await asyncio.to_thread(runner.wait_for_pass)
        assert engine.queued + len(runner.passes[0]) == 6
        waiting = asking[6:]
        assert runtime.places.taken == 13
        for each in waiting[:4]:
            each.leave()
        await asyncio.wait([each.task for each in waiting[:4]], timeout=5)
        assert runtime.places.taken == 9
        runner.release()
        await asyncio.wait([each.task for each in asking], timeout=10)
        assert [each.status for each in asking] == [200] * 6 + [0] * 4 + [200] * 3
        assert sum(map(len, runner.passes)) == 9
        await asyncio.to_thread(engine.close)

    run(served_in_turns())
