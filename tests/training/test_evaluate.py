"""The command `latentd evaluate`: its output, and the card that it writes."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from latentd.models.checkpoint import Checkpoint
from latentd.training.data.source import DataError
from latentd.training.evaluation.command import evaluate
from latentd.training.recipes.load import load_recipe
from latentd.training.run.runner import RunConfig, run
from tests.conftest import points_spec


@pytest.fixture(scope="module")
def ring(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ring")
    name, recipe = load_recipe("ring-gan", ["steps=50"])
    config = RunConfig(name, recipe, 0, torch.device("cpu"), None, folder / "ring-gan.safetensors")
    run(config)
    return config.checkpoint_path


def test_metrics_are_printed_as_json_and_written_into_the_card(ring: Path, tmp_path: Path) -> None:
    path = Path(shutil.copy(ring, tmp_path))
    before = Checkpoint.read(path)
    result = CliRunner().invoke(evaluate, [str(path), "--rounds", "2", "--json"])
    assert result.exit_code == 0, result.output
    printed = json.loads(result.stdout)
    after = Checkpoint.read(path)
    assert after.version == before.version == printed["version"]
    for name in ("modes", "high_quality", "reverse_kl", "frechet_distance"):
        assert after.card.metrics[name] == printed[name]
        assert after.card.floors[name] == printed["floors"][name]
        assert printed["deviation"][name] >= 0
    assert printed["floors"]["modes"] == 8
    assert printed["floor"] == printed["floors"]["frechet_distance"]
    assert printed["frechet_distance"] > 10 * printed["floor"]  # 50 steps are far too few
    assert after.card.measured == "2 sets of 2500 samples, coordinates"


def test_no_keep_prints_a_table_and_leaves_the_card_unchanged(ring: Path) -> None:
    before = ring.read_bytes()
    result = CliRunner().invoke(evaluate, [str(ring), "--rounds", "1", "--no-keep"])
    assert result.exit_code == 0, result.output
    output = " ".join(result.stdout.split())
    assert "1 set of 2500 samples, measured on coordinates; a single set has no deviation" in output
    line = next(line for line in result.stdout.splitlines() if line.startswith("modes"))
    assert [line.split()[column] for column in (2, 4)] == ["–", "–"]
    assert ring.read_bytes() == before


def test_a_single_set_has_no_deviation(ring: Path) -> None:
    result = CliRunner().invoke(evaluate, [str(ring), "--rounds", "1", "--no-keep", "--json"])
    printed = json.loads(result.stdout)
    assert set(printed["deviation"].values()) == set(printed["floor_deviation"].values()) == {None}


def test_training_writes_metrics_into_the_card(ring: Path) -> None:
    assert Checkpoint.read(ring).card.floors["modes"] == 8.0


def test_a_checkpoint_that_does_not_name_its_data_is_refused(write: Callable[..., Checkpoint], tmp_path: Path) -> None:
    write(points_spec())
    with pytest.raises(DataError, match="model cannot be evaluated: its card does not name the data set"):
        evaluate.main([str(tmp_path / "model.safetensors")], standalone_mode=False)
