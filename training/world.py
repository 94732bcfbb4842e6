"""The processes that train one generator together, one a device, as torchrun starts them.

Gradients are averaged by PyTorch's own DistributedDataParallel: it overlaps that with the backward pass, and is kept
well. A layer above it (Accelerate, Lightning Fabric) would bring loops and launchers of its own for the little here.
"""

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

T = TypeVar("T")

_LONGEST_WAIT = timedelta(hours=12)
"""One rank may decode a large data set while the others wait; a rank that ends is noticed at once all the same."""


class RankLost(Exception):
    """Another process of this run ended, or cannot be reached."""


@dataclass(frozen=True)
class World:
    """Which of `size` processes this is; alone by default."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    """Among those on this machine."""

    @property
    def writes(self) -> bool:
        """Whether this process is the one that writes files and speaks."""
        return self.rank == 0

    def share(self, rows: Tensor) -> Tensor:
        """This process's part of what all ranks drew alike, [N, ...] → [N / size, ...]."""
        each = len(rows) // self.size
        return rows[self.rank * each : (self.rank + 1) * each]

    def mean(self, values: Tensor) -> Tensor:
        """The mean over all ranks, the same bits on each."""
        if self.size > 1:
            dist.all_reduce(values)
            values /= self.size
        return values

    def any(self, wish: bool) -> bool:
        """Whether any rank wishes it, the same answer on each."""
        return wish if self.size == 1 else bool(self.mean(torch.tensor(float(wish))) > 0)

    def averaging(self, network: nn.Module, device: torch.device) -> nn.Module:
        """`network`, whose backward passes through this give the mean gradient of all ranks."""
        if self.size == 1:
            return network
        # Several forward passes come before one backward pass, so buffers must not be exchanged within a step.
        return DistributedDataParallel(
            network, device_ids=[device] if device.type == "cuda" else None, forward_sync_buffers=False
        )

    def agree(self, tensors: list[Tensor]) -> None:
        """Give every rank the first one's."""
        if self.size > 1:
            for tensor in tensors:
                dist.broadcast(tensor, 0)

    def from_first(self, work: Callable[[], T]) -> T:
        """What `work` gives on the first rank, which alone does it; where it fails, it fails on all."""
        if self.size == 1:
            return work()
        outcomes: list[Any] = [_attempt(work) if self.writes else None]
        dist.broadcast_object_list(outcomes, 0)
        outcome: tuple[T | None, Exception | None] = outcomes[0]
        return _result(outcome)

    def in_turn(self, work: Callable[[], T]) -> T:
        """`work` on one rank of each machine and then on the others, which find in the cache what it left there."""
        if self.size == 1:
            return work()
        outcome: tuple[T | None, Exception | None] = (None, None)
        for turn in (True, False):
            if (self.local_rank == 0) == turn:
                outcome = _attempt(work)
            failures: list[Any] = [None] * self.size
            dist.all_gather_object(failures, outcome[1])
            for failure in filter(None, failures):
                raise failure
        return _result(outcome)


def _attempt(work: Callable[[], T]) -> tuple[T | None, Exception | None]:
    try:
        return work(), None
    except Exception as problem:  # noqa: BLE001  # it is raised on every rank by _result
        return None, problem


def _result(outcome: tuple[T | None, Exception | None]) -> T:
    value, problem = outcome
    if problem is not None:
        raise problem
    return cast(T, value)


@contextmanager
def joined(device: torch.device) -> Iterator[tuple[World, torch.device]]:
    """The world that torchrun made, and this process's device in it; else one process alone, on `device`.

    Raises RankLost in the place of what PyTorch says when another process is gone.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield World(), device
        return
    world = World(*(int(os.environ[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK")))
    if device.type == "cuda":
        device = torch.device("cuda", world.local_rank)
        torch.cuda.set_device(device)
    if not world.writes:
        logging.getLogger().setLevel(logging.ERROR)  # one process speaks for all
    dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo", timeout=_LONGEST_WAIT)
    try:
        yield world, device
    except (dist.DistBackendError, dist.DistNetworkError) as problem:
        raise _lost(world, problem) from problem
    except RuntimeError as problem:
        if "gloo" not in str(problem) and "NCCL" not in str(problem):  # gloo raises nothing more precise
            raise
        raise _lost(world, problem) from problem
    finally:
        dist.destroy_process_group()


def _lost(world: World, problem: Exception) -> RankLost:
    return RankLost(
        f"rank {world.rank} lost another of the {world.size} processes ({str(problem).splitlines()[0]}); "
        "give the same command again to go on from the last saved state"
    )
