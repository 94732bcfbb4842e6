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

from latentd.models.errors import LatentdError

T = TypeVar("T")

_DECODING = timedelta(hours=12)
"""How long one rank may decode a data set while the others wait."""
_PLACE = ("RANK", "WORLD_SIZE", "LOCAL_RANK")


class WorldError(LatentdError):
    """The processes of this run cannot work together, or one of them ended."""


@dataclass(frozen=True)
class World:
    """Which of `size` processes this is; alone by default."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    """Among those on this machine."""
    patient: dist.ProcessGroup | None = None
    """In which ranks wait long for one another."""

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
            dist.all_gather_object(failures, outcome[1], group=self.patient)
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
def join_world(device: torch.device) -> Iterator[tuple[World, torch.device]]:
    """The world that torchrun made, and this process's device in it; else one process alone, on `device`.

    Raises WorldError, also in the place of what PyTorch says when another process is gone.
    """
    if not is_distributed():
        yield World(), device
        return
    if missing := [name for name in _PLACE if name not in os.environ]:
        raise WorldError(f"WORLD_SIZE is set but {' and '.join(missing)} not: start the ranks by torchrun, or unset it")
    rank, size, local_rank = (int(os.environ[name]) for name in _PLACE)
    if device.type == "cuda":
        if local_rank >= torch.cuda.device_count():
            raise WorldError(f"this machine has {torch.cuda.device_count()} GPUs: lower --nproc-per-node to that")
        device = torch.device("cuda", local_rank)
        torch.cuda.set_device(device)
    if rank:
        logging.getLogger().setLevel(logging.ERROR)  # one process speaks for all
    dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")
    world = World(rank, size, local_rank, dist.new_group(backend="gloo", timeout=_DECODING))
    try:
        yield world, device
        dist.destroy_process_group()  # not after an error, when it could wait for those who are gone
    except (dist.DistBackendError, dist.DistNetworkError) as problem:
        raise _lost(world, problem) from problem
    except RuntimeError as problem:
        if "gloo" not in str(problem) and "NCCL" not in str(problem):  # gloo raises nothing more precise
            raise
        raise _lost(world, problem) from problem


def is_distributed() -> bool:
    """Whether this process was started as a rank among others."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def _lost(world: World, problem: Exception) -> WorldError:
    return WorldError(
        f"rank {world.rank} lost another of the {world.size} processes ({str(problem).splitlines()[0]}); "
        "give the same command again to go on from the last saved state"
    )
