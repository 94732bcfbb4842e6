"""Figures for pictures of any size: the embedded picture network, the share that is held out, and the verdict."""

import json
from importlib.resources import files
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors import safe_open

from benchmarks.verdicts import drawings, judge_sets
from latentd.models.checkpoint import Checkpoint
from latentd.models.file_names import SUFFIX
from latentd.training.data.sets.images import ImageFolder
from latentd.training.evaluation.command import evaluate
from latentd.training.evaluation.evaluator import EvaluationSet
from latentd.training.evaluation.images import ImageEvaluator, RealImages
from latentd.training.evaluation.picture_collections import Collection
from latentd.training.evaluation.picture_network import PICTURE_WEIGHTS_FILE, load_picture_network
from latentd.training.evaluation.train_picture_network import FAULTS, train_picture_network
from latentd.training.evaluation.verdict import judge
from latentd.training.report.page import write_report
from tests.training.runs import run_config, train

REAL = {"density": 1.0, "recall": 0.9, "nearest_training": 0.3}


def write_drawings(folder: Path, count: int, seed: int = 0) -> Path:
    folder.mkdir()
    for number, pixels in enumerate(drawings(count, seed)[0]):
        (folder / f"{number:04d}.png").write_bytes(imagecodecs.png_encode(pixels, level=1))
    return folder


def test_the_shipped_network_is_small_and_says_how_it_was_trained() -> None:
    path = files("latentd.training.evaluation").joinpath(PICTURE_WEIGHTS_FILE)
    assert len(path.read_bytes()) < 4e6
    with safe_open(str(path), "pt") as file:
        card = json.loads(file.metadata()["latentd.picture_network"])
    assert {each["licence"] for each in card["collections"].values()} <= {
        *("Apache-2.0", "MIT", "CC0-1.0", "public domain, CC0-1.0"),
    }


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 64, 64), (3, 200, 120)])
def test_the_shipped_network_takes_pictures_of_any_size(shape: tuple[int, int, int]) -> None:
    network = load_picture_network()
    pictures = torch.rand(251, *shape, generator=torch.Generator().manual_seed(0)) * 2 - 1  # more than one forward pass
    features, probabilities = network.extract(pictures)
    assert features.shape == (251, 256)
    assert probabilities is None
    assert torch.allclose(network.extract(pictures[250:])[0], features[250:], atol=1e-3)


@pytest.mark.parametrize("name", ["noisy", "checkered"])
def test_faults_change_the_features_more_than_other_pictures_do(name: str) -> None:
    """The mean features of faulty pictures lie farther from those of real ones than other real ones' do."""
    network = load_picture_network()
    pictures = torch.from_numpy(drawings(400, 0)[0]).permute(0, 3, 1, 2) / 127.5 - 1
    torch.manual_seed(0)
    real, others, faulty = (
        network.extract(each)[0].mean(dim=0) for each in (pictures[:200], pictures[200:], FAULTS[name](pictures[:200]))
    )
    assert (faulty - real).norm() > 2 * (others - real).norm()


def test_training_the_network_depends_on_the_seed_alone() -> None:
    pixels = torch.from_numpy(drawings(64, 0)[0]).permute(0, 3, 1, 2).contiguous()
    collections = {"drawings": Collection(pixels, "drawn here", "CC0-1.0")}
    first, same, other = (
        train_picture_network(collections, steps=2, seed=seed, batch_size=16, width=4)[0].state_dict()
        for seed in (1, 1, 2)
    )
    assert all(torch.equal(first[name], same[name]) for name in first)
    assert not torch.equal(first["features.0.weight"], other["features.0.weight"])


@pytest.mark.parametrize(("count", "held_out"), [(99, 0), (100, 20), (300, 60), (700, 100), (2400, 200)])
def test_a_share_of_the_users_images_is_held_out(count: int, held_out: int, tmp_path: Path) -> None:
    folder = tmp_path / "noise"
    folder.mkdir()
    for number, pixels in enumerate(np.random.RandomState(0).randint(0, 256, (count, 8, 8, 3)).astype(np.uint8)):
        (folder / f"{number:04d}.png").write_bytes(imagecodecs.png_encode(pixels, level=1))
    settings = ImageFolder(name="image-folder", resolution=8)
    source = settings.load(folder, lambda _: None)
    learned, _ = next(source.draw(count - held_out, 0))
    again, _ = next(settings.load(folder, lambda _: None).draw(count - held_out, 0))
    assert torch.equal(learned, again)
    assert source.card.size == len({image.numpy().tobytes() for image in learned}) == count - held_out
    evaluator = source.evaluator()
    assert (evaluator is not None) == bool(held_out)
    if evaluator:
        assert evaluator.num_samples == held_out


def test_a_run_on_the_users_pictures_has_figures_and_a_verdict(tmp_path: Path) -> None:
    data = write_drawings(tmp_path / "drawings", 120)
    small = ("generator.config.width=8", "discriminator.config.width=8", "steps=2", "batch_size=8")
    checkpoint = train(run_config("image-folder-dcgan", tmp_path / "run", *small, data=data))
    assert checkpoint.card.measured == "24 samples against held-out data, features of the embedded picture network"
    assert checkpoint.card.data.size == 96
    verdict = judge(checkpoint.card.metrics, checkpoint.card.floors)
    assert verdict is not None
    assert verdict.kind == "too early"
    assert (tmp_path / "run" / "nearest.png").exists()
    assert verdict.words in write_report(tmp_path / "run").read_text()
    path = tmp_path / "run" / f"image-folder-dcgan{SUFFIX}"
    done = CliRunner().invoke(evaluate, [str(path), "--data", str(data), "--json"])
    assert done.exit_code == 0, done.exception
    values = json.loads(done.stdout)
    assert (values["samples"], values["verdict"]["kind"]) == (24, "too early")
    assert values["frechet_distance"] > values["floor"] > 0
    assert Checkpoint.read(path).card.measured == "3 sets of 24 samples, features of the embedded picture network"
    printed = CliRunner().invoke(evaluate, [str(path), "--data", str(data), "--rounds", "1"]).stdout
    assert "too early: The samples do not look like the data yet" in printed


@pytest.mark.parametrize(
    ("changed", "kind"),
    [
        ({}, "good"),
        ({"nearest_training": 0.1}, "memorizes"),
        ({"density": 0.2, "recall": 0.2}, "too early"),
        ({"recall": 0.2}, "lost modes"),
    ],
)
def test_the_verdict_follows_from_the_figures(changed: dict[str, float], kind: str) -> None:
    verdict = judge(REAL | changed, REAL)
    assert verdict is not None
    assert verdict.kind == kind


def test_there_is_no_verdict_without_the_figures_of_images() -> None:
    assert judge({"modes": 8.0}, {"modes": 8.0}) is None
    assert judge({**REAL, "density": float("nan")}, REAL) is None
    assert judge(REAL, {**REAL, "density": 0.0}) is None


@pytest.mark.parametrize("learned", [100, 600])
def test_the_verdict_names_what_is_wrong_with_sets_made_on_purpose(learned: int) -> None:
    pictures, kinds = drawings(learned + 400, 1)
    verdicts = {each.made: each.verdict for each in judge_sets("drawings", pictures, kinds, learned, seed=1)}
    expected = {
        "unseen pictures": "good",
        "copies with noise of 0.02": "memorizes",
        "copies with noise of 0.1": "memorizes",
        "unseen pictures of two kinds of eight": "lost modes",
        "unseen pictures with five faults": "too early",
        "noise": "too early",
    }
    assert expected.items() <= verdicts.items()


def test_a_copy_of_a_mirrored_image_is_a_copy() -> None:
    pixels = torch.from_numpy(drawings(60, 0)[0]).permute(0, 3, 1, 2)
    train, reference = RealImages(pixels[:40]), RealImages(pixels[40:])
    mirrored = pixels[:20].flip(3) / 127.5 - 1 + 0.01
    network = load_picture_network()
    plain, with_mirrored = (
        ImageEvaluator(network, reference, train, 20, mirrored=each).quick_metrics(EvaluationSet.of(mirrored))
        for each in (False, True)
    )
    assert with_mirrored["nearest_training"] == pytest.approx(0.01, rel=0.01)
    assert plain["nearest_training"] > 0.1
