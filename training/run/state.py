"""The state from which a run resumes as if it had never stopped: networks, average, optimizers and step.

Two files are written alternately, so that one is whole whatever happens while the other is written. Random generators
have no state to save: all random numbers depend on the run's seed and the step alone.
"""

import hashlib
import json
import logging
import threading
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
from latentd.training.algorithms.base import Algorithm
from latentd.training.recipes.files import flatten, with_current_names

logger = logging.getLogger(__name__)

_SLOTS = ("a.safetensors", "b.safetensors")
_FACTS, _DIGEST = "latentd.state", "latentd.sha256"


class StateError(LatentdError):
    """A state from which this run cannot resume. The message says why and what to do."""


@dataclass(frozen=True)
class SavedState:
    """The content of a state file."""

    step: int
    wall_seconds: float
    identity: dict[str, Any]
    """All settings that decide what a step does."""
    tensors: Mapping[str, Tensor]


def state_tensors(algorithm: Algorithm) -> dict[str, Tensor]:
    """Return copies of all tensors that a step changes, on the CPU, by their names in state files."""
    tensors: dict[str, Tensor] = {}
    for name, module in algorithm.modules.items():
        tensors |= {f"{name}/{key}": value for key, value in module.state_dict().items()}
    for name, optimizer in _optimizers(algorithm).items():
        for index, parameter_state in optimizer.state_dict()["state"].items():
            tensors |= {f"{name}/{index}/{key}": value for key, value in parameter_state.items()}
    return {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()}


def restore(algorithm: Algorithm, saved: SavedState) -> None:
    """Load a state into the networks, the average and the optimizers."""
    for name, module in algorithm.modules.items():
        module.load_state_dict(_below(name, saved.tensors))
    for name, optimizer in _optimizers(algorithm).items():
        _restore_optimizer(optimizer, _below(name, saved.tensors))
    for ema in algorithm.emas:
        ema.updates = saved.step


def read_network(path: Path, name: str) -> Mapping[str, Tensor]:
    """Return the tensors of the network `name` in the last whole state of a run. Raises StateError."""
    found, broken = _read_slots(path)
    if not found:
        raise StateError("; ".join(broken) or f"{path} holds no state of a run")
    tensors = _below(name, max(found.values(), key=lambda saved: saved.step).tensors)
    if not tensors:
        raise StateError(f"the run has no network {name}")
    return tensors


def _restore_optimizer(optimizer: Optimizer, tensors: Mapping[str, Tensor]) -> None:
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for index, parameter in enumerate(parameters):
        state: dict[str, Tensor] = {}
        for key, value in _below(str(index), tensors).items():
            # in the parameter's memory format, which decides how updates are rounded
            like = parameter if value.shape == parameter.shape else value.to(parameter.device)
            state[key] = torch.empty_like(like).copy_(value)
        if state:
            optimizer.state[parameter] = state


def _optimizers(algorithm: Algorithm) -> dict[str, Optimizer]:
    return {f"{name}_optimizer": trainable.optimizer for name, trainable in algorithm.trainables.items()}


def _below(name: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors named `name/…`, without this prefix."""
    prefix = f"{name}/"
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


class StateDirectory:
    """The state files of a run. A thread writes them, one at a time."""

    def __init__(self, path: Path, identity: dict[str, Any]) -> None:
        """`identity`: all settings that decide what a step does."""
        self._path = path
        self._identity = identity
        self._next_slot = 0
        self._writer: threading.Thread | None = None

    def latest(self) -> SavedState | None:
        """Return the whole state with the largest step; None if there are no files.

        Raises StateError if there are files but none is whole, or if the state is another run's.
        """
        found, broken = _read_slots(self._path)
        if broken and not found:
            raise StateError(
                f"no whole state to resume from ({'; '.join(broken)}); "
                f"to start over, delete {self._path} or choose another folder (`out` or `--out`)"
            )
        for each in broken:
            logger.warning("%s; resuming from the state before it", each)
        if not found:
            return None
        newest = max(found, key=lambda slot: found[slot].step)
        self._next_slot = 1 - newest
        self._require_same(found[newest].identity)
        return found[newest]

    @property
    def is_saving(self) -> bool:
        """Whether a save is under way."""
        return self._writer is not None and self._writer.is_alive()

    def start_saving(self, algorithm: Algorithm, step: int, wall_seconds: float) -> None:
        """Copy the state, and write it on a thread."""
        self.wait()
        state = SavedState(step, wall_seconds, self._identity, state_tensors(algorithm))
        self._writer = threading.Thread(target=self._write, args=(state,), name="latentd-state")
        self._writer.start()

    def save(self, algorithm: Algorithm, step: int, wall_seconds: float) -> None:
        """Save, and wait until the state is on the disk."""
        self.start_saving(algorithm, step, wall_seconds)
        self.wait()

    def wait(self) -> None:
        """Wait until no save is under way."""
        if self._writer:
            self._writer.join()

    def _write(self, state: SavedState) -> None:
        facts = {"step": state.step, "wall_seconds": state.wall_seconds, "identity": state.identity}
        metadata = {_FACTS: json.dumps(facts), _DIGEST: _digest(state.tensors)}
        try:
            write_tensors(self._path / _SLOTS[self._next_slot], state.tensors, metadata)
        except (OSError, CheckpointError) as problem:
            logger.warning("the state of step %d was not saved: %s; %s", state.step, problem, self._what_is_left())
        else:
            self._next_slot = 1 - self._next_slot

    def _what_is_left(self) -> str:
        exists = any((self._path / name).exists() for name in _SLOTS)
        return "the state before it is kept" if exists else "there is no earlier state"

    def _require_same(self, saved: dict[str, Any]) -> None:
        before, now = flatten(with_current_names(saved)), flatten(self._identity)
        for name in sorted(before.keys() | now.keys()):
            is_new_and_off = name not in before and not now[name]  # the setting was added after the run began
            if before.get(name) != now.get(name) and not is_new_and_off:
                raise StateError(
                    f"{self._path} is of a run with {name}={json.dumps(before.get(name))}, "
                    f"but this run has {json.dumps(now.get(name))}; "
                    "choose another folder (`out` or `--out`), or the settings of that run"
                )


def _read_slots(folder: Path) -> tuple[dict[int, SavedState], list[str]]:
    """Return the whole states by slot, and what is wrong with the others."""
    found: dict[int, SavedState] = {}
    broken: list[str] = []
    for slot, name in enumerate(_SLOTS):
        path = folder / name
        if not path.exists():
            continue
        try:
            found[slot] = _read(path)
        except (OSError, SafetensorError, ValueError, KeyError) as problem:
            broken.append(f"{path}: {problem}")
    return found, broken


def _read(path: Path) -> SavedState:
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata() or {}
        tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118  # no mapping
    if metadata[_DIGEST] != _digest(tensors):
        raise ValueError("the tensors do not match their checksum")
    facts = json.loads(metadata[_FACTS])
    return SavedState(facts["step"], facts["wall_seconds"], facts["identity"], tensors)


def _digest(tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
