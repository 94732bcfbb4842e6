"""How clients share the service: first in numbers, then requests to the whole app. No test waits for time to pass."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from typing import Any

import pytest
from starlette.applications import Starlette

from latentd.service.admission import Admission, ConcurrencyLimiter, Quota
from latentd.service.engine import Engine
from latentd.service.errors import ApiError, invalid
from latentd.service.gateway import Gateway
from latentd.service.guard.auth import Access
from latentd.service.guard.client import Client, Limits
from latentd.service.guard.tokens import Tokens
from latentd.service.runtime import Runtime
from latentd.service.settings import Settings
from latentd.service.telemetry import Telemetry
from tests.service.fakes import AsgiRequest, BlockingRunner, executor, served
from tests.service.test_http import FixedCatalog


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def admission(max_requests: int = 64, max_queue: int = 64, max_body: int = 100) -> Admission:
    return Admission(max_requests, max_queue, max_body, seconds_for=lambda samples: samples * 2.5, clock=Clock())


def client(name: str = "ci", **limits: Any) -> Client:
    made = Client(name)
    made.set_limits(Limits(**limits))
    return made


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(test, 10))


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
    """Requests at work until they are told to end. Their names begin with their client's."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.limiter = ConcurrencyLimiter(self.clock)
        self.begun: list[str] = []
        self._ends: dict[str, asyncio.Event] = {}

    async def _request(self, name: str) -> None:
        async with self.limiter.slot(name[0]):
            self.begun.append(name)
            await self._ends[name].wait()

    async def ask(self, *names: str) -> list[asyncio.Task[None]]:
        self._ends |= {name: asyncio.Event() for name in names}
        tasks = [asyncio.create_task(self._request(name)) for name in names]
        await let_others_run()
        return tasks

    async def end(self, *names: str) -> None:
        for name in names:
            self._ends[name].set()
        await let_others_run()


def names(client: str, count: int) -> list[str]:
    return [f"{client}{index}" for index in range(count)]


def test_a_client_that_is_alone_has_no_limit() -> None:
    async def alone() -> None:
        work = Work()
        await work.ask(*names("a", 1000))
        assert len(work.begun) == 1000
        await work.end(*work.begun)

    run(alone())


def test_beside_another_client_sixteen_are_at_work_in_the_order_in_which_they_came() -> None:
    async def together() -> None:
        work = Work()
        await work.ask("b0", *names("a", 20), "b1")
        assert work.begun == ["b0", *names("a", 16), "b1"]
        await work.end("a2", "b0")
        assert work.begun[18:] == ["a16"]
        await work.end("a0", "a1")
        assert work.begun[18:] == ["a16", "a17", "a18"]
        await work.end(*names("a", 20), "b1")

    run(together())


def test_a_client_is_alone_again_a_second_after_the_others() -> None:
    async def alone_again() -> None:
        work = Work()
        await work.ask("b0", *names("a", 20))
        assert len(work.begun) == 17
        work.clock.now += 0.9
        await work.ask("a20")
        assert len(work.begun) == 17
        work.clock.now += 0.2
        await work.ask(*names("c", 20))  # b was silent, but a was not
        assert len(work.begun) == 17 + 16
        work.clock.now += 1.1
        await work.ask("c20")
        assert work.begun[33:] == ["c20"]
        await work.end(*names("a", 21), "b0", *names("c", 21))

    run(alone_again())


def test_a_client_that_leaves_while_it_waits_takes_no_slot() -> None:
    async def left() -> None:
        work = Work()
        tasks = await work.ask("b0", *names("a", 19))  # a16, a17 and a18 wait
        tasks[17].cancel()
        await let_others_run()
        work._ends["a0"].set()
        await let_others_run()
        assert work.begun[17:] == ["a17"]
        work._ends["a1"].set()
        tasks[19].cancel()  # a18, at the moment at which its slot becomes free
        await let_others_run()
        await work.ask("a19")
        assert work.begun[18:] == ["a19"]
        await work.end(*names("a", 20), "b0")

    run(left())


# Tickets


def held(admission: Admission) -> tuple[int, int, int]:
    return admission.requests.used, admission.bodies.used, admission.queue.used


async def succeed() -> None:
    pass


async def leave() -> None:
    raise asyncio.CancelledError


async def break_down() -> None:
    raise RuntimeError("broken")


async def refuse() -> None:
    raise invalid(None, "no")


@pytest.mark.parametrize("compute", [succeed, leave, break_down, refuse])
def test_a_request_gives_everything_back_however_it_ends(compute: Callable[[], Awaitable[None]]) -> None:
    service, asking = admission(), client(in_flight=10)

    async def request() -> None:
        with service.request(asking) as ticket:
            ticket.body(20)
            ticket.body(30)
            async with ticket.work():
                ticket.samples(10, queued=8)
                assert held(service) == (1, 50, 8)
                assert asking.in_flight == 10
                await compute()
            ticket.computed()
            assert held(service) == (1, 50, 0)  # the answer is still to be sent
            assert asking.in_flight == 10

    done = asyncio.run(gather(request()))
    assert (done is None) == (compute is succeed)
    assert held(service) == (0, 0, 0)
    assert asking.in_flight == 0


async def gather(request: Coroutine[Any, Any, None]) -> BaseException | None:
    (done,) = await asyncio.gather(request, return_exceptions=True)
    return done


def refused(attempt: Callable[[], object]) -> tuple[str, int]:
    """Return the code of a refusal and its Retry-After."""
    with pytest.raises(ApiError) as caught:
        attempt()
    assert caught.value.status == 429
    assert caught.value.headers is not None
    return caught.value.code, int(caught.value.headers["Retry-After"])


def test_a_request_is_refused_at_the_door_when_no_place_is_free() -> None:
    async def full() -> None:
        service, greedy = admission(max_requests=8), client("greedy")
        tickets = [service.request(greedy) for _ in range(8)]
        at_work = [ticket.work() for ticket in tickets]
        for work in at_work[:7]:
            await work.__aenter__()
        with pytest.raises(ApiError) as late:  # it came before the places were taken
            await at_work[7].__aenter__()
        assert late.value.code == "too_many_requests"
        assert refused(lambda: service.request(greedy)) == ("too_many_requests", 1)
        service.request(client("other"))
        tickets[0].__exit__()
        service.request(greedy)

    run(full())


def test_a_request_is_refused_at_the_door_when_the_queue_is_full() -> None:
    service = admission(max_queue=64)
    ticket = service.request(None)
    ticket.samples(60, queued=60)
    assert refused(lambda: service.request(None).samples(6, queued=6)) == ("queue_full", 5)  # two too many, 2.5 s each
    service.request(None).samples(4, queued=4)
    assert refused(lambda: service.request(None)) == ("queue_full", 3)
    ticket.computed()
    service.request(None).samples(60, queued=60)


def test_one_client_cannot_fill_the_queue_for_another() -> None:
    service, greedy, other = admission(max_queue=64), client("greedy"), client("other")
    service.request(greedy).samples(56, queued=56)
    assert refused(lambda: service.request(greedy)) == ("queue_full", 3)
    service.request(other).samples(8, queued=8)


def test_bodies_of_sixteen_times_the_largest_size_are_held_at_a_time() -> None:
    service = admission(max_body=100)
    tickets = [service.request(None) for _ in range(17)]
    for ticket in tickets[:16]:
        ticket.body(100)
    assert refused(lambda: tickets[16].body(1)) == ("too_many_requests", 1)
    tickets[0].__exit__()
    tickets[16].body(100)


# A token's own limits


def test_samples_are_in_flight_until_the_request_ends() -> None:
    service, asking = admission(), client(in_flight=10)
    first = service.request(asking)
    first.samples(8, queued=8)
    assert refused(lambda: service.request(asking).samples(4, queued=4)) == ("too_many_in_flight", 5)
    first.__exit__()
    service.request(asking).samples(10, queued=10)
    with pytest.raises(ApiError) as never:
        service.request(asking).samples(11, queued=11)
    assert never.value.status == 400


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
)
def test_samples_that_the_service_could_not_compute_are_not_charged(
    problem: BaseException | None, charged: bool
) -> None:
    service, asking = admission(), client(rate=0.001, burst=10)

    async def request() -> None:
        with service.request(asking) as ticket:
            async with ticket.work():
                ticket.samples(10, queued=10)
                if problem is not None:
                    raise problem

    assert type(asyncio.run(gather(request()))) is type(problem)
    if charged:
        assert refused(lambda: service.request(asking).samples(1, queued=1))[0] == "rate_limited"
    else:
        service.request(asking).samples(10, queued=10)


def test_samples_that_find_no_place_in_the_queue_are_not_charged() -> None:
    service, asking = admission(max_queue=8), client(rate=0.001, burst=8)
    other = service.request(client("other"))
    other.samples(4, queued=4)

    async def request() -> None:
        with service.request(asking) as ticket:
            async with ticket.work():
                ticket.samples(8, queued=8)

    done = asyncio.run(gather(request()))
    assert isinstance(done, ApiError)
    assert done.code == "queue_full"
    other.__exit__()
    assert asyncio.run(gather(request())) is None


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


def test_a_full_queue_refuses_before_the_body_is_read(service: Service) -> None:
    async def fill() -> None:
        await service.ask(num_samples=60)
        partly = await service.ask(num_samples=5)
        assert partly.error == (429, "queue_full")
        await service.ask(num_samples=4)
        late = await service.ask()
        assert late.error == (429, "queue_full")
        assert int(late.headers["retry-after"]) >= 1
        assert (partly.was_read, late.was_read) == (True, False)
        assert await service.finish() == [200, 429, 200, 429]
        await service.ask()
        assert (await service.finish())[-1] == 200

    run(fill())


def test_too_many_requests_are_refused_before_their_bodies_are_read(service: Service) -> None:
    async def crowd() -> None:
        sending = await service.ask(send_body=False)  # takes no place yet
        for _ in range(32):
            await service.ask()
        late = await service.ask()
        assert late.error == (429, "too_many_requests")
        assert not late.was_read
        sending.send_body()
        await let_others_run()
        assert sending.error == (429, "too_many_requests")
        assert await service.finish() == [429] + [200] * 32 + [429]
        assert service.held == (0, 0, 0)

    run(crowd())


def test_one_token_cannot_take_all_places(service: Service) -> None:
    async def crowd() -> None:
        greedy = [await service.ask(GREEDY) for _ in range(40)]
        assert [request.status for request in greedy] == [0] * 28 + [429] * 12
        await service.ask(OTHER)
        assert await service.finish() == [200] * 28 + [429] * 12 + [200]

    run(crowd())


def test_a_client_beside_others_has_sixteen_requests_in_the_engine_and_the_others_wait(service: Service) -> None:
    async def flood() -> None:
        await service.ask(OTHER)
        greedy = [await service.ask(GREEDY) for _ in range(20)]
        await asyncio.to_thread(service.runner.wait_for_pass)
        assert service.engine.queued + len(service.runner.passes[0]) == 17
        for request in greedy[16:18]:  # they wait, and leave
            request.leave()
        await asyncio.wait([request.task for request in greedy[16:18]])
        assert service.held[0] == 19
        assert await service.finish() == [200] * 17 + [0] * 2 + [200] * 2
        assert sum(map(len, service.runner.passes)) == 19
        assert service.held == (0, 0, 0)

    run(flood())


@pytest.mark.parametrize("end", ["answered", "left", "timed out", "broken", "streamed", "stream left"])
def test_whatever_becomes_of_a_request_it_gives_everything_back(service: Service, end: str) -> None:
    async def ask_and_end() -> None:
        body: dict[str, Any] = {"num_samples": 40, "seed": 1}
        if "stream" in end:
            body = {"keyframes": [{"seed": 1}, {"seed": 2}], "steps": 40}
        path = "/interpolate" if "stream" in end else "/generate"
        accept = "text/event-stream" if "stream" in end else "*/*"
        timeout = "0.05" if end == "timed out" else "60"
        headers = {"accept": accept, "x-request-timeout": timeout}
        request = await service.ask(GREEDY, body=body, path=path, headers=headers)
        assert service.held[0] == 1
        assert service.held[1] > 0
        assert service.held[2] == (16 if "stream" in end else 40)
        if end == "broken":
            service.runner.problem = RuntimeError("the model broke")
        if "left" in end:
            request.leave()
            await request.task
        elif end == "timed out":
            await request.task
        statuses = {"answered": 200, "left": 0, "timed out": 504, "broken": 500, "streamed": 200, "stream left": 200}
        assert await service.finish() == [statuses[end]]
        assert service.held == (0, 0, 0)

    run(ask_and_end())


def test_bodies_that_are_not_whole_do_not_fill_the_memory(service: Service) -> None:
    async def flood() -> None:
        half: dict[str, Any] = {"body": " " * 998, "more_body": True}
        sending = [await service.ask(**half) for _ in range(16)]
        refused = await service.ask(**half)
        assert refused.error == (429, "too_many_requests")
        assert [request.status for request in sending] == [0] * 16
        for request in sending:
            request.leave()
        await service.finish()
        await service.ask()
        assert (await service.finish())[-1] == 200

    run(flood())
