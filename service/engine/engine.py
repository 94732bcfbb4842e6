"""The engine: threads that take batches from the queue, run them on the device and deliver the results.

A batch is formed when a device slot becomes free, from the rows that arrived while the slot was busy. A lone request
finds a free slot and is computed at once. The slot is released as soon as the forward pass is done, so the next batch
computes while this one is encoded and delivered. The number of threads bounds the batches in progress, and so memory.
"""

import asyncio
import logging
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from latentd.models.stage_input import StageInput
from latentd.service.context import request_context
from latentd.service.engine.delivery import (
    Outcome,
    assemble,
    deliver,
    encode_slices,
    failure,
    log_contexts,
    split_finite,
)
from latentd.service.engine.encoder_threads import EncoderThreads
from latentd.service.engine.executor import ForwardResult, StageExecutor
from latentd.service.engine.fair_queue import Assemble, Batch, Encode, FairQueue, Submission
from latentd.service.engine.observer import BatchReport, Observer
from latentd.service.engine.rate import RateMeter

logger = logging.getLogger("latentd.engine")

_SWITCH_SECONDS = 0.0002
"""A forward pass takes the GIL again after every layer. With Python's default, it may wait 5 ms each time."""


class QueueFullError(Exception):
    """The queue has too little space for the rows."""


class EngineClosedError(Exception):
    """The engine is shutting down and accepts no more work."""

    def __init__(self) -> None:
        super().__init__("the service is shutting down")


class Engine:
    """Accepts rows from event loops, and computes them on its own threads."""

    def __init__(
        self, max_queue: int, parallel: int, ahead: int = 0, encoders: int = 1, observer: Observer | None = None
    ) -> None:
        """Create an engine whose queue holds at most `max_queue` samples.

        `parallel`: forward passes that the device computes side by side. `ahead`: additional passes that are launched
        early, so that the device starts the next one without a pause. `encoders`: batches that may be encoded while
        all of these passes run, and threads that encode a large batch together. `observer` receives a report of each
        batch.
        """
        self._observer = observer
        self._ahead = ahead
        self._free_slots = parallel + ahead
        self._queue = FairQueue()
        self._max_queue = max_queue
        self._calls: deque[Callable[[], None]] = deque()
        self._rate = RateMeter()
        self._encoder_threads = EncoderThreads(encoders)
        self._closed = False
        self._changed = threading.Condition()
        count = parallel + ahead + encoders
        self._threads = [
            threading.Thread(target=self._run, name=f"latentd-engine-{index}", daemon=True) for index in range(count)
        ]

    def start(self) -> None:
        """Start the threads."""
        sys.setswitchinterval(_SWITCH_SECONDS)
        for thread in self._threads:
            thread.start()

    def submit(
        self, executor: StageExecutor, rows: StageInput, encode: Encode, assemble: Assemble
    ) -> "asyncio.Future[Any]":
        """Queue `rows` for `executor`; call it from an event loop. The future's result is what `assemble` returns.

        `encode` turns samples [n, *shape] into n results. It runs on threads, together for submissions that have the
        same `encode`. `assemble` gets all results of this submission in order, on a thread. If the future is
        canceled, rows that are not computed yet are dropped. The future raises NotFiniteError or BatchFailedError.
        `submit` itself raises QueueFullError or EngineClosedError.
        """
        future = asyncio.get_running_loop().create_future()
        submission = Submission(executor, rows, encode, assemble, future, request_context.get())
        with self._changed:
            if self._closed:
                raise EngineClosedError
            if self._queue.waiting + len(rows) > self._max_queue:
                raise QueueFullError(f"{self._queue.waiting} samples wait, of at most {self._max_queue}")
            self._queue.put(submission)
            self._changed.notify()
        future.add_done_callback(lambda future: self._drop(submission) if future.cancelled() else None)
        return future

    @property
    def crowded(self) -> bool:
        """Whether the queue is more than a quarter full. Requests in chunks then queue one chunk at a time."""
        return self._queue.waiting > self._max_queue // 4

    def seconds_for(self, samples: int) -> float:
        """Return the seconds that `samples` take at the rate of recent batches; 0 before the first batch."""
        return self._rate.seconds_for(samples)

    def run_in_slot(self, task: Callable[[], Any]) -> "Future[Any]":
        """Run `task` in the next free device slot, before queued batches. It should be no longer than a batch."""
        future: Future[Any] = Future()

        def run() -> None:
            try:
                if not future.set_running_or_notify_cancel():
                    return
                try:
                    future.set_result(task())
                except BaseException as problem:  # noqa: BLE001  # the future's result raises it
                    future.set_exception(problem)
            finally:
                self._release_slot()

        with self._changed:
            if self._closed:
                raise EngineClosedError
            self._calls.append(run)
            self._changed.notify()
        return future

    @property
    def queued(self) -> int:
        """Samples that wait in the queue."""
        return self._queue.waiting

    @property
    def alive(self) -> bool:
        """Whether submitted rows will be computed."""
        return not self._closed and all(thread.is_alive() for thread in self._threads)

    def close(self) -> None:
        """Refuse new work, and wait until all queued work is done."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()
        self._encoder_threads.close()

    def abort(self) -> None:
        """Refuse new work. Rows that are in no batch yet fail with EngineClosedError."""
        with self._changed:
            self._closed = True
            dropped = self._queue.drop_all()
            self._changed.notify_all()
        deliver([(submission, EngineClosedError()) for submission in dropped])

    def _drop(self, submission: Submission) -> None:
        with self._changed:
            self._queue.drop(submission)
            if self._closed:
                self._changed.notify_all()  # the queue may be empty now, which ends the threads

    def _run(self) -> None:
        while (task := self._next_task()) is not None:
            try:
                task()
            except Exception:
                logger.exception("the engine failed; it continues with the next batch")

    def _next_task(self) -> Callable[[], None] | None:
        """Wait for a free slot and for work, take the slot and return the work. None: closed, and no work is left."""
        with self._changed:
            while True:
                if self._free_slots:
                    if self._calls:
                        self._free_slots -= 1
                        return self._calls.popleft()
                    batch = self._queue.take(passes=max(1, self._free_slots - self._ahead))
                    if batch is not None:
                        self._free_slots -= 1
                        if self._queue.waiting and self._free_slots:
                            self._changed.notify()
                        return lambda: self._process(batch)
                if self._closed and not self._queue.waiting and not self._calls:
                    self._changed.notify_all()
                    return None
                self._changed.wait()

    def _release_slot(self) -> None:
        with self._changed:
            self._free_slots += 1
            self._changed.notify()

    def _process(self, batch: Batch) -> None:
        """Compute, encode and deliver a batch. An exception fails the batch's submissions, not the engine."""
        started = time.monotonic()
        try:
            computed = batch.executor.compute(batch.rows, batch.quantized)
        except Exception as problem:  # noqa: BLE001  # whatever a model raises
            self._fail(batch, problem)  # before the slot is released, so that their other rows are not computed
            return
        finally:
            self._release_slot()
        try:
            self._deliver(self._encode(batch, computed, started))
        except Exception as problem:  # noqa: BLE001  # delivered to the submissions, and logged
            self._fail(batch, problem)

    def _fail(self, batch: Batch, problem: Exception) -> None:
        submissions = [part.submission for part in batch.slices]
        logger.error("a batch of %s failed", batch.executor.name, exc_info=problem, extra=log_contexts(submissions))
        self._deliver([(submission, failure(problem)) for submission in submissions])

    def _deliver(self, outcomes: list[Outcome]) -> None:
        for submission, outcome in outcomes:
            if isinstance(outcome, Exception):
                self._drop(submission)  # nobody needs the rest of its rows
        deliver(outcomes)

    def _encode(self, batch: Batch, computed: ForwardResult, started: float) -> list[Outcome]:
        """Encode a batch's samples. Return the outcome of each submission that is complete, or that has failed."""
        finite, failed = split_finite(batch.slices, computed)
        encode_started = time.monotonic()
        encoded, not_encoded = encode_slices(finite, self._encoder_threads)
        encode_seconds = time.monotonic() - encode_started
        if self._observer is not None:
            self._observer.batch_done(
                BatchReport(
                    executor=batch.executor,
                    samples=len(computed.samples),
                    encoded=sum(len(part) for part, _ in encoded),
                    capacity=computed.capacity,
                    waited_seconds=[started - part.submission.submitted for part in batch.slices],
                    forward_seconds=computed.forward_seconds,
                    copy_seconds=computed.copy_seconds,
                    encode_seconds=encode_seconds,
                    contexts=[part.submission.context for part in batch.slices],
                    forward_started=started,
                    encode_started=encode_started,
                )
            )
        with self._changed:
            self._rate.add(len(computed.samples), started)
            for part, results in encoded:
                part.submission.store(part, results)
            complete = [part.submission for part, _ in encoded if part.submission.complete]
        return [assemble(submission) for submission in complete] + failed + not_encoded
