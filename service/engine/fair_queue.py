"""Rows that wait for a device, and the order in which they are batched.

Models alternate, one batch each. Clients share the batches of a model with max-min fairness: no client gets more rows
of a batch than another client with as many waiting rows. Clients that do not fit into a batch come first in the next
one. Of one client's requests, the one with the lowest key comes first. The key is the size of the request, plus
1/_OVERTAKE_FACTOR of the rows that were served before it arrived. So small requests overtake large ones, requests of
the same size keep their order, and a request of n rows waits for at most _OVERTAKE_FACTOR · n rows of smaller requests
that arrive after it.
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
from latentd.models.stage_input import StageInput
from latentd.service.context import RequestContext
from latentd.service.engine.executor import StageExecutor

Encode = Callable[[Samples], list[Any]]
"""Samples [n, *shape] → n results."""


@dataclass(frozen=True)
class QuantizedEncode:
    """An `Encode` that gives the same results for quantized samples as for float samples."""

    function: Encode

    def __call__(self, samples: Samples) -> list[Any]:
        return self.function(samples)


Assemble = Callable[[list[Any]], Any]
"""All results of a submission, in order → its answer."""

_OVERTAKE_FACTOR = 64


@dataclass(eq=False)
class Submission:
    """The rows of one call of `Engine.submit`, with the future that awaits their answer."""

    executor: StageExecutor
    rows: StageInput
    encode: Encode
    assemble: Assemble
    future: asyncio.Future[Any]
    context: RequestContext | None = None
    """The request that the rows belong to."""
    dispatched: int = 0
    """The number of rows, from the first one, that are in a batch or done."""
    results: list[Any] = field(init=False)
    """One per row; None until the row is encoded."""
    submitted: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.results = [None] * len(self.rows)
        self._unfinished = len(self.rows)

    @property
    def client(self) -> Hashable:
        """The client to whose share of the batches the rows belong; None for all requests without a client."""
        return None if self.context is None else self.context.client

    @property
    def waiting(self) -> int:
        """Rows that are in no batch yet."""
        return len(self.rows) - self.dispatched

    @property
    def complete(self) -> bool:
        """Whether every row has its result."""
        return not self._unfinished

    def store(self, part: "Slice", results: list[Any]) -> None:
        """Keep the results of one slice of the rows."""
        self.results[part.start : part.stop] = results
        self._unfinished -= len(part)


@dataclass(frozen=True)
class Slice:
    """The rows of one submission that are in a batch."""

    submission: Submission
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True)
class Batch:
    """Rows of one executor that are computed together."""

    executor: StageExecutor
    slices: list[Slice]

    @property
    def rows(self) -> StageInput:
        """All rows, in the order of the slices."""
        return StageInput.concatenate([part.submission.rows[part.start : part.stop] for part in self.slices])

    @property
    def quantized(self) -> bool:
        """Whether all slices accept quantized samples."""
        return all(isinstance(part.submission.encode, QuantizedEncode) for part in self.slices)


@dataclass
class _Lane:
    """The waiting submissions of one client for one executor."""

    heap: list[tuple[float, int, Submission]] = field(default_factory=list)
    """Key, order of arrival, submission."""
    served: int = 0
    """Rows that have left this lane in batches."""
    waiting: int = 0
    """Rows that are in no batch yet."""
    dropped: int = 0
    """Submissions in the heap that were dropped."""


class FairQueue:
    """The queue in front of the device. Not thread-safe: its owner holds a lock."""

    def __init__(self) -> None:
        self.waiting = 0
        """Rows that are in no batch yet."""
        self._lanes: OrderedDict[StageExecutor, OrderedDict[Hashable, _Lane]] = OrderedDict()
        """Lanes by executor and client. The first one is served next. No lane is empty."""
        self._arrivals = count()

    def put(self, submission: Submission) -> None:
        """Queue all rows of a new submission."""
        lane = self._lanes.setdefault(submission.executor, OrderedDict()).setdefault(submission.client, _Lane())
        key = len(submission.rows) + lane.served / _OVERTAKE_FACTOR
        heapq.heappush(lane.heap, (key, next(self._arrivals), submission))
        lane.waiting += submission.waiting
        self.waiting += submission.waiting

    def drop(self, submission: Submission) -> None:
        """Remove the rows of a submission that are in no batch yet."""
        if not submission.waiting:
            return
        lanes = self._lanes[submission.executor]
        lane = lanes[submission.client]
        lane.waiting -= submission.waiting
        self.waiting -= submission.waiting
        submission.dispatched = len(submission.rows)
        lane.dropped += 1
        if not lane.waiting:
            del lanes[submission.client]
            if not lanes:
                del self._lanes[submission.executor]
        elif lane.dropped > len(lane.heap) // 2:
            lane.heap = [item for item in lane.heap if item[2].waiting]
            heapq.heapify(lane.heap)
            lane.dropped = 0

    def drop_all(self) -> list[Submission]:
        """Remove all rows, and return their submissions."""
        lanes = [lane for lanes in self._lanes.values() for lane in lanes.values()]
        submissions = [submission for lane in lanes for _, _, submission in lane.heap if submission.waiting]
        for submission in submissions:
            self.drop(submission)
        return submissions

    def take(self, passes: int = 1) -> Batch | None:
        """Remove and return the next batch of the first executor; None if nothing waits.

        `passes`: the number of passes that can run side by side now. The waiting rows are divided among them.
        """
        if not self._lanes:
            return None
        executor, lanes = self._lanes.popitem(last=False)
        waiting = sum(lane.waiting for lane in lanes.values())
        slices = self._share(lanes, executor.calibration.choose_size(-(-waiting // passes)))
        if lanes:
            self._lanes[executor] = lanes  # at the end: the other executors come first
        return Batch(executor, slices)

    def _share(self, lanes: OrderedDict[Hashable, _Lane], size: int) -> list[Slice]:
        """Divide a batch of `size` rows among the clients."""
        slices: list[Slice] = []
        clients = sorted(islice(lanes, size), key=lambda client: lanes[client].waiting)
        for served, client in enumerate(
            clients
        ):  # in ascending order, so that rows that one client does not need go to the next ones
            lane = lanes.pop(client)
            part = self._fill(lane, size // (len(clients) - served))
            size -= sum(map(len, part))
            slices += part
            if lane.waiting:
                lanes[client] = lane  # at the end: the other clients come first
        return slices

    def _fill(self, lane: _Lane, size: int) -> list[Slice]:
        """Take up to `size` rows from one client's submissions."""
        slices: list[Slice] = []
        while size and lane.waiting:
            _, _, submission = lane.heap[0]
            if not submission.waiting:
                heapq.heappop(lane.heap)
                continue
            start = submission.dispatched
            part = Slice(submission, start, min(start + size, len(submission.rows)))
            slices.append(part)
            submission.dispatched = part.stop
            size -= len(part)
            lane.served += len(part)
            lane.waiting -= len(part)
            self.waiting -= len(part)
        return slices
