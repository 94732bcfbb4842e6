"""`latentd evaluate` as a person meets it, and what it writes."""

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
from latentd.training.recipe import load_recipe
from latentd.training.run import RunConfig, run
from tests.conftest import points_spec


@pytest.fixture(scope="module")
def ring(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ring")
    name, recipe = load_recipe("ring-gan", ["steps=50"])
    config = RunConfig(name, recipe, 0, torch.device("cpu"), None, folder / "ring-gan.safetensors")
    run(config, lambda _: None, lambda *_: None)
    return config.checkpoint_path


def test_figures_as_json_and_in_the_card(ring: Path, tmp_path: Path) -> None:
    path = Path(shutil.copy(ring, tmp_path))
    before = Checkpoint.read(path)
    answer = CliRunner().invoke(evaluate, [str(path), "--rounds", "2", "--json"])
    assert answer.exit_code == 0, answer.output
    figures = json.loads(answer.stdout)
    after = Checkpoint.read(path)
    assert after.version == before.version == figures["version"]
    for name in ("modes", "high_quality", "reverse_kl", "frechet_distance"):
        assert after.card.metrics[name] == figures[name]
        assert after.card.floors[name] == figures["floors"][name]
        assert figures["deviation"][name] >= 0
    assert figures["floors"]["modes"] == 8
    assert figures["floor"] == figures["floors"]["frechet_distance"]
    assert figures["frechet_distance"] > 10 * figures["floor"]  # fifty steps teach nothing
    assert after.card.measured == "2 sets of 2500 samples, coordinates"


def test_figures_as_a_table_leave_the_card_alone_if_asked_to(ring: Path) -> None:
    before = ring.read_bytes()
    answer = CliRunner().invoke(evaluate, [str(ring), "--rounds", "1", "--no-keep"])
    assert answer.exit_code == 0, answer.output
    said = " ".join(answer.stdout.split())
    assert "1 set of 2500 samples, judged on coordinates; of a single set there is no deviation" in said
    line = next(line for line in answer.stdout.splitlines() if line.startswith("modes"))
    assert [line.split()[column] for column in (2, 4)] == ["–", "–"]
    assert ring.read_bytes() == before


def test_one_set_has_no_deviation(ring: Path) -> None:
    answer = CliRunner().invoke(evaluate, [str(ring), "--rounds", "1", "--no-keep", "--json"])
    figures = json.loads(answer.stdout)
    assert set(figures["deviation"].values()) == set(figures["floor_deviation"].values()) == {None}


def test_a_run_on_a_mixture_ends_with_its_figures(ring: Path) -> None:
    assert Checkpoint.read(ring).card.floors["modes"] == 8.0


def test_what_does_not_name_its_data_cannot_be_judged(write: Callable[..., Checkpoint], tmp_path: Path) -> None:
    write(points_spec())
    with pytest.raises(DataError, match="model does not say what data it learnt from"):
        evaluate.main([str(tmp_path / "model.safetensors")], standalone_mode=False)
