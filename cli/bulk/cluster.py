"""Shards made on a Ray cluster, a task a shard. Where tasks run, and again when a node is lost, is Ray's to say.

Shards come back as objects, and one process writes them: no node needs a folder in common with another, and what Ray
does twice is still kept once.
"""

import logging
import signal
import socket
import tempfile
from collections.abc import Generator, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from latentd.cli.bulk.local import PROCESSES_A_GPU
from latentd.cli.bulk.shard import BulkError, Shard, ShardWorker
from latentd.cli.bulk.spec import BulkSpec, ShardRange
from latentd.models.checkpoint import Checkpoint
from latentd.models.hardware import choose_device

_CONNECT_SECONDS = 5.0
_RETRIES = 10
"""How often a task may lose its node."""


def run_on_ray(address: str, checkpoint: Path, order: BulkSpec, parts: Iterator[ShardRange]) -> Generator[Shard]:
    """All `parts` as shards, in the order in which they are done, by the cluster at `address`. To be closed.

    BulkError where there is no such cluster, or they cannot be made.
    """
    ray = _joined(address)
    try:
        content = ray.put(checkpoint.read_bytes())
        needs = {"num_cpus": 1, "num_gpus": _share_of_gpu(ray.cluster_resources())}
        task = ray.remote(max_retries=_RETRIES, **needs)(make_shard)

        def begin(count: int) -> list[Any]:
            # in a list, an object is not handed over with every task: a process takes it once
            return [task.remote(checkpoint.name, [content], order, part) for part in islice(parts, max(0, count))]

        waiting: list[Any] = []
        while waiting := waiting + begin(_enough(ray.cluster_resources()) - len(waiting)):
            done, waiting = ray.wait(waiting)
            yield ray.get(done[0])
    except ray.exceptions.RayTaskError as problem:
        raise BulkError(str(problem.cause)) from problem
    except ray.exceptions.RayError as problem:
        raise BulkError(f"the Ray cluster gave up: {problem}") from problem
    finally:
        ray.shutdown()


def _joined(address: str) -> Any:
    try:
        import ray  # an extra: large, and for clusters alone
    except ImportError as problem:
        raise BulkError("clusters are Ray's: pip install 'latentd[ray]'") from problem
    _require_listener(address)
    on_sigterm = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, ValueError, RuntimeError) as problem:
        raise BulkError(f"no Ray cluster answers at {address!r}: {problem}") from problem
    signal.signal(signal.SIGTERM, on_sigterm)  # Ray has one of its own
    return ray


def _require_listener(address: str) -> None:
    """BulkError where nobody listens at HOST:PORT: Ray would try for minutes, and heed no signal meanwhile."""
    host, _, port = address.rpartition(":")
    if host and port.isdecimal() and "/" not in host:
        try:
            socket.create_connection((host, int(port)), timeout=_CONNECT_SECONDS).close()
        except (OSError, OverflowError) as problem:
            raise BulkError(f"no Ray cluster answers at {address!r}: {problem}") from problem


def _share_of_gpu(resources: dict[str, float]) -> float:
    """Of each task's: where there are GPUs they make all samples, because other devices round otherwise."""
    gpus, cpus = resources.get("GPU", 0.0), resources.get("CPU", 1.0)
    return min(1.0, max(1.0 / PROCESSES_A_GPU, gpus / cpus)) if gpus else 0.0


def _enough(resources: dict[str, float]) -> int:
    """Tasks under way and waiting, so that no core ever waits for this process, and not all shards are in memory."""
    return 2 * max(1, int(resources.get("CPU", 1)))


_makers: dict[BulkSpec, ShardWorker] = {}
"""A process of the cluster's works for one order, shard after shard."""


def make_shard(name: str, content: list[Any], order: BulkSpec, part: ShardRange) -> Shard:
    """The task, as the cluster calls it: the checkpoint `name`, whose bytes are the one object in `content`."""
    if order not in _makers:
        _makers[order] = ShardWorker(_fetched(name, content), order, choose_device("auto"))
    return _makers[order].make(part)


def _fetched(name: str, content: list[Any]) -> Checkpoint:
    import ray

    with tempfile.NamedTemporaryFile() as file:
        file.write(ray.get(content[0]))
        file.flush()
        return Checkpoint.read(Path(name), Path(file.name))
