"""The example of docs/architecture.md, "Add an algorithm": its code trains a generator, which is then served."""

import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from latentd.models.checkpoint import Checkpoint
from latentd.models.outputs.points import PointsOutput
from latentd.training.run.command import train
from tests.conftest import spec_of
from tests.service.in_process import serving

PAGE = Path(__file__).parents[2] / "docs" / "architecture.md"


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The recipe that the page shows, while the folder of its algorithm is searched."""
    folder = tmp_path_factory.mktemp("algorithm")
    page = PAGE.read_text(encoding="utf-8")
    [(path, code)] = re.findall(r"```python\n# (training/algorithms/\w+\.py)\n(.*?)```", page, re.DOTALL)
    [(name, settings)] = re.findall(r"```toml\n# (\S+\.toml)\n(.*?)```", page, re.DOTALL)
    assert len(code.splitlines()) < 100
    (folder / Path(path).name).write_text(code, encoding="utf-8")
    (folder / name).write_text(settings, encoding="utf-8")
    package = importlib.import_module("latentd.training.algorithms")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(package, "__path__", [*package.__path__, str(folder)])
        yield folder / name


def run(recipe: Path, out: Path, *settings: str) -> Checkpoint:
    arguments = [str(recipe), "--out", str(out), *(word for each in settings for word in ("--set", each))]
    result = CliRunner().invoke(train, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return Checkpoint.read(out / f"{recipe.stem}.safetensors")


def test_the_trained_generator_is_served(recipe: Path, tmp_path: Path) -> None:
    run(recipe, tmp_path)
    with serving(tmp_path, {"other": spec_of("mlp", PointsOutput(dim=2))}) as client:
        answer = client.post("/generate", json={"model": recipe.stem, "seed": 0, "num_samples": 16})
    points = np.array([sample["data"] for sample in answer.json()["samples"]])
    assert np.abs(points.mean(axis=0) - (2.0, -1.0)).max() < 0.5


def test_a_run_in_two_parts_ends_with_the_same_version(recipe: Path, tmp_path: Path) -> None:
    whole = run(recipe, tmp_path / "whole", "steps=40")
    run(recipe, tmp_path / "parts", "steps=15")
    assert run(recipe, tmp_path / "parts", "steps=40").version == whole.version
