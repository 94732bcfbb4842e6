"""How clients share the service: first in numbers, then requests to the whole app. No test waits for time to pass."""

import asyncio
from collections.abc import Awaitable, Iterator
from contextlib import AsyncExitStack, suppress
from typing import Any

import pytest
from starlette.applications import Starlette

from latentd.service.admission import Admission, ConcurrencyLimiter, Quota, Ticket
from latentd.service.engine import Engine
from latentd.service.errors import ApiError, invalid
from latentd.service.gateway import Gateway
from latentd.service.guard.auth import Access
from latentd.service.guard.client import Client, ClientLimits
from latentd.service.guard.tokens import Tokens
from latentd.service.runtime import Runtime
from latentd.service.settings import Settings
from latentd.service.telemetry import Telemetry
from tests.service.fakes import AsgiRequest, BlockingRunner, FixedCatalog, executor, in_loop, served


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


async def let_others_run() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


# Quotas


def test_requests_without_a_token_may_take_everything() -> None:
    quota = Quota(8)
    assert quota.take(None, 8) == 0
    assert quota.take(None, 3) == 3


def test_one_client_leaves_an_eighth_free() -> None:
    quota = Quota(64)
    assert quota.take("greedy", 56) == 0
    assert quota.shortfall("greedy", 1) == 1
    assert quota.take("other", 8) == 0


def test_a_newcomer_may_take_all_that_is_free() -> None:
    assert Quota(8).shortfall("first", 8) == 0
    assert Quota(8).shortfall("first", 9) == 1


@pytest.mark.parametrize("amount", [16, 100, 600])
def test_the_shortfall_is_the_least_that_has_to_be_given_back(amount: int) -> None:
    quota = Quota(4096)
    quota.take("greedy", 3584)
    quota.give_back("greedy", quota.shortfall("greedy", amount) - 1)
    assert quota.shortfall("greedy", amount) == 1
    quota.give_back("greedy", 1)
    assert quota.take("greedy", amount) == 0


@pytest.mark.parametrize("clients", [1, 2, 5, 20])
def test_clients_that_take_all_they_can_hold_equal_parts_and_a_newcomer_finds_room(clients: int) -> None:
    quota = Quota(4096)
    held = [0] * clients
    for index in range(4096):
        held[index % clients] += quota.take(index % clients, 1) == 0
    assert max(held) - min(held) <= 1
    assert quota.used == sum(held)
    assert quota.take("newcomer", 16) == 0


# Requests at work


class Work:
    """Requests that are at work until a test ends them. The first letter of a name is the client."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.limiter = ConcurrencyLimiter(self.clock)
        self.begun: list[str] = []
        self._ends: dict[str, asyncio.Event] = {}

    async def ask(self, *names: str) -> list[asyncio.Task[None]]:
        self._ends |= {name: asyncio.Event() for name in names}
        tasks = [asyncio.create_task(self._request(name)) for name in names]
        await let_others_run()
        return tasks

    async def end(self, *names: str) -> None:
        for name in names:
            self._ends[name].set()
        await let_others_run()

    async def _request(self, name: str) -> None:
        async with self.limiter.slot(name[0]):
            self.begun.append(name)
            await self._ends[name].wait()


def names(client: str, count: int) -> list[str]:
    return [f"{client}{index}" for index in range(count)]


@in_loop
async def test_a_lone_client_has_no_limit() -> None:
    work = Work()
    await work.ask(*names("a", 1000))
    assert len(work.begun) == 1000


@in_loop
async def test_beside_another_client_eight_are_at_work_and_the_others_wait_in_order() -> None:
    work = Work()
    await work.ask("b0", *names("a", 12), "b1")
    assert work.begun == ["b0", *names("a", 8), "b1"]
    await work.end("a2", "b0")
    assert work.begun[10:] == ["a8"]
    await work.end("a0", "a1")
    assert work.begun[10:] == ["a8", "a9", "a10"]


@in_loop
async def test_a_client_is_alone_again_a_second_after_the_others() -> None:
    work = Work()
    await work.ask("b0", *names("a", 8))
    work.clock.now += 0.9
    await work.ask("a8")
    assert "a8" not in work.begun
    work.clock.now += 0.2
    await work.ask("a9", "a10")
    assert work.begun[9:] == ["a9", "a10"]


@in_loop
async def test_a_request_that_is_cancelled_while_it_waits_takes_no_slot() -> None:
    work = Work()
    tasks = await work.ask("b0", *names("a", 11))  # a8, a9 and a10 wait
    tasks[9].cancel()
    await work.end("a0")
    assert work.begun[9:] == ["a9"]
    work._ends["a1"].set()
    tasks[11].cancel()  # a10, just as a slot becomes free
    await let_others_run()
    await work.ask("a11")
    assert work.begun[10:] == ["a11"]


# Tickets


class Door:
    """An admission whose clock stands still, with requests that last until the test ends."""

    def __init__(self, max_requests: int = 64, max_queue: int = 64, max_body: int = 100) -> None:
        self.delays: list[float] = []
        self.admission = Admission(
            max_requests, max_queue, max_body, seconds_for=lambda count: count * 2.5, clock=Clock(), sleep=self._sleep
        )
        self._requests = AsyncExitStack()

    async def enter(self, client: Client | None) -> Ticket:
        return await self._requests.enter_async_context(self.admission.request(client))

    async def end_all(self) -> None:
        await self._requests.aclose()

    @property
    def held(self) -> tuple[int, int, int]:
        return held(self.admission)

    async def _sleep(self, seconds: float) -> None:
        self.delays.append(seconds)


def held(admission: Admission) -> tuple[int, int, int]:
    """Return the requests in progress, the bytes of bodies, and the places in the queue."""
    return admission.requests.used, admission.bodies.used, admission.queue.used


def client(name: str = "ci", **limits: Any) -> Client:
    made = Client(name)
    made.set_limits(ClientLimits(**limits))
    return made


async def refusal(attempt: Awaitable[object]) -> tuple[int, str, int | None]:
    """Return the status, the code and the Retry-After of a refusal."""
    with pytest.raises(ApiError) as caught:
        await attempt
    problem = caught.value
    return problem.status, problem.code, int(problem.headers["Retry-After"]) if problem.headers else None


async def ask(door: Door, client: Client | None, samples: int, problem: BaseException | None = None) -> None:
    """Make a request that computes `samples`, and ends with `problem`."""
    async with door.admission.request(client) as ticket, ticket.work():
        ticket.samples(samples, queued=samples)
        if problem is not None:
            raise problem


PROBLEMS = [None, invalid(None, "no"), RuntimeError("broken"), asyncio.CancelledError()]


@pytest.mark.parametrize("problem", PROBLEMS, ids=repr)
@in_loop
async def test_a_request_gives_everything_back_however_it_ends(problem: BaseException | None) -> None:
    door, asking = Door(), client(in_flight=10)
    with suppress(ApiError, RuntimeError, asyncio.CancelledError):
        async with door.admission.request(asking) as ticket:
            ticket.body(20)
            ticket.body(30)
            async with ticket.work():
                ticket.samples(10, queued=8)
                assert (*door.held, asking.in_flight) == (1, 50, 8, 10)
                if problem is not None:
                    raise problem
            ticket.computed()
            assert (*door.held, asking.in_flight) == (1, 50, 0, 10)  # until the answer is sent
    assert (*door.held, asking.in_flight) == (0, 0, 0, 0)


@in_loop
async def test_retry_after_is_the_time_that_the_shortfall_takes() -> None:
    door = Door(max_requests=1, max_queue=64)
    first = await door.enter(None)
    first.samples(60, queued=60)
    assert await refusal(ask(door, None, 6)) == (429, "queue_full", 5)  # two samples too many, 2.5 s each
    async with first.work():
        assert await refusal(door.enter(None)) == (429, "too_many_requests", 150)  # all 60 samples


@in_loop
async def test_one_client_cannot_fill_the_queue_for_another() -> None:
    door = Door(max_queue=64)
    greedy, other = client("greedy"), client("other")
    (await door.enter(greedy)).samples(56, queued=56)
    assert await refusal(door.enter(greedy)) == (429, "queue_full", 3)
    await ask(door, other, 8)


@in_loop
async def test_only_beside_other_clients_refusals_are_delayed() -> None:
    door = Door(max_queue=64)
    greedy, other = client("greedy"), client("other", rate=1)
    (await door.enter(greedy)).samples(56, queued=56)
    await refusal(door.enter(greedy))
    assert door.delays == []
    await ask(door, other, 1)
    await refusal(door.enter(greedy))
    await refusal(ask(door, other, 1))
    assert len(door.delays) == 2
    assert all(0.5 <= delay <= 1.5 for delay in door.delays)


# A token's own limits


@in_loop
async def test_samples_are_in_flight_until_the_request_ends() -> None:
    door, asking = Door(), client(in_flight=10)
    (await door.enter(asking)).samples(8, queued=8)
    assert await refusal(ask(door, asking, 4)) == (429, "too_many_in_flight", 5)
    assert await refusal(ask(door, asking, 11)) == (400, "invalid_request", None)
    await door.end_all()
    await ask(door, asking, 10)


@pytest.mark.parametrize(
    ("problem", "charged"),
    [
        (None, True),
        (invalid("latents", "they lead nowhere"), True),
        (asyncio.CancelledError(), True),  # the client left, or the time was up
        (ApiError(429, "queue_full", "no"), False),
        (ApiError(503, "shutting_down", "no"), False),
        (RuntimeError("the model broke"), False),
    ],
    ids=repr,
)
@in_loop
async def test_samples_that_the_service_could_not_compute_are_not_charged(
    problem: BaseException | None, charged: bool
) -> None:
    door, asking = Door(), client(rate=0.001, burst=10)
    with suppress(ApiError, RuntimeError, asyncio.CancelledError):
        await ask(door, asking, 10, problem)
    if charged:
        assert (await refusal(ask(door, asking, 1)))[:2] == (429, "rate_limited")
    else:
        await ask(door, asking, 10)


@in_loop
async def test_samples_that_find_no_place_in_the_queue_are_not_charged() -> None:
    door, asking = Door(max_queue=8), client(rate=0.001, burst=8)
    (await door.enter(client("other"))).samples(4, queued=4)
    assert (await refusal(ask(door, asking, 8)))[:2] == (429, "queue_full")
    await door.end_all()
    await ask(door, asking, 8)


# The whole app

GREEDY, OTHER = "greedy-0123456789", "other-0123456789"


class Service:
    """An app whose device is held until `runner.release`."""

    def __init__(self) -> None:
        self.runner = BlockingRunner()
        self.engine = Engine(max_queue=128, parallel=1)
        settings = Settings(max_requests=32, max_samples=64, max_queue=64, max_body=1024)
        self.runtime = Runtime(settings, FixedCatalog(served(executor(self.runner))), self.engine, Telemetry())
        tokens = Tokens(lambda: f"greedy {GREEDY}\nother {OTHER}")
        self.apps = {True: Gateway(Starlette(), lambda: self.runtime, Access(tokens))}
        self.apps[False] = Gateway(Starlette(), lambda: self.runtime)
        self.requests: list[AsgiRequest] = []

    async def ask(self, token: str = "", num_samples: int = 1, **how: Any) -> AsgiRequest:
        """Ask for samples, and wait until the request waits for something."""
        how = {"body": {"num_samples": num_samples, "seed": 1}} | how
        how["headers"] = how.get("headers", {}) | ({"authorization": f"Bearer {token}"} if token else {})
        request = AsgiRequest(self.apps[bool(token)], **how)
        self.requests.append(request)
        await let_others_run()
        return request

    async def finish(self) -> list[int]:
        """Let the device work, wait for all answers, and return their statuses."""
        self.runner.release()
        await asyncio.wait([request.task for request in self.requests])
        return [request.status for request in self.requests]

    @property
    def held(self) -> tuple[int, int, int]:
        return held(self.runtime.admission)


@pytest.fixture
def service() -> Iterator[Service]:
    service = Service()
    service.engine.start()
    yield service
    service.runner.release()
    service.engine.close()


@in_loop
async def test_a_full_queue_refuses_before_the_body_is_read(service: Service) -> None:
    await service.ask(num_samples=60)
    partly = await service.ask(num_samples=5)
    await service.ask(num_samples=4)
    late = await service.ask()
    assert partly.error == late.error == (429, "queue_full")
    assert int(late.headers["retry-after"]) >= 1
    assert (partly.was_read, late.was_read) == (True, False)
    assert await service.finish() == [200, 429, 200, 429]
    await service.ask()
    assert (await service.finish())[-1] == 200


@in_loop
async def test_too_many_requests_are_refused_before_their_bodies_are_read(service: Service) -> None:
    sending = await service.ask(send_body=False)  # takes no place before its body is there
    for _ in range(32):
        await service.ask()
    late = await service.ask()
    assert not late.was_read
    sending.send_body()
    assert await service.finish() == [429] + [200] * 32 + [429]
    assert late.error == sending.error == (429, "too_many_requests")
    assert service.held == (0, 0, 0)


@in_loop
async def test_one_token_cannot_take_all_places(service: Service) -> None:
    greedy = [await service.ask(GREEDY) for _ in range(40)]
    assert [request.status for request in greedy] == [0] * 28 + [429] * 12
    await service.ask(OTHER)
    assert await service.finish() == [200] * 28 + [429] * 12 + [200]


@in_loop
async def test_beside_another_client_requests_wait_outside_of_the_engine_and_may_leave(service: Service) -> None:
    await service.ask(OTHER)
    greedy = [await service.ask(GREEDY) for _ in range(12)]
    await asyncio.to_thread(service.runner.wait_for_pass)
    assert service.engine.queued + len(service.runner.passes[0]) == 9
    for request in greedy[8:10]:
        request.leave()
    await asyncio.wait([request.task for request in greedy[8:10]])
    assert service.held[0] == 11
    assert await service.finish() == [200] * 9 + [0] * 2 + [200] * 2
    assert sum(map(len, service.runner.passes)) == 11
    assert service.held == (0, 0, 0)


@pytest.mark.parametrize(
    ("end", "status"),
    [("answer", 200), ("leave", 0), ("time out", 504), ("break", 500), ("stream", 200), ("leave a stream", 200)],
)
@in_loop
async def test_requests_give_everything_back_however_they_end(service: Service, end: str, status: int) -> None:
    streamed = "stream" in end
    request = await service.ask(
        GREEDY,
        body={"keyframes": [{"seed": 1}, {"seed": 2}], "steps": 40} if streamed else {"num_samples": 40},
        path="/interpolate" if streamed else "/generate",
        headers={
            "accept": "text/event-stream" if streamed else "*/*",
            "x-request-timeout": "0.05" if end == "time out" else "60",
        },
    )
    requests, body_bytes, queued = service.held
    assert (requests, queued) == (1, 16 if streamed else 40)
    assert body_bytes > 0
    if end == "break":
        service.runner.problem = RuntimeError("the model broke")
    if "leave" in end:
        request.leave()
    if "leave" in end or end == "time out":
        await request.task
    assert await service.finish() == [status]
    assert service.held == (0, 0, 0)


@in_loop
async def test_unfinished_bodies_do_not_fill_the_memory(service: Service) -> None:
    half: dict[str, Any] = {"body": " " * 998, "more_body": True}
    sending = [await service.ask(**half) for _ in range(16)]
    late = await service.ask(**half)
    assert late.error == (429, "too_many_requests")
    assert [request.status for request in sending] == [0] * 16
    for request in sending:
        request.leave()
    await service.finish()
    await service.ask()
    assert (await service.finish())[-1] == 200
