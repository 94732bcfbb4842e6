"""StageInput that wait for a device, and whose turn it is.

Models take turns, a batch each. Clients share a model's batches: none gets more rows of one than another that has as
many waiting (max-min fairness), and where there are more clients than rows in it, they take turns too. Among a client's
own, a request's place is its size plus a part of the rows that were served before it came. So a small request overtakes
large ones, requests of one size are served in the order they came, and a large one of n rows waits for at most
_PATIENCE · n rows of smaller ones that come after it.
"""

import asyncio
import heapq
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from itertools import count, islice
from typing import Any

from latentd.models.outputs.base import Samples
from latentd.models.sampling import StageInput
from latentd.service.context import RequestContext
from latentd.service.engine.executor import StageExecutor
from latentd.service.engine.room import Room

Encode = Callable[[Samples], list[Any]]
Assemble = Callable[[list[Any]], Any]

_PATIENCE = 64


@dataclass(eq=False)
class Submission:
    """One request's rows, and what becomes of its samples."""

    executor: StageExecutor
    rows: StageInput
    encode: Encode
    assemble: Assemble
    future: asyncio.Future[Any]
    context: RequestContext | None = None
    """The request that the rows are of."""
    dispatched: int = 0
    """StageInput that are in a batch or done: the first so many."""
    results: list[Any] = field(default_factory=list)
    unfinished: int = 0
    submitted: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.unfinished = len(self.rows)
        self.results = [None] * len(self.rows)

    @property
    def client(self) -> str | None:
        """The client whose share of the device the rows take; None: that of all requests without a token."""
        return None if self.context is None else self.context.client

    @property
    def waiting(self) -> int:
        """StageInput that are in no batch yet."""
        return len(self.rows) - self.dispatched


@dataclass(frozen=True)
class Slice:
    """The rows of one job that are in a batch."""

    submission: Submission
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True)
class Batch:
    """StageInput of one model that are computed together."""

    executor: StageExecutor
    slices: list[Slice]

    @property
    def rows(self) -> StageInput:
        """All of them, in the order of the slices."""
        return StageInput.concatenate([part.submission.rows[part.start : part.stop] for part in self.slices])


@dataclass
class _Lane:
    """What waits for one model on one account."""

    heap: list[tuple[float, int, Submission]] = field(default_factory=list)
    """Place, order of arrival, request."""
    served: int = 0
    waiting: int = 0
    dropped: int = 0
    """Requests in the heap that need nothing any more."""


class FairQueue:
    """Not safe for threads: its owner holds a lock."""

    def __init__(self, room: Room) -> None:
        """`room`: of which rows that are in no batch yet take some; whoever puts them in looks whether there is any."""
        self.room = room
        self._lanes: OrderedDict[StageExecutor, OrderedDict[Hashable, _Lane]] = OrderedDict()
        """By model and client, those whose turn it is first; none is empty."""
        self._arrivals = count()

    @property
    def waiting(self) -> int:
        """StageInput in no batch yet."""
        return self.room.taken

    def put(self, submission: Submission) -> None:
        """Queue all rows of a new job."""
        lane = self._lanes.setdefault(submission.executor, OrderedDict()).setdefault(submission.client, _Lane())
        place = len(submission.rows) + lane.served / _PATIENCE
        heapq.heappush(lane.heap, (place, next(self._arrivals), submission))
        lane.waiting += submission.waiting
        self.room.take(submission.client, submission.waiting)

    def drop(self, submission: Submission) -> None:
        """Forget the rows of a job that are in no batch yet."""
        if not submission.waiting:
            return
        lanes = self._lanes[submission.executor]
        lane = lanes[submission.client]
        lane.waiting -= submission.waiting
        self.room.leave(submission.client, submission.waiting)
        submission.dispatched = len(submission.rows)
        lane.dropped += 1
        if not lane.waiting:
            del lanes[submission.client]
            if not lanes:
                del self._lanes[submission.executor]
        elif lane.dropped > len(lane.heap) // 2:
            lane.heap = [entry for entry in lane.heap if entry[2].waiting]
            heapq.heapify(lane.heap)
            lane.dropped = 0

    def drop_all(self) -> list[Submission]:
        """Forget all rows; gives the jobs that they were of."""
        lanes = [lane for lanes in self._lanes.values() for lane in lanes.values()]
        submissions = [submission for lane in lanes for _, _, submission in lane.heap if submission.waiting]
        for submission in submissions:
            self.drop(submission)
        return submissions

    def take(self, parts: int = 1) -> Batch | None:
        """The next batch of the model whose turn it is; None where nothing waits.

        `parts`: among how many passes, this one included, what waits may be divided, since they run side by side.
        """
        if not self._lanes:
            return None
        executor, lanes = self._lanes.popitem(last=False)
        waiting = sum(lane.waiting for lane in lanes.values())
        slices = self._share_out(lanes, executor.calibration.choose(-(-waiting // parts)))
        if lanes:
            self._lanes[executor] = lanes  # to the end: the other models come first
        return Batch(executor, slices)

    def _share_out(self, lanes: OrderedDict[Hashable, _Lane], room: int) -> list[Slice]:
        slices: list[Slice] = []
        clients = sorted(islice(lanes, room), key=lambda client: lanes[client].waiting)
        for served, client in enumerate(clients):  # what those with little leave goes to those with much
            lane = lanes.pop(client)
            part = self._fill(lane, room // (len(clients) - served))
            room -= sum(map(len, part))
            slices += part
            if lane.waiting:
                lanes[client] = lane  # to the end: the other clients come first
        return slices

    def _fill(self, lane: _Lane, room: int) -> list[Slice]:
        slices: list[Slice] = []
        while room and lane.waiting:
            _, _, submission = lane.heap[0]
            if not submission.waiting:
                heapq.heappop(lane.heap)
                continue
            part = Slice(submission, submission.dispatched, min(submission.dispatched + room, len(submission.rows)))
            slices.append(part)
            submission.dispatched = part.stop
            room -= len(part)
            lane.served += len(part)
            lane.waiting -= len(part)
            self.room.leave(submission.client, len(part))
        return slices
