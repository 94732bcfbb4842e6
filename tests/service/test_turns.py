"""Whose request is worked on next, without a server; time passes when a test says so."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from service.errors import ApiError, too_busy
from service.guard import turns as module
from service.guard.turns import Turns


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


def test_who_is_not_alone_has_a_few_at_a_time_in_the_order_they_came() -> None:
    async def together() -> None:
        house = House()
        tasks = await house.begin("b0", *(f"a{index}" for index in range(7)), "b1")
        assert house.begun == ["b0", "a0", "a1", "a2", "a3", "b1"]
        await house.end("a2", "b0")
        assert house.begun[6:] == ["a4"]
        await house.end("a0", "a1", "a3", "a4")
        assert house.begun[7:] == ["a5", "a6"]
        await house.end("a5", "a6", "b1")
        await asyncio.gather(*tasks)

    run(together())


def test_what_was_begun_alone_goes_on_and_nothing_more_begins_until_few_are_left() -> None:
    async def joined() -> None:
        house = House()
        tasks = await house.begin(*(f"a{index}" for index in range(6)))
        tasks += await house.begin("b0", "a6")
        assert house.begun[6:] == ["b0"]
        await house.end("a0", "a1")
        assert "a6" not in house.begun
        await house.end("a2")
        assert house.begun[7:] == ["a6"]
        await house.end("a3", "a4", "a5", "a6", "b0")
        await asyncio.gather(*tasks)

    run(joined())


def test_once_the_others_have_been_silent_all_that_wait_begin() -> None:
    async def alone_again() -> None:
        house = House()
        tasks = await house.begin("b0", *(f"a{index}" for index in range(10)))
        assert len(house.begun) == 5
        house.now = 6.0
        await house.end("a0")
        assert len(house.begun) == 11
        await house.end(*house.begun)
        await asyncio.gather(*tasks)

    run(alone_again())


def test_who_leaves_while_waiting_takes_no_turn() -> None:
    async def left() -> None:
        house = House()
        tasks = await house.begin("b0", *(f"a{index}" for index in range(7)))
        tasks[5].cancel()  # a4 waits
        await settled()
        await house.end("a0")
        assert house.begun[5:] == ["a5"]
        house.ends["a1"].set()
        tasks[7].cancel()  # a6, in the moment in which its turn comes
        await settled()
        tasks += await house.begin("a7")
        assert house.begun[6:] == ["a7"]
        await house.end("a2", "a3", "a5", "a7", "b0")
        done = await asyncio.gather(*tasks, return_exceptions=True)
        assert [isinstance(each, asyncio.CancelledError) for each in done].count(True) == 2

    run(left())


@pytest.mark.parametrize(("others", "kept"), [((), False), (("b0",), True)])
def test_a_refusal_takes_its_time_where_others_are_there(
    others: tuple[str, ...], kept: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_REFUSAL_SECONDS", 0.05)

    async def refused() -> None:
        house = House()
        tasks = await house.begin(*others)
        refusals = [asyncio.create_task(house.ask(f"a{index}", too_busy("no", 1))) for index in range(5)]
        await settled()
        assert [each.done() for each in refusals] == [not kept] * 5
        done = await asyncio.gather(*refusals, return_exceptions=True)
        assert all(isinstance(each, ApiError) and each.status == 429 for each in done)
        await house.end(*others)
        await asyncio.gather(*tasks)

    run(refused())
