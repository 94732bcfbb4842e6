"""Shards made on this machine: a process a CPU core, or several for each GPU.

Processes, because drawing latents, packing and a small network's layers are Python's work for the most part, which the
threads of one process would take turns at.
"""

import multiprocessing
import os
import signal
import threading
from collections.abc import Generator, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from itertools import islice
from multiprocessing.process import BaseProcess
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from typing import Any

import torch

from latentd.cli.bulk.shard import BulkError, Shard, ShardWorker
from latentd.cli.bulk.spec import BulkSpec, ShardRange
from latentd.models.checkpoint import Checkpoint
from latentd.models.hardware import core_count

PROCESSES_A_GPU = 4
"""At most: while one of them computes, the others draw, encode and pack."""


def run_local(checkpoint: Path, order: BulkSpec, parts: Iterator[ShardRange]) -> Generator[Shard]:
    """All `parts` as shards, in the order in which they are done. To be closed, which ends the processes.

    BulkError where they cannot be made.
    """
    gpus = torch.cuda.device_count()
    processes = max(gpus, min(core_count(), PROCESSES_A_GPU * gpus)) if gpus else core_count()
    context = multiprocessing.get_context("spawn")  # a fork would take over locks, and not find its GPU
    strangers = set(multiprocessing.active_children())
    devices: SimpleQueue[str] = context.SimpleQueue()
    for number in range(processes):
        devices.put(f"cuda:{number % gpus}" if gpus else "cpu")
    pool = ProcessPoolExecutor(processes, context, _begin, (checkpoint, order, devices))
    try:
        with _signals_ignored():
            waiting = {pool.submit(_make, part) for part in islice(parts, processes + 1)}
        while waiting:
            done: set[Future[Shard]]
            done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            waiting |= {pool.submit(_make, part) for part in islice(parts, len(done))}
            yield from (future.result() for future in done)
    except BrokenProcessPool as problem:
        raise BulkError(
            "a process that made samples was killed; for want of memory, lower --shard-samples"
        ) from problem
    finally:
        _end(set(multiprocessing.active_children()) - strangers)
        pool.shutdown(cancel_futures=True)


@contextmanager
def _signals_ignored() -> Iterator[None]:
    """What is started within the block is not ended by Ctrl-C, which a terminal sends to all: its parent ends it."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _end(processes: set[BaseProcess]) -> None:
    for process in processes:
        process.kill()


_work: dict[str, Any] = {}
"""A worker's: what it was begun with, and its maker."""


def _begin(checkpoint: Path, order: BulkSpec, devices: SimpleQueue[str]) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _work.update(checkpoint=checkpoint, order=order, device=torch.device(devices.get()))


def _end_with_parent() -> None:
    """A worker that waits for work does not notice by itself that nobody is there any more."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _make(part: ShardRange) -> Shard:
    if "maker" not in _work:  # here, and not as it begins: what is raised here reaches the parent
        _work["maker"] = ShardWorker(Checkpoint.read(_work["checkpoint"]), _work["order"], _work["device"])
    shard: Shard = _work["maker"].make(part)
    return shard
