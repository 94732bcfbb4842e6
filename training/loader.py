"""From a data set to batches on the device: the rank's share, pixels as numbers, and large sets read ahead."""

import queue
import threading
from collections.abc import Iterator
from typing import TypeVar

import torch
from torch import Tensor
from torch.nn import functional

from latentd.models.spec import ClassCondition, Condition
from latentd.training.data.pixels import normalize
from latentd.training.data.source import Batch, DataSource
from latentd.training.world import World

T = TypeVar("T")

_AHEAD = 4


def load_batches(
    source: DataSource,
    condition: Condition,
    batch_size: int,
    seed: int,
    first: int,
    device: torch.device,
    world: World,
) -> Iterator[Batch]:
    """Endless batches from number `first` on: of each, the part that is this rank's, as `condition` wants it told."""
    source.preload(device)
    drawn = (
        (_pinned(samples, device), labels) for samples, labels in source.draw(batch_size, seed, first, world.share)
    )
    for samples, labels in ahead(drawn) if source.prefetch else drawn:
        yield as_batch(samples, labels, condition, device)


def as_batch(samples: Tensor, labels: Tensor | None, condition: Condition, device: torch.device) -> Batch:
    """What a source drew, on the device, as numbers and as `condition` wants its classes told."""
    told = None
    if isinstance(condition, ClassCondition) and labels is not None:
        told = send(functional.one_hot(labels.long(), len(condition.names)).float(), device)
    return Batch(_normalize(samples.to(device, non_blocking=True)), told)


def send(tensor: Tensor, device: torch.device) -> Tensor:
    """To the device, which nothing waits for: a GPU copies from pinned memory by itself."""
    return _pinned(tensor, device).to(device, non_blocking=True)


def _pinned(tensor: Tensor, device: torch.device) -> Tensor:
    return tensor.pin_memory() if device.type == "cuda" and tensor.device.type == "cpu" else tensor


def _normalize(samples: Tensor) -> Tensor:
    """Bytes of pixels as numbers in [-1, 1]; other samples as they are."""
    return normalize(samples) if samples.dtype == torch.uint8 else samples


def ahead(items: Iterator[T]) -> Iterator[T]:
    """The same endless items, made a few ahead on a thread of its own, which ends with this iterator."""
    made: queue.Queue[T | BaseException] = queue.Queue(_AHEAD)
    ended = threading.Event()

    def put(item: T | BaseException) -> None:
        while not ended.is_set():
            try:
                made.put(item, timeout=0.1)
            except queue.Full:
                continue
            return

    def make() -> None:
        try:
            for item in items:
                put(item)
                if ended.is_set():
                    return
        except BaseException as problem:  # noqa: BLE001  # raised where it is waited for
            put(problem)

    threading.Thread(target=make, name="latentd-feed", daemon=True).start()
    try:
        while not isinstance(item := made.get(), BaseException):
            yield item
        raise item
    finally:
        ended.set()
