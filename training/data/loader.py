"""From a data source to batches on the device: this rank's rows, pixels normalized, large data sets prefetched."""

import queue
import threading
from collections.abc import Iterator
from typing import TypeVar

import torch
from torch import Tensor

from latentd.models.conditions.base import ConditionKind
from latentd.training.data.pixels import normalize
from latentd.training.data.source import Annotations, Batch, DataSource
from latentd.training.world import World

T = TypeVar("T")

_PREFETCHED_BATCHES = 4


def load_batches(
    source: DataSource,
    condition: ConditionKind,
    batch_size: int,
    seed: int,
    first: int,
    device: torch.device,
    world: World,
) -> Iterator[Batch]:
    """Yield this rank's rows of batch number `first`, `first` + 1, …, without end.

    `batch_size` is that of all ranks together. Annotations become the rows of `condition`, if it has any.
    """
    source.preload(device)
    drawn = ((_pinned(samples, device), known) for samples, known in source.draw(batch_size, seed, first, world.shard))
    for samples, annotations in prefetch(drawn) if source.prefetch else drawn:
        yield as_batch(samples, annotations, condition, device)


def as_batch(samples: Tensor, annotations: Annotations | None, condition: ConditionKind, device: torch.device) -> Batch:
    """Turn what a source drew into a batch on the device. samples: [N, *shape], float32 or bytes of pixels."""
    rows = None
    if condition.size and annotations is not None:
        values = annotations.numpy() if isinstance(annotations, Tensor) else annotations
        rows = to_device(torch.from_numpy(condition.encode(values)), device)
    samples = samples.to(device, non_blocking=True)
    return Batch(normalize(samples) if samples.dtype == torch.uint8 else samples, rows)


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy `tensor` to `device`. A copy to a GPU is from pinned memory, and the CPU does not wait for it."""
    return _pinned(tensor, device).to(device, non_blocking=True)


def _pinned(tensor: Tensor, device: torch.device) -> Tensor:
    return tensor.pin_memory() if device.type == "cuda" and tensor.device.type == "cpu" else tensor


def prefetch(items: Iterator[T]) -> Iterator[T]:
    """Yield the same endless items, made a few ahead on a thread. The thread ends when this iterator is closed."""
    made: queue.Queue[T | BaseException] = queue.Queue(_PREFETCHED_BATCHES)
    closed = threading.Event()

    def put(item: T | BaseException) -> None:
        while not closed.is_set():
            try:
                made.put(item, timeout=0.1)
            except queue.Full:
                continue
            return

    def make() -> None:
        try:
            for item in items:
                put(item)
                if closed.is_set():
                    return
        except BaseException as problem:  # noqa: BLE001  # raised in the consumer
            put(problem)

    threading.Thread(target=make, name="latentd-prefetch", daemon=True).start()
    try:
        while not isinstance(item := made.get(), BaseException):
            yield item
        raise item
    finally:
        closed.set()
