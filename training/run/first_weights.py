"""The first weights of a run that begins from other runs: fine-tuning, or a second stage on top of a first."""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from latentd.models.checkpoint import Checkpoint
from latentd.models.errors import CheckpointError
from latentd.models.file_names import SUFFIX
from latentd.training.recipes.files import RecipeError
from latentd.training.run.state import StateError, read_network


def load_first_weights(network: nn.Module, name: str, begin_from: Mapping[str, str]) -> set[str]:
    """Load the weights that `begin_from` names for the network `name` or its parts. Return the keys that were used.

    A key is `NAME` or `NAME.PART`, where PART is a module in the network. A value is a checkpoint file, or a run folder
    whose last state has a network NAME. Raises RecipeError if weights cannot be read or do not fit.
    """
    used = {key for key in begin_from if key.split(".")[0] == name}
    for key in sorted(used, key=len):  # a part's own weights replace those of the whole
        try:
            part = network.get_submodule(key.partition(".")[2])
            _load(part, _read(Path(begin_from[key]), name))
        except (AttributeError, CheckpointError, StateError, ValueError) as problem:
            raise RecipeError(f"begin_from.{key}: {begin_from[key]}: {problem}") from problem
    return used


def _read(path: Path, name: str) -> Mapping[str, Tensor]:
    return Checkpoint.read(path).tensors if path.suffix == SUFFIX else read_network(path / "state", name)


def _load(network: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Load all tensors of `network`. ValueError names the first one that is missing or does not fit."""
    shapes = {key: value.shape for key, value in network.state_dict().items()}
    for key in sorted(shapes.keys() | tensors.keys()):
        if key not in tensors:
            raise ValueError(f"has no tensor {key}; the network must have the same family and config")
        if key not in shapes or shapes[key] != tensors[key].shape:
            wanted = f"wants {list(shapes[key])}" if key in shapes else "has none"
            raise ValueError(f"tensor {key} is {list(tensors[key].shape)}, but this run {wanted}")
    network.load_state_dict(dict(tensors))
