"""The engine: threads that carry batches from the queue through the device to those who wait for them.

A batch is formed when a device slot falls free, from what came while the slot was busy; a lone request finds one free
and is computed at once. The slot is given on as soon as the forward pass is done, so the next batch computes while this
one is encoded and delivered. Memory is bounded: so many batches as there are threads are under way.
"""

import asyncio
import logging
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from contextlib import suppress
from itertools import accumulate, groupby
from typing import Any

import numpy as np

from latentd.models.outputs.base import Samples
from latentd.models.sampling import StageInput
from latentd.service.context import RequestContext, current_client, request_context
from latentd.service.engine.executor import Computed, NotFiniteError, StageExecutor
from latentd.service.engine.fair_queue import Assemble, Batch, Encode, FairQueue, Slice, Submission
from latentd.service.engine.observer import BatchReport, Observer
from latentd.service.engine.rate import RateMeter
from latentd.service.engine.room import Room

logger = logging.getLogger("latentd.engine")

_SWITCH_SECONDS = 0.0002
"""A forward pass takes Python's lock back after every layer; it should not wait 5 ms, the default, for each."""


_EMPTY_AGAIN = 3 / 4
"""Share of the queue's limit at which one that refused work has forgotten it."""
_ROOM_AGAIN = 7
"""A client whose samples were refused is read again once there is room for a seventh of what it has waiting."""

_Samples = tuple[Slice, Samples]
_Outcome = tuple[Submission, Any]
"""A request and its answer, or the exception that takes its place."""


class QueueFullError(Exception):
    """More samples wait than the queue may hold; there may be room in `retry_after` seconds."""

    def __init__(self, message: str, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class EngineClosedError(Exception):
    """The engine is shutting down and takes no more work."""


class BatchFailedError(Exception):
    """The generator or an encoder raised; its cause says what."""


class Engine:
    """Takes rows from event loops and computes them on threads of its own."""

    def __init__(
        self, max_queue: int, parallel: int, ahead: int = 0, encoders: int = 1, observer: Observer | None = None
    ) -> None:
        """`parallel`: forward passes that the device computes side by side; `ahead`: passes that it may be given beyond
        these, to begin without a pause; `encoders`: batches that may be encoded while all of these compute; `observer`
        is told of each batch."""
        self._observer = observer
        self._ahead = ahead
        self._free_slots = parallel + ahead
        self._queue = FairQueue(Room(max_queue))
        self._calls: deque[Callable[[], None]] = deque()
        self._rate = RateMeter()
        self._refusing = False
        self._closed = False
        self._changed = threading.Condition()
        count = parallel + ahead + encoders
        self._threads = [
            threading.Thread(target=self._work, name=f"latentd-engine-{index}", daemon=True) for index in range(count)
        ]

    def start(self) -> None:
        """Begin to compute."""
        sys.setswitchinterval(_SWITCH_SECONDS)
        for thread in self._threads:
            thread.start()

    def submit(
        self, executor: StageExecutor, rows: StageInput, encode: Encode, assemble: Assemble
    ) -> "asyncio.Future[Any]":
        """Queue `rows` for `executor`, from an event loop. The future gives what `assemble` makes of all results.

        `encode` makes samples [n, *shape] into n results, on a thread, for several requests of one `encode` at once;
        `assemble` gets a request's results in order, on a thread. A future that is cancelled drops the rows not yet
        computed. The future raises NotFiniteError and BatchFailedError; submit QueueFullError and EngineClosedError.
        """
        submission = Submission(
            executor,
            rows,
            encode,
            assemble,
            asyncio.get_running_loop().create_future(),
            request_context.get(),
        )
        with self._changed:
            if self._closed:
                raise EngineClosedError("the service is shutting down")
            self.require_room(len(rows))
            self._queue.put(submission)
            self._changed.notify()
        submission.future.add_done_callback(lambda future: self._drop(submission) if future.cancelled() else None)
        return submission.future

    def require_room(self, samples: int) -> None:
        """QueueFullError where so many of the client's would not fit: worth asking before latents are drawn."""
        room = self._queue.room
        excess = room.excess(current_client(), samples)
        if excess > 0:
            self._refusing = True
            message = f"{room.taken} samples are waiting, of at most {room.size}"
            if room.taken + samples <= room.size:
                message += f", {room.held(current_client())} of them yours; what is free is kept for others"
            raise QueueFullError(f"{message}; try again later", self.seconds_for(excess))

    @property
    def crowded(self) -> bool:
        """Whether half of what may wait does."""
        return self._queue.waiting > self._queue.room.size // 2

    @property
    def overfull(self) -> bool:
        """Whether the queue refused work and has not emptied noticeably since: what the client asks would be in vain.

        Asked before a request is read, it spares the service most of what a flood costs.
        """
        room, asking = self._queue.room, current_client()
        if self._refusing and room.taken <= room.size * _EMPTY_AGAIN:
            self._refusing = False
        return self._refusing and room.excess(asking, room.held(asking) // _ROOM_AGAIN) > 0

    def seconds_for(self, samples: int) -> float:
        """How long so many samples take at the rate of the recent batches; 0 before there were any."""
        return self._rate.seconds_for(samples)

    def run_in_slot(self, task: Callable[[], Any]) -> "Future[Any]":
        """Run `task` in the next free device slot, ahead of what is queued; it should take no longer than a batch."""
        future: Future[Any] = Future()

        def run() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                future.set_result(task())
            except BaseException as problem:  # noqa: BLE001  # raised where the future's result is asked for
                future.set_exception(problem)

        with self._changed:
            if self._closed:
                raise EngineClosedError("the service is shutting down")
            self._calls.append(run)
            self._changed.notify()
        return future

    @property
    def queued(self) -> int:
        """Samples that wait."""
        return self._queue.waiting

    @property
    def alive(self) -> bool:
        """Whether rows that are submitted will be computed."""
        return not self._closed and all(thread.is_alive() for thread in self._threads)

    def close(self) -> None:
        """Take no more work, finish what is queued, and wait for that."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def abort(self) -> None:
        """Take no more work, and fail with EngineClosedError what is in no batch yet."""
        with self._changed:
            self._closed = True
            submissions = self._queue.drop_all()
            self._changed.notify_all()
        _deliver([(submission, EngineClosedError("the service is shutting down")) for submission in submissions])

    def _drop(self, submission: Submission) -> None:
        with self._changed:
            self._queue.drop(submission)
            if self._closed:
                self._changed.notify_all()  # there may be nothing left to wait for

    def _work(self) -> None:
        while (task := self._next()) is not None:
            try:
                task()
            except Exception:
                logger.exception("the engine failed; it goes on with the next batch")

    def _next(self) -> Callable[[], None] | None:
        """What to do with the next free slot, which is taken; None where nothing will come any more."""
        with self._changed:
            while True:
                if self._free_slots:
                    if self._calls:
                        self._free_slots -= 1
                        return self._with_slot(self._calls.popleft())
                    batch = self._queue.take(parts=max(1, self._free_slots - self._ahead))
                    if batch is not None:
                        self._free_slots -= 1
                        if self._queue.waiting and self._free_slots:
                            self._changed.notify()
                        return lambda: self._carry(batch)
                if self._closed and not self._queue.waiting and not self._calls:
                    self._changed.notify_all()
                    return None
                self._changed.wait()

    def _with_slot(self, task: Callable[[], None]) -> Callable[[], None]:
        def run() -> None:
            try:
                task()
            finally:
                self._free_slot()

        return run

    def _free_slot(self) -> None:
        with self._changed:
            self._free_slots += 1
            self._changed.notify()

    def _carry(self, batch: Batch) -> None:
        """From rows to answers; whatever goes wrong fails this batch, not the engine."""
        started = time.monotonic()
        try:
            computed = batch.executor.compute(batch.rows)
        except Exception as problem:  # noqa: BLE001  # whatever a model raises
            self._fail(batch, problem)  # before the slot is free: what these requests still wait for is not computed
            return
        finally:
            self._free_slot()
        try:
            self._conclude(self._finish(batch, computed, started))
        except Exception as problem:  # noqa: BLE001  # fails those who wait for it, and is logged
            self._fail(batch, problem)

    def _fail(self, batch: Batch, problem: Exception) -> None:
        submissions = [part.submission for part in batch.slices]
        logger.error("a batch of %s failed", batch.executor.name, exc_info=problem, extra=_about(submissions))
        self._conclude([(submission, _failure(problem)) for submission in submissions])

    def _conclude(self, done: list[_Outcome]) -> None:
        """Deliver outcomes; a request that failed needs the rest of its rows no more."""
        for submission, outcome in done:
            if isinstance(outcome, Exception):
                self._drop(submission)
        _deliver(done)

    def _finish(self, batch: Batch, computed: Computed, started: float) -> list[_Outcome]:
        """Encode each job's samples; gives the jobs that are done, with their outcomes."""
        good, failed = _split_finite(batch.slices, computed.samples)
        encoding = time.monotonic()
        results, not_encoded = _encode(good)
        encode_seconds = time.monotonic() - encoding
        if self._observer is not None:
            self._observer.batch_done(
                BatchReport(
                    executor=batch.executor,
                    samples=len(computed.samples),
                    encoded=sum(len(part) for part, _ in results),
                    capacity=computed.capacity,
                    waited_seconds=[started - part.submission.submitted for part in batch.slices],
                    forward_seconds=computed.forward_seconds,
                    copy_seconds=computed.copy_seconds,
                    encode_seconds=encode_seconds,
                    contexts=[part.submission.context for part in batch.slices],
                    forward_started=started,
                    encode_started=encoding,
                )
            )
        with self._changed:
            self._rate.add(len(computed.samples), started)
            for part, encoded in results:
                part.submission.results[part.start : part.stop] = encoded
                part.submission.unfinished -= len(part)
            complete = [part.submission for part, _ in results if not part.submission.unfinished]
        return [(submission, _assembled(submission)) for submission in complete] + failed + not_encoded


def _split_finite(slices: list[Slice], samples: Samples) -> tuple[list[_Samples], list[_Outcome]]:
    """The slices with their samples, and the jobs that have one that is not finite."""
    ends = accumulate(map(len, slices))
    parts = [(part, samples[end - len(part) : end]) for part, end in zip(slices, ends, strict=True)]
    if np.isfinite(samples).all():
        return parts, []
    good: list[_Samples] = []
    bad: list[_Outcome] = []
    for part, values in parts:
        if np.isfinite(values).all():
            good.append((part, values))
        else:
            bad.append((part.submission, NotFiniteError("a sample is not finite")))
    return good, bad


def _encode(parts: list[_Samples]) -> tuple[list[tuple[Slice, list[Any]]], list[_Outcome]]:
    """Each slice's results, and the jobs that cannot be encoded; neighbours that are encoded alike go together."""
    results: list[tuple[Slice, list[Any]]] = []
    failed: list[_Outcome] = []
    for encode, group in groupby(parts, key=lambda each: each[0].submission.encode):
        alike = [(part, values) for part, values in group if not part.submission.future.cancelled()]
        try:
            results += _encode_together(encode, alike)
        except Exception:
            logger.exception(
                "samples could not be encoded together", extra=_about(part.submission for part, _ in alike)
            )
            for each in alike:
                try:
                    results += _encode_together(encode, [each])
                except Exception as problem:  # noqa: BLE001  # logged above
                    failed.append((each[0].submission, _failure(problem)))
    return results, failed


def _encode_together(encode: Encode, parts: list[_Samples]) -> list[tuple[Slice, list[Any]]]:
    if not parts:
        return []
    encoded = encode(np.concatenate([values for _, values in parts]))
    ends = accumulate(len(part) for part, _ in parts)
    return [(part, encoded[end - len(part) : end]) for (part, _), end in zip(parts, ends, strict=True)]


def _assembled(submission: Submission) -> Any:
    try:
        return submission.assemble(submission.results)
    except Exception as problem:
        logger.exception("an answer could not be assembled", extra=_about([submission]))
        return _failure(problem)


def _about(submissions: Iterable[Submission]) -> dict[str, list[RequestContext | None]]:
    """Whose failure it is, for the log's line."""
    return {"request_contexts": [submission.context for submission in submissions]}


def _failure(problem: Exception) -> BatchFailedError:
    """An exception of its own for each request that `problem` fails."""
    failure = BatchFailedError(str(problem))
    failure.__cause__ = problem
    return failure


def _deliver(done: list[_Outcome]) -> None:
    """Settle the futures of jobs that are done, in one call a loop."""
    for loop, group in groupby(done, key=lambda each: each[0].future.get_loop()):
        with suppress(RuntimeError):  # a loop that is closed has nobody who waits
            loop.call_soon_threadsafe(_settle, list(group))


def _settle(done: list[_Outcome]) -> None:
    for submission, outcome in done:
        if submission.future.done():  # cancelled meanwhile
            continue
        if isinstance(outcome, Exception):
            submission.future.set_exception(outcome)
        else:
            submission.future.set_result(outcome)
