"""A run with two generators, two discriminators and two domains, whose generators take pictures."""

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from latentd.models.checkpoint import Checkpoint
from latentd.models.outputs.points import PointsOutput
from latentd.training.data.source import DataError
from latentd.training.run.directory import sample_files
from latentd.training.run.runner import RunConfig
from tests.conftest import spec_of
from tests.service.in_process import serving
from tests.training import two_way
from tests.training.runs import run_config, train
from tests.training.test_resume import stop_at

RECIPE = """
description = "Two ways"
objective = "two-way"
steps = 8
batch_size = 4
[data]
name = "image-folder"
resolution = 28
channels = 1
[generator]
family = "tiny_translator"
[discriminator]
family = "dcgan"
config = { width = 8 }
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Iterator[Path]:
    for domain, shade in (("a", 40), ("b", 200)):
        folder = tmp_path / "data" / domain
        folder.mkdir(parents=True)
        for number in range(30):
            pixels = np.random.RandomState(number).randint(shade - 30, shade + 30, (28, 28)).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"{number}.png")
    path = tmp_path / "two-way.toml"
    path.write_text(RECIPE)
    (tmp_path / "algorithms").mkdir()
    with two_way.registered(tmp_path / "algorithms"):
        yield path


def config_of(recipe: Path, out: str, *settings: str) -> RunConfig:
    return run_config(str(recipe), recipe.parent / out, *settings, data=recipe.parent / "data")


def test_both_generators_are_written_and_a_resumed_run_ends_with_the_same_bits(recipe: Path) -> None:
    whole = train(config_of(recipe, "whole"))
    parts = config_of(recipe, "parts")
    for step in (2, 5):
        stop_at(parts, step)
    assert train(parts).version == whole.version
    backs = [Checkpoint.read(recipe.parent / out / "two-way-back.safetensors") for out in ("whole", "parts")]
    assert backs[0].version == backs[1].version != whole.version
    assert backs[0].card.steps == whole.card.steps == 8
    samples = [[file.read_bytes() for file in sample_files(recipe.parent / out)] for out in ("whole", "parts")]
    assert samples[0][-1] == samples[1][-1]  # of the same pictures


def test_both_generators_are_served(recipe: Path) -> None:
    train(config_of(recipe, "run"))
    picture = io.BytesIO()
    Image.new("L", (28, 28), 40).save(picture, "PNG")

    def translated(client: TestClient, name: str) -> bytes:
        files = {"image": picture.getvalue()}
        answer = client.post("/translate", data={"model": name}, files=files, headers={"Accept": "image/png"})
        assert answer.status_code == 200, answer.text
        return answer.content

    with serving(recipe.parent / "run", {"other": spec_of("mlp", PointsOutput(dim=2))}) as client:
        assert translated(client, "two-way") != translated(client, "two-way-back")


def test_an_unknown_domain_is_named(recipe: Path) -> None:
    (recipe.parent / "data" / "b").rename(recipe.parent / "data" / "c")
    with pytest.raises(DataError, match="data has no folder 'b'; its folders are a, c"):
        train(config_of(recipe, "run"))
