import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import save_file

from latentd.models.checkpoint import Checkpoint, write_checkpoint
from latentd.models.decision_surface import DecisionSurface
from latentd.models.directions import DirectionCard, Directions, add_offset
from latentd.models.errors import CheckpointError
from latentd.models.families import build_generator
from latentd.models.file_names import is_sidecar
from tests.conftest import card_of, image_spec, points_spec
from tests.directions_of import NAMES, directions_of, write_directions

Write = Callable[..., Checkpoint]


def read(path: Path, checkpoint: Checkpoint) -> Directions:
    return Directions.read(path, checkpoint.version, checkpoint.card.spec)


def test_round_trip(write: Write, tmp_path: Path) -> None:
    checkpoint = write(image_spec())
    path = tmp_path / "model.safetensors"
    written = write_directions(path)
    assert is_sidecar(tmp_path / "model.directions.safetensors")
    found = read(path, checkpoint)
    assert (found.card, found.version, found.names) == (written.card, written.version, list(NAMES))
    assert all(np.array_equal(found.vectors[name], written.vectors[name]) for name in NAMES)


def test_the_version_depends_on_vectors_and_names_alone(write: Write) -> None:
    checkpoint = write(image_spec())
    first = directions_of(checkpoint)
    assert len(first.version) == 12
    words = first.card.directions[0].model_copy(update={"about": "Other words.", "score": 0.9})
    card = first.card.model_copy(update={"directions": (words, first.card.directions[1])})
    assert Directions(card, first.vectors).version == first.version
    renamed = {"collar": first.vectors["sleeves"], "brightness": first.vectors["brightness"]}
    assert Directions(first.card, renamed).version != first.version
    assert directions_of(checkpoint, seed=1).version != first.version
    assert directions_of(checkpoint, of="0" * 12).version != first.version


def test_directions_of_another_version_are_refused(write: Write, tmp_path: Path) -> None:
    write(image_spec())
    path = tmp_path / "model.safetensors"
    old = write_directions(path)
    new = write(image_spec(), seed=1)
    with pytest.raises(CheckpointError, match=f"made for version {old.card.of}, the checkpoint is {new.version}"):
        read(path, new)


def test_invalid_directions_files_are_refused_by_name(write: Write, tmp_path: Path) -> None:
    checkpoint = write(image_spec())
    path, beside = tmp_path / "model.safetensors", tmp_path / "model.directions.safetensors"
    good = directions_of(checkpoint)
    tensors = {name: torch.from_numpy(vector) for name, vector in good.vectors.items()}

    def message(tensors: dict[str, torch.Tensor] = tensors, **changes: Any) -> str:
        card = json.dumps(good.card.model_dump(mode="json") | changes)
        save_file(tensors, beside, metadata={"latentd.card": card, "latentd.version": good.version})
        with pytest.raises(CheckpointError, match=r"model\.directions\.safetensors: ") as caught:
            read(path, checkpoint)
        return str(caught.value)

    assert "missing" in message({"sleeves": tensors["sleeves"]})
    assert "shape" in message(tensors | {"sleeves": torch.zeros(9)})
    assert "F64" in message(tensors | {"sleeves": tensors["sleeves"].double()})
    assert "finite" in message(tensors | {"sleeves": torch.full((8,), torch.inf)})
    assert "not the ones it was written with" in message(tensors | {"sleeves": torch.zeros(8)})
    assert "not in the latent space" in message({name: torch.zeros(9) for name in NAMES}, dim=9)
    assert "not in the latent space" in message(space="w")
    assert "unknown field" in message(extra=1)
    assert "dim" in message(dim=10**12)
    one = good.card.directions[0].model_dump()
    assert "distinct" in message(directions=[one, one])
    assert "name" in message(directions=[one | {"name": "Up & down"}])
    assert "preview" in message(directions=[one | {"preview": "<svg onload=alert(1)>"}])
    assert "directions" in message(directions=[one | {"name": f"d{index}"} for index in range(65)])
    save_file(tensors, beside)
    with pytest.raises(CheckpointError, match="without latentd's card"):
        read(path, checkpoint)
    beside.write_bytes(pickle.dumps(tensors))
    with pytest.raises(CheckpointError, match="pickled file"):
        read(path, checkpoint)


def test_vectors_that_are_not_finite_are_not_written(write: Write, tmp_path: Path) -> None:
    good = directions_of(write(image_spec()))
    broken = Directions(good.card, dict(good.vectors) | {"sleeves": np.full(8, np.nan, dtype=np.float32)})
    with pytest.raises(CheckpointError, match="sleeves"):
        broken.write(tmp_path / "model.safetensors")
    assert not (tmp_path / "model.directions.safetensors").exists()
    with pytest.raises(ValidationError):
        DirectionCard(name="a", method="", about="", score=float("nan"), scored="", range=1.0)


def test_an_offset_is_a_float64_sum_in_any_order(write: Write) -> None:
    found = directions_of(write(image_spec()))
    expected = 0.3 * found.vectors["brightness"].astype(float) + 1.7 * found.vectors["sleeves"].astype(float)
    one, other = {"sleeves": 1.7, "brightness": 0.3}, {"brightness": 0.3, "sleeves": 1.7}
    assert np.array_equal(found.offset(one), expected)
    assert np.array_equal(found.offset(one), found.offset(other))
    w = np.zeros((2, 3, 8), dtype=np.float32)
    assert np.array_equal(add_offset(w, expected)[1, 2], expected.astype(np.float32))


@pytest.mark.parametrize("name", ["model.directions", "model.surface"])
def test_endings_of_sidecar_files_are_reserved(tmp_path: Path, name: str) -> None:
    spec = points_spec()
    with pytest.raises(CheckpointError, match="cannot be a model's name"):
        write_checkpoint(tmp_path / f"{name}.safetensors", card_of(spec), build_generator(spec).state_dict())
    assert not list(tmp_path.iterdir())


def test_a_decision_surface_belongs_to_one_version(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    logits = torch.linspace(-1, 1, 12).view(3, 4)
    DecisionSurface(logits, (-2.0, 2.0, -1.0, 1.0)).write(path, "a" * 12)
    found = DecisionSurface.read(path, "a" * 12)
    assert torch.equal(found.logits, logits)
    assert found.extent == (-2.0, 2.0, -1.0, 1.0)
    with pytest.raises(CheckpointError, match="made for version"):
        DecisionSurface.read(path, "b" * 12)
    with pytest.raises(CheckpointError, match="logits"):
        DecisionSurface(torch.full((3, 4), torch.nan), (-1, 1, -1, 1)).write(path, "a" * 12)
    with pytest.raises(ValidationError):
        DecisionSurface(logits, (1, -1, -1, 1)).write(path, "a" * 12)
    with pytest.raises(ValidationError):
        DecisionSurface(torch.zeros(129, 2), (-1, 1, -1, 1)).write(path, "a" * 12)
