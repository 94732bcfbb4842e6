"""Rows that wait for a device, and whose turn it is.

Models take turns, a batch each. Within a model a request's place is its size plus a part of the rows that were served
before it came. So a small request overtakes large ones, requests of one size are served in the order they came, and a
large one of n rows waits for at most _PATIENCE · n rows of smaller ones that come after it.
"""

import asyncio
import heapq
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from models.outputs.base import Samples
from models.sampling import Rows
from service.engine.replica import Replica

Encode = Callable[[Samples], list[Any]]
Assemble = Callable[[list[Any]], Any]

_PATIENCE = 64


@dataclass(eq=False)
class Job:
    """One request's rows, and what becomes of its samples."""

    replica: Replica
    rows: Rows
    encode: Encode
    assemble: Assemble
    future: asyncio.Future[Any]
    requester: object = None
    """Whose rows they are."""
    taken: int = 0
    """Rows that are in a batch or done: the first so many."""
    results: list[Any] = field(default_factory=list)
    unfinished: int = 0
    submitted: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.unfinished = len(self.rows)
        self.results = [None] * len(self.rows)

    @property
    def waiting(self) -> int:
        """Rows that are in no batch yet."""
        return len(self.rows) - self.taken


@dataclass(frozen=True)
class Slice:
    """The rows of one job that are in a batch."""

    job: Job
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True)
class Batch:
    """Rows of one model that are computed together."""

    replica: Replica
    slices: list[Slice]

    @property
    def rows(self) -> Rows:
        """All of them, in the order of the slices."""
        return Rows.join([part.job.rows[part.start : part.stop] for part in self.slices])


@dataclass
class _Lane:
    """What waits for one model."""

    heap: list[tuple[float, int, Job]] = field(default_factory=list)
    """Place, order of arrival, request."""
    served: int = 0
    waiting: int = 0
    dropped: int = 0
    """Requests in the heap that need nothing any more."""


class FairQueue:
    """Not safe for threads: its owner holds a lock."""

    def __init__(self) -> None:
        self.waiting = 0
        """Rows in no batch yet."""
        self._lanes: OrderedDict[Replica, _Lane] = OrderedDict()
        self._arrivals = count()

    def put(self, job: Job) -> None:
        """Queue all rows of a new job."""
        lane = self._lanes.setdefault(job.replica, _Lane())
        place = len(job.rows) + lane.served / _PATIENCE
        heapq.heappush(lane.heap, (place, next(self._arrivals), job))
        lane.waiting += job.waiting
        self.waiting += job.waiting

    def drop(self, job: Job) -> None:
        """Forget the rows of a job that are in no batch yet."""
        lane = self._lanes.get(job.replica)
        if lane is None or not job.waiting:
            return
        lane.waiting -= job.waiting
        self.waiting -= job.waiting
        job.taken = len(job.rows)
        lane.dropped += 1
        if not lane.waiting:
            del self._lanes[job.replica]
        elif lane.dropped > len(lane.heap) // 2:
            lane.heap = [entry for entry in lane.heap if entry[2].waiting]
            heapq.heapify(lane.heap)
            lane.dropped = 0

    def drop_all(self) -> list[Job]:
        """Forget all rows; gives the jobs that they were of."""
        jobs = [job for lane in self._lanes.values() for _, _, job in lane.heap if job.waiting]
        for job in jobs:
            self.drop(job)
        return jobs

    def take(self, parts: int = 1) -> Batch | None:
        """The next batch of the model whose turn it is; None where nothing waits.

        `parts`: among how many passes, this one included, what waits may be divided, since they run side by side.
        """
        if not self._lanes:
            return None
        replica, lane = self._lanes.popitem(last=False)
        slices = self._fill(lane, replica.calibration.choose(-(-lane.waiting // parts)))
        if lane.waiting:
            self._lanes[replica] = lane  # to the end: the other models come first
        return Batch(replica, slices)

    def _fill(self, lane: _Lane, room: int) -> list[Slice]:
        slices: list[Slice] = []
        while room and lane.waiting:
            _, _, job = lane.heap[0]
            if not job.waiting:
                heapq.heappop(lane.heap)
                continue
            part = Slice(job, job.taken, min(job.taken + room, len(job.rows)))
            slices.append(part)
            job.taken = part.stop
            room -= len(part)
            lane.served += len(part)
            lane.waiting -= len(part)
            self.waiting -= len(part)
        return slices
