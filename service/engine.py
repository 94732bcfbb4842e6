"""The batching engine: one thread that keeps the device busy with microbatches of samples.

Rows that arrive while the device is busy share the next batch; a lone request is computed at once. Models take turns,
and so do the requests for one model, so a large request is split over batches and cannot starve a small one.
"""

import logging
import threading
from collections import OrderedDict, deque
from collections.abc import Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np

from models.latents import Latents
from models.outputs.base import Samples
from models.sampling import MICROBATCH, forward_microbatch
from service.catalog import ServedModel

logger = logging.getLogger("latentd.engine")


class QueueFullError(Exception):
    """More samples wait than the queue may hold."""


class EngineClosedError(Exception):
    """The engine is shutting down and takes no more work."""


@dataclass(eq=False)
class _Job:
    """One request's rows; the first `taken` of them are in a batch or done."""

    latents: Latents
    labels: Sequence[int | None]
    future: Future[Samples] = field(default_factory=Future)
    taken: int = 0
    parts: list[Samples] = field(default_factory=list)

    @property
    def waiting(self) -> int:
        return len(self.latents) - self.taken


@dataclass(frozen=True)
class _Slice:
    """The rows of one job that are in a batch."""

    job: _Job
    start: int
    stop: int


class Engine:
    """Takes rows from any thread and computes them on its own."""

    def __init__(self, max_queue: int) -> None:
        self._max_queue = max_queue
        self._queues: OrderedDict[ServedModel, deque[_Job]] = OrderedDict()
        self._queued = 0
        self._closed = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="latentd-engine", daemon=True)

    def start(self) -> None:
        """Begin to compute."""
        self._thread.start()

    def close(self) -> None:
        """Take no more work, finish what is queued, and wait for that."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def submit(self, model: ServedModel, latents: Latents, labels: Sequence[int | None]) -> Future[Samples]:
        """Queue rows [N, dim] and their classes; the future gives samples [N, *shape], float32.

        A future that is cancelled drops the rows not yet computed. Raises QueueFullError, EngineClosedError.
        """
        job = _Job(latents, labels)
        job.future.add_done_callback(lambda _: self._give_up(job))
        with self._changed:
            if self._closed:
                raise EngineClosedError("the engine is shutting down")
            if self._queued + len(latents) > self._max_queue:
                raise QueueFullError(f"{self._queued} samples are waiting, of at most {self._max_queue}")
            self._queued += len(latents)
            self._queues.setdefault(model, deque()).append(job)
            self._changed.notify()
        return job.future

    def _give_up(self, job: _Job) -> None:
        """Let go of the rows that a finished job still waits for, where it was cancelled or an earlier batch failed."""
        with self._changed:
            self._queued -= job.waiting
            job.taken = len(job.latents)

    @property
    def alive(self) -> bool:
        """Whether rows that are submitted will be computed."""
        return self._thread.is_alive() and not self._closed

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._queues or self._closed)
                if not self._queues:
                    return
                model, batch = self._take()
            if batch:
                self._compute(model, batch)

    def _take(self) -> tuple[ServedModel, list[_Slice]]:
        """The next batch: up to MICROBATCH rows of the model whose turn it is, its jobs in turns too."""
        model, queue = self._queues.popitem(last=False)
        batch: list[_Slice] = []
        room = MICROBATCH
        while queue and room:
            job = queue.popleft()
            if not job.waiting:  # cancelled, or failed in an earlier batch
                continue
            count = min(room, job.waiting)
            batch.append(_Slice(job, job.taken, job.taken + count))
            job.taken += count
            room -= count
            self._queued -= count
            if job.waiting:
                queue.append(job)
        if queue:
            self._queues[model] = queue  # to the end: the other models come first
        return model, batch

    def _compute(self, model: ServedModel, batch: list[_Slice]) -> None:
        try:
            latents = np.concatenate([part.job.latents[part.start : part.stop] for part in batch])
            labels = [label for part in batch for label in part.job.labels[part.start : part.stop]]
            _deliver(batch, forward_microbatch(model.generator, latents, labels))
        except Exception as problem:  # whatever a model raises fails its batch, not the engine
            logger.exception("a batch of %s@%s failed", model.name, model.version)
            for part in batch:
                with suppress(InvalidStateError):  # cancelled meanwhile
                    part.job.future.set_exception(problem)


def _deliver(batch: list[_Slice], samples: Samples) -> None:
    """Hand each job its rows; jobs whose last rows these are, are done."""
    offset = 0
    for part in batch:
        part.job.parts.append(samples[offset : offset + part.stop - part.start])
        offset += part.stop - part.start
        if part.stop == len(part.job.latents):
            with suppress(InvalidStateError):  # cancelled meanwhile
                part.job.future.set_result(np.concatenate(part.job.parts))
