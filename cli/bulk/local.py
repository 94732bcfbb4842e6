"""Shards from this machine: one process for each CPU core, or several for each GPU.

They are processes and not threads, because most of the time goes into Python code: drawing latents, writing shards, and
the layers of small networks.
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

MAX_PROCESSES_PER_GPU = 4
"""The most processes of one GPU: while one computes, the others draw latents, encode and write."""


def run_local(checkpoint: Path, spec: BulkSpec, ranges: Iterator[ShardRange]) -> Generator[Shard]:
    """Yield the shards of `ranges` as they are completed. Close the generator after use, which ends the processes.

    Raises BulkError if the samples cannot be computed.
    """
    gpus = torch.cuda.device_count()
    processes = max(gpus, min(core_count(), MAX_PROCESSES_PER_GPU * gpus)) if gpus else core_count()
    context = multiprocessing.get_context("spawn")  # a forked process inherits locks and cannot use CUDA
    others = set(multiprocessing.active_children())
    devices: SimpleQueue[str] = context.SimpleQueue()
    for number in range(processes):
        devices.put(f"cuda:{number % gpus}" if gpus else "cpu")
    pool = ProcessPoolExecutor(processes, context, _initialize, (checkpoint, spec, devices))
    try:
        with _ignore_signals():
            waiting = {pool.submit(_make, each) for each in islice(ranges, processes + 1)}
        while waiting:
            done: set[Future[Shard]]
            done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            waiting |= {pool.submit(_make, each) for each in islice(ranges, len(done))}
            yield from (future.result() for future in done)
    except BrokenProcessPool as problem:
        raise BulkError("a worker process was killed; if memory ran out, lower --shard-samples") from problem
    finally:
        _kill(set(multiprocessing.active_children()) - others)
        pool.shutdown(cancel_futures=True)


@contextmanager
def _ignore_signals() -> Iterator[None]:
    """Start processes that ignore Ctrl-C, which a terminal sends to all of them: their parent ends them."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _kill(processes: set[BaseProcess]) -> None:
    for process in processes:
        process.kill()


_state: dict[str, Any] = {}
"""State of a worker process: its arguments, and its ShardWorker after the first shard."""


def _initialize(checkpoint: Path, spec: BulkSpec, devices: SimpleQueue[str]) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _state.update(checkpoint=checkpoint, spec=spec, device=torch.device(devices.get()))


def _end_with_parent() -> None:
    """End this process with its parent: a worker that waits for work does not notice that the parent is gone."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _make(shard_range: ShardRange) -> Shard:
    if "worker" not in _state:  # not in _initialize: an exception here reaches the parent
        _state["worker"] = ShardWorker(Checkpoint.read(_state["checkpoint"]), _state["spec"], _state["device"])
    shard: Shard = _state["worker"].make(shard_range)
    return shard
