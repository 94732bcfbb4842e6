"""The processes (ranks) that train one generator together, one a device, as torchrun starts them.

Gradients are averaged by PyTorch's DistributedDataParallel, which overlaps this with the backward pass. Accelerate and
Lightning Fabric wrap the same class, and would bring loops and launchers of their own.
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

_DECODING_TIMEOUT = timedelta(hours=12)
"""How long a rank may decode a data set while the others wait."""
_RANK_VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK")


class WorldError(LatentdError):
    """The ranks of this run cannot work together, or one of them ended."""

    every_rank_reports = True


@dataclass(frozen=True)
class World:
    """This process as one of `size` ranks. By default it is alone."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    """The rank among those on this machine."""
    slow_group: dist.ProcessGroup | None = None
    """All ranks, in a group with a long timeout."""

    @property
    def is_main(self) -> bool:
        """Whether this rank writes the files and the log."""
        return self.rank == 0

    def shard(self, rows: Tensor) -> Tensor:
        """Return this rank's part of rows that are the same on all ranks, [N, ...] → [N / size, ...]."""
        count = len(rows) // self.size
        return rows[self.rank * count : (self.rank + 1) * count]

    def mean(self, values: Tensor) -> Tensor:
        """Return the mean over all ranks, the same bits on each. Changes `values`."""
        if self.size > 1:
            dist.all_reduce(values)
            values /= self.size
        return values

    def any(self, flag: bool) -> bool:
        """Whether `flag` is true on any rank."""
        return flag if self.size == 1 else bool(self.mean(torch.tensor(float(flag))) > 0)

    def wrap(self, network: nn.Module, device: torch.device) -> nn.Module:
        """Return `network` in DistributedDataParallel; the network itself if there is one rank."""
        if self.size == 1:
            return network
        # There are several forward passes before a backward pass, so buffers must not be synchronised in between.
        return DistributedDataParallel(
            network, device_ids=[device] if device.type == "cuda" else None, forward_sync_buffers=False
        )

    def on_main(self, work: Callable[[], T]) -> T:
        """Do `work` on the main rank. Its result is returned, and its exception raised, on all ranks."""
        if self.size == 1:
            return work()
        outcomes: list[Any] = [_attempt(work) if self.is_main else None]
        dist.broadcast_object_list(outcomes, 0)
        outcome: tuple[T | None, Exception | None] = outcomes[0]
        return _result(outcome)

    def local_main_first(self, work: Callable[[], T]) -> T:
        """Do `work` on one rank of each machine and then on the others, which find its results in the cache."""
        if self.size == 1:
            return work()
        outcome: tuple[T | None, Exception | None] = (None, None)
        for is_first in (True, False):
            if (self.local_rank == 0) == is_first:
                outcome = _attempt(work)
            failures: list[Any] = [None] * self.size
            dist.all_gather_object(failures, outcome[1], group=self.slow_group)
            for failure in filter(None, failures):
                raise failure
        return _result(outcome)


def _attempt(work: Callable[[], T]) -> tuple[T | None, Exception | None]:
    try:
        return work(), None
    except Exception as problem:  # noqa: BLE001  # _result raises it, on every rank
        return None, problem


def _result(outcome: tuple[T | None, Exception | None]) -> T:
    value, problem = outcome
    if problem is not None:
        raise problem
    return cast(T, value)


@contextmanager
def join_world(device: torch.device) -> Iterator[tuple[World, torch.device]]:
    """Join the world that torchrun made. Yield it and this rank's device; without torchrun, a world of one.

    Raises WorldError if the variables of torchrun are incomplete, there are too few GPUs, or another rank is lost.
    """
    if not is_distributed():
        yield World(), device
        return
    if missing := [name for name in _RANK_VARIABLES if name not in os.environ]:
        raise WorldError(f"WORLD_SIZE is set but {' and '.join(missing)} not: start the ranks by torchrun, or unset it")
    rank, size, local_rank = (int(os.environ[name]) for name in _RANK_VARIABLES)
    if device.type == "cuda":
        if local_rank >= torch.cuda.device_count():
            raise WorldError(f"this machine has {torch.cuda.device_count()} GPUs: lower --nproc-per-node to that")
        device = torch.device("cuda", local_rank)
        torch.cuda.set_device(device)
    if rank:
        logging.getLogger().setLevel(logging.ERROR)  # the main rank logs for all
    dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")
    world = World(rank, size, local_rank, dist.new_group(backend="gloo", timeout=_DECODING_TIMEOUT))
    try:
        yield world, device
        dist.destroy_process_group()  # not after an error: it could wait for ranks that are gone
    except (dist.DistBackendError, dist.DistNetworkError) as problem:
        raise _lost_rank(world, problem) from problem
    except RuntimeError as problem:
        if "gloo" not in str(problem) and "NCCL" not in str(problem):  # gloo raises nothing more precise
            raise
        raise _lost_rank(world, problem) from problem


def is_distributed() -> bool:
    """Whether torchrun started this process as one of several ranks."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def _lost_rank(world: World, problem: Exception) -> WorldError:
    return WorldError(
        f"rank {world.rank} lost another of the {world.size} processes ({str(problem).splitlines()[0]}); "
        "give the same command again to resume from the last saved state"
    )
