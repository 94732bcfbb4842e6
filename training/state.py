"""What a run must remember to go on as if it had never stopped: networks, average, optimizers and how far it is.

Two files take turns, so that one is whole whatever happens while the other is written. What is random needs no memory:
it depends on the run's seed and the step alone.
"""

import hashlib
import json
import logging
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from torch.optim import Optimizer

from latentd.models.errors import CheckpointError, LatentdError
from latentd.models.tensor_files import write_tensors
from latentd.training.loop import Algorithm
from latentd.training.recipe import flatten

logger = logging.getLogger(__name__)

_SLOTS = ("a.safetensors", "b.safetensors")
_FACTS, _DIGEST = "latentd.state", "latentd.sha256"


class StateError(LatentdError):
    """A run folder's state that cannot be gone on from; the message says why and what to do."""


@dataclass(frozen=True)
class Saved:
    """What a state file holds."""

    step: int
    wall_seconds: float
    identity: dict[str, Any]
    """All that decides what a step does."""
    tensors: Mapping[str, Tensor]


def snapshot(algorithm: Algorithm) -> dict[str, Tensor]:
    """Copies of all that a step changes, on the CPU."""
    tensors: dict[str, Tensor] = {}
    for name, module in algorithm.modules.items():
        tensors |= {f"{name}/{key}": value for key, value in module.state_dict().items()}
    for name, optimizer in _optimizers(algorithm).items():
        for index, parameter_state in optimizer.state_dict()["state"].items():
            tensors |= {f"{name}/{index}/{key}": value for key, value in parameter_state.items()}
    return {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()}


def restore(algorithm: Algorithm, saved: Saved) -> None:
    """Put the trainables, the average and the optimizers where they were."""
    for name, module in algorithm.modules.items():
        module.load_state_dict(_below(name, saved.tensors))
    for name, optimizer in _optimizers(algorithm).items():
        _restore_optimizer(optimizer, _below(name, saved.tensors))
    algorithm.ema.updates = saved.step


def _restore_optimizer(optimizer: Optimizer, tensors: Mapping[str, Tensor]) -> None:
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for index, parameter in enumerate(parameters):
        state: dict[str, Tensor] = {}
        for key, value in _below(str(index), tensors).items():
            like = parameter if value.shape == parameter.shape else value.to(parameter.device)
            state[key] = torch.empty_like(like).copy_(value)  # in the parameter's memory format: it decides on rounding
        if state:
            optimizer.state[parameter] = state


def _optimizers(algorithm: Algorithm) -> dict[str, Optimizer]:
    return {f"{name}_optimizer": trainable.optimizer for name, trainable in algorithm.trainables.items()}


def _below(name: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    start = f"{name}/"
    return {key.removeprefix(start): value for key, value in tensors.items() if key.startswith(start)}


class StateDirectory:
    """A run's folder of states. Writes on a thread of its own, one at a time."""

    def __init__(self, folder: Path, identity: dict[str, Any], save_seconds: float) -> None:
        self._folder = folder
        self._identity = identity
        self._save_seconds = save_seconds
        self._saved_at = time.monotonic()
        self._next_slot = 0
        self._writer: threading.Thread | None = None

    def latest(self) -> Saved | None:
        """The state that is farthest; None where there is none at all.

        StateError where there are files but no whole one, or where it is another run's.
        """
        found: dict[int, Saved] = {}
        broken: list[str] = []
        for slot, name in enumerate(_SLOTS):
            path = self._folder / name
            if not path.exists():
                continue
            try:
                found[slot] = _read(path)
            except (OSError, SafetensorError, ValueError, KeyError) as problem:
                broken.append(f"{path}: {problem}")
        if broken and not found:
            raise StateError(
                f"no whole state to go on from ({'; '.join(broken)}); "
                f"to begin anew, delete {self._folder} or choose another folder with --out"
            )
        for each in broken:
            logger.warning("%s; going on from the state before it", each)
        if not found:
            return None
        newest = max(found, key=lambda slot: found[slot].step)
        self._next_slot = 1 - newest
        self._require_same(found[newest].identity)
        return found[newest]

    def offer(self, algorithm: Algorithm, step: int, wall_seconds: float) -> None:
        """Save if it is time to, and the last one is written."""
        if time.monotonic() - self._saved_at < self._save_seconds or (self._writer and self._writer.is_alive()):
            return
        self._start_writing(algorithm, step, wall_seconds)

    def save_now(self, algorithm: Algorithm, step: int, wall_seconds: float) -> None:
        """Save, and wait until it is on the disk."""
        self.wait()
        self._start_writing(algorithm, step, wall_seconds)
        self.wait()

    def wait(self) -> None:
        """Until what is being written is."""
        if self._writer:
            self._writer.join()

    def _start_writing(self, algorithm: Algorithm, step: int, wall_seconds: float) -> None:
        self._saved_at = time.monotonic()
        saved = Saved(step, wall_seconds, self._identity, snapshot(algorithm))
        self._writer = threading.Thread(target=self._write, args=(saved,), name="latentd-state")
        self._writer.start()

    def _write(self, saved: Saved) -> None:
        facts = {"step": saved.step, "wall_seconds": saved.wall_seconds, "identity": saved.identity}
        metadata = {_FACTS: json.dumps(facts), _DIGEST: _digest(saved.tensors)}
        try:
            write_tensors(self._folder / _SLOTS[self._next_slot], saved.tensors, metadata)
        except (OSError, CheckpointError) as problem:
            logger.warning("the state of step %d was not saved: %s; %s", saved.step, problem, self._what_stands())
        else:
            self._next_slot = 1 - self._next_slot

    def _what_stands(self) -> str:
        stands = any((self._folder / name).exists() for name in _SLOTS)
        return "the one before it stands" if stands else "there is none to go on from"

    def _require_same(self, before: dict[str, Any]) -> None:
        old, new = flatten(before), flatten(self._identity)
        for name in sorted(new.keys() | old.keys()):
            was, is_now = old.get(name), new.get(name)
            if was != is_now:
                raise StateError(
                    f"{self._folder} is of a run with {name}={json.dumps(was)}, this one has {json.dumps(is_now)}; "
                    "choose another folder with --out, or the settings of that run"
                )


def _read(path: Path) -> Saved:
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata() or {}
        tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118  # no mapping
    if metadata[_DIGEST] != _digest(tensors):
        raise ValueError("its tensors are not those that were written")
    facts = json.loads(metadata[_FACTS])
    return Saved(facts["step"], facts["wall_seconds"], facts["identity"], tensors)


def _digest(tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
