"""Shards from a Ray cluster: one task for each shard. Ray places the tasks and repeats those of a lost node.

Shards come back as objects and one process writes them. The nodes need no shared folder, and a repeated task adds no
second shard.
"""

import logging
import signal
import socket
import tempfile
from collections.abc import Generator, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from latentd.cli.bulk.local import MAX_PROCESSES_PER_GPU
from latentd.cli.bulk.shard import BulkError, Shard, ShardWorker
from latentd.cli.bulk.spec import BulkSpec, ShardRange
from latentd.models.checkpoint import Checkpoint
from latentd.models.hardware import choose_device

_CONNECT_SECONDS = 5.0
_RETRIES = 10
"""Times that a task is repeated after it lost its node."""


def run_on_ray(address: str, checkpoint: Path, spec: BulkSpec, ranges: Iterator[ShardRange]) -> Generator[Shard]:
    """Yield the shards of `ranges` as the cluster at `address` completes them. Close the generator after use.

    Raises BulkError if there is no such cluster, or if the samples cannot be computed.
    """
    ray = _connect(address)
    try:
        content = ray.put(checkpoint.read_bytes())
        needs = {"num_cpus": 1, "num_gpus": _gpus_per_task(ray.cluster_resources())}
        task = ray.remote(max_retries=_RETRIES, **needs)(make_shard)

        def start(count: int) -> list[Any]:
            # inside a list, Ray passes the reference: each process fetches the object once, not once per task
            return [task.remote(checkpoint.name, [content], spec, each) for each in islice(ranges, max(0, count))]

        waiting: list[Any] = []
        while waiting := waiting + start(_tasks_in_flight(ray.cluster_resources()) - len(waiting)):
            done, waiting = ray.wait(waiting)
            yield ray.get(done[0])
    except ray.exceptions.RayTaskError as problem:
        raise BulkError(str(problem.cause)) from problem
    except ray.exceptions.RayError as problem:
        raise BulkError(f"the Ray cluster failed: {problem}") from problem
    finally:
        ray.shutdown()


def _connect(address: str) -> Any:
    """Return the module ray, connected to the cluster. Raises BulkError if Ray or the cluster is missing."""
    try:
        import ray  # an extra: it is large, and only clusters need it
    except ImportError as problem:
        raise BulkError("--ray needs Ray: pip install 'latentd[ray]'") from problem
    _require_listener(address)
    on_sigterm = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, ValueError, RuntimeError) as problem:
        raise BulkError(f"no Ray cluster answers at {address!r}: {problem}") from problem
    signal.signal(signal.SIGTERM, on_sigterm)  # Ray installs its own handler
    return ray


def _require_listener(address: str) -> None:
    """Raise BulkError if nothing listens at HOST:PORT. Ray would try for minutes, and ignore signals meanwhile."""
    host, _, port = address.rpartition(":")
    if host and port.isdecimal() and "/" not in host:
        try:
            socket.create_connection((host, int(port)), timeout=_CONNECT_SECONDS).close()
        except (OSError, OverflowError) as problem:
            raise BulkError(f"no Ray cluster answers at {address!r}: {problem}") from problem


def _gpus_per_task(resources: dict[str, float]) -> float:
    """Return the fraction of a GPU that a task reserves.

    If the cluster has GPUs, every task needs one, because CPUs round differently.
    """
    gpus, cpus = resources.get("GPU", 0.0), resources.get("CPU", 1.0)
    return min(1.0, max(1.0 / MAX_PROCESSES_PER_GPU, gpus / cpus)) if gpus else 0.0


def _tasks_in_flight(resources: dict[str, float]) -> int:
    """Return a number of tasks that keeps every core busy without holding all shards in memory."""
    return 2 * max(1, int(resources.get("CPU", 1)))


_workers: dict[BulkSpec, ShardWorker] = {}
"""The worker of this process of the cluster, kept from task to task."""


def make_shard(name: str, content: list[Any], spec: BulkSpec, shard_range: ShardRange) -> Shard:
    """Compute one shard; the task that the cluster runs.

    `name`: the checkpoint's file name. `content`: a list of one reference to its bytes.
    """
    if spec not in _workers:
        _workers[spec] = ShardWorker(_fetch(name, content), spec, choose_device("auto"))
    return _workers[spec].make(shard_range)


def _fetch(name: str, content: list[Any]) -> Checkpoint:
    import ray

    with tempfile.NamedTemporaryFile() as file:
        file.write(ray.get(content[0]))
        file.flush()
        return Checkpoint.read(Path(name), Path(file.name))
