"""The order in which the queue fills batches, without threads or time."""

import asyncio
from typing import Any

import pytest

from latentd.service.context import RequestContext
from latentd.service.engine import StageExecutor
from latentd.service.engine.fair_queue import FairQueue, Submission
from tests.service.fakes import BlockingRunner, executor, rows

_LOOP = asyncio.new_event_loop()
_LOOP.close()  # futures need a loop; nobody awaits these


def submission(model: StageExecutor, count: int, client: str | None = None) -> Submission:
    future: asyncio.Future[Any] = asyncio.Future(loop=_LOOP)
    return Submission(model, rows(*range(1, count + 1)), list, list, future, context=RequestContext(client=client))


def dispatched(queue: FairQueue, passes: int = 1) -> list[tuple[Submission, int, int]]:
    batch = queue.take(passes)
    assert batch is not None
    return [(part.submission, part.start, part.stop) for part in batch.slices]


def model(*sizes: int) -> StageExecutor:
    return executor(BlockingRunner(), *sizes or (4,))


def test_requests_share_a_batch() -> None:
    queue, one = FairQueue(), model()
    first, second = submission(one, 1), submission(one, 2)
    queue.put(first)
    queue.put(second)
    assert queue.waiting == 3
    assert dispatched(queue) == [(first, 0, 1), (second, 0, 2)]
    assert queue.waiting == 0
    assert queue.take() is None


def test_a_large_request_is_split() -> None:
    queue, one = FairQueue(), model()
    large = submission(one, 10)
    queue.put(large)
    assert [dispatched(queue) for _ in range(3)] == [[(large, 0, 4)], [(large, 4, 8)], [(large, 8, 10)]]


def test_a_small_request_overtakes_earlier_large_ones() -> None:
    queue, one = FairQueue(), model()
    large = [submission(one, 100), submission(one, 100)]
    for each in large:
        queue.put(each)
    dispatched(queue)
    small = submission(one, 1)
    queue.put(small)
    assert dispatched(queue) == [(small, 0, 1), (large[0], 4, 7)]


def test_requests_of_one_size_are_served_in_the_order_of_arrival() -> None:
    queue, one = FairQueue(), model()
    submissions = [submission(one, 4) for _ in range(3)]
    for each in submissions:
        queue.put(each)
    assert [dispatched(queue) for _ in submissions] == [[(each, 0, 4)] for each in submissions]


@pytest.mark.parametrize("burst", [1, 2, 4, 8, 16])
def test_a_lone_sample_never_waits_for_a_burst_of_large_requests(burst: int) -> None:
    for batches_before in range(0, burst * 16, 5):
        queue, one = FairQueue(), model(16)
        for _ in range(burst):
            queue.put(submission(one, 256))
        for _ in range(batches_before):
            dispatched(queue)
        small = submission(one, 1)
        queue.put(small)
        assert dispatched(queue)[0] == (small, 0, 1)


def test_small_requests_do_not_starve_a_large_one() -> None:
    queue, one = FairQueue(), model()
    large = submission(one, 8)
    queue.put(large)
    served = 0
    while large.waiting:
        for _ in range(4):  # as many as a whole batch holds, again and again
            queue.put(submission(one, 1))
        dispatched(queue)
        served += 4
    assert served <= 64 * 8


def test_models_alternate() -> None:
    queue, one, two = FairQueue(), model(), model()
    for each in (one, two):
        queue.put(submission(each, 8))
    order = [batch.executor for _ in range(4) if (batch := queue.take())]
    assert order == [one, two, one, two]


def test_a_flooding_client_delays_only_itself() -> None:
    queue, one = FairQueue(), model(8)
    flood = [submission(one, 1, "flood") for _ in range(64)]
    for each in flood:
        queue.put(each)
    small, large = submission(one, 1, "small"), submission(one, 100, "large")
    queue.put(small)
    queue.put(large)
    share = [*((each, 0, 1) for each in flood[:3]), (large, 0, 4)]
    assert dispatched(queue) == [(small, 0, 1), *share]
    assert dispatched(queue) == [*((each, 0, 1) for each in flood[3:7]), (large, 4, 8)]


def test_clients_alternate_if_a_batch_is_too_small_for_all() -> None:
    queue, one = FairQueue(), model(2)
    for name in "abcde":
        queue.put(submission(one, 2, name))
    batches = [{part.client for part, _, _ in dispatched(queue)} for _ in range(5)]
    assert batches == [{"a", "b"}, {"c", "d"}, {"e", "a"}, {"b", "c"}, {"d", "e"}]


def test_rows_that_one_client_does_not_need_go_to_another() -> None:
    queue, one = FairQueue(), model(8)
    little, much = submission(one, 2, "little"), submission(one, 20, "much")
    queue.put(much)
    queue.put(little)
    assert dispatched(queue) == [(little, 0, 2), (much, 0, 6)]
    queue.drop(much)
    assert queue.take() is None


def test_dropped_rows_leave_the_queue_at_once() -> None:
    queue, one = FairQueue(), model()
    dropped, kept = submission(one, 3), submission(one, 5)
    queue.put(dropped)
    queue.put(kept)
    queue.drop(dropped)
    queue.drop(dropped)
    assert queue.waiting == 5
    assert dispatched(queue) == [(kept, 0, 4)]
    queue.drop(kept)
    assert queue.waiting == 0
    assert queue.take() is None


def test_dropped_requests_do_not_accumulate() -> None:
    queue, one = FairQueue(), model()
    queue.put(submission(one, 1000))
    for _ in range(300):
        dropped = submission(one, 1200)
        queue.put(dropped)
        queue.drop(dropped)
    assert queue.waiting == 1000
    assert len(queue._lanes[one][None].heap) < 10


def test_all_requests_can_be_dropped() -> None:
    queue = FairQueue()
    submissions = [submission(model(), 3), submission(model(), 5)]
    for each in submissions:
        queue.put(each)
    assert queue.drop_all() == submissions
    assert queue.waiting == 0
    assert queue.take() is None


def test_waiting_rows_are_divided_among_parallel_passes() -> None:
    queue, one = FairQueue(), model(2, 4, 8)
    large = submission(one, 8)
    queue.put(large)
    assert dispatched(queue, passes=2) == [(large, 0, 4)]
    assert dispatched(queue, passes=1) == [(large, 4, 8)]
