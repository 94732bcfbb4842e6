"""Whole training runs: what they learn, and how they end."""

import dataclasses
import shutil
import signal
from pathlib import Path

import pytest
import torch

from latentd.models.checkpoint import Checkpoint
from latentd.models.conditions.classes import ClassCondition
from latentd.models.latents import seeds_to_rows
from latentd.models.sampling import generate_rows
from latentd.training.algorithms.base import Losses, TrainingDiverged
from latentd.training.data.source import DataError
from latentd.training.run.memory import OutOfMemory
from latentd.training.run.runner import StoppedEarly
from tests.training.runs import AtStep, run_config, train
from tests.training.test_collections import as_folder, fill_with_images
from tests.training.test_idx import write_idx


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.mark.slow
def test_ring_gan_finds_the_modes(tmp_path: Path) -> None:
    metrics = train(run_config("ring-gan", tmp_path, "steps=3000", "batch_size=128")).card.metrics
    assert metrics["modes"] >= 7
    assert metrics["high_quality"] > 0.5


def test_gaussian_gan_learns_mean_and_spread(tmp_path: Path) -> None:
    checkpoint = train(run_config("gaussian-gan", tmp_path, "steps=2500"))
    samples = generate_rows(checkpoint.build(), seeds_to_rows(checkpoint.card.spec, range(1000)))
    assert samples.mean(axis=0) == pytest.approx([2.0, -1.0], abs=0.2)
    assert samples.std(axis=0) == pytest.approx([0.5, 0.5], abs=0.2)


@pytest.mark.parametrize(
    "name", ["fashion-dcgan", "fashion-dcgan-conditional", "fashion-lsgan", "fashion-wgan", "fashion-wgan-gp"]
)
def test_image_recipes_run_and_write_a_correct_card(name: str, tmp_path: Path) -> None:
    write_idx(tmp_path / "data", count=64)
    config = run_config(name, tmp_path, "steps=2", "batch_size=8", "generator.config.width=8", data=tmp_path / "data")
    card = train(config).card
    assert card.steps == 2
    assert card.images_seen == 2 * 8 * config.recipe.discriminator_steps
    assert card.data.size == 59  # one image in twelve is held out
    assert card.recipe == name
    assert card.settings == config.recipe.model_dump(mode="json")
    assert Checkpoint.read(config.checkpoint_path).card == card


def test_image_folder_dcgan_learns_from_a_folder(tmp_path: Path) -> None:
    fill_with_images(tmp_path / "photos")
    checkpoint = train(run_config("image-folder-dcgan", tmp_path, "steps=1", "batch_size=4", data=tmp_path / "photos"))
    assert checkpoint.card.spec.output.shape == (3, 64, 64)
    assert (checkpoint.card.data.name, checkpoint.card.data.size) == ("photos", 9)


def test_mlp_learns_from_mnist_files(tmp_path: Path) -> None:
    write_idx(tmp_path / "data", count=64)
    checkpoint = train(run_config("mnist-mlp-gan", tmp_path, "steps=2", "batch_size=8", data=tmp_path / "data"))
    assert checkpoint.card.spec.output.shape == (1, 28, 28)


def test_folder_names_become_the_classes_of_a_conditional_generator(tmp_path: Path) -> None:
    conditional = ("steps=1", "batch_size=4", "generator.conditional=true")
    checkpoint = train(run_config("image-folder-dcgan", tmp_path / "a", *conditional, data=as_folder(tmp_path)))
    condition = checkpoint.card.spec.condition
    assert isinstance(condition, ClassCondition)
    assert condition.names == ("cat", "dog")
    fill_with_images(tmp_path / "photos")
    with pytest.raises(DataError, match=r"photos has no classes.*a folder of its own"):
        train(run_config("image-folder-dcgan", tmp_path / "b", *conditional, data=tmp_path / "photos"))


def test_out_of_memory_says_which_setting_to_lower(tmp_path: Path) -> None:
    def full(_: int, __: Losses) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    for settings, advice in (
        (("batch_size=64",), r"set microbatches=2 \(.*\) or batch_size=32 \("),
        (("batch_size=64", "microbatches=4"), "for 16 samples of batch_size=64 at once; set microbatches=8"),
        (("batch_size=63", "packing=3"), r"set batch_size=30 \(another run"),
        (("batch_size=48", "microbatches=16"), "for 3 samples of batch_size=48 at once; set batch_size=16"),
        (("batch_size=80", "microbatches=16"), "set batch_size=32"),
        (("batch_size=1",), "make the networks narrower"),
    ):
        with pytest.raises(OutOfMemory, match=advice):
            train(run_config("ring-gan", tmp_path / str(settings), "steps=2", *settings), AtStep(full))

    def full_on_the_cpu(_: int, __: Losses) -> None:
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate")

    with pytest.raises(OutOfMemory, match="microbatches=2"):
        train(run_config("ring-gan", tmp_path / "cpu", "steps=2"), AtStep(full_on_the_cpu))


def test_a_run_resumes_with_more_microbatches(tmp_path: Path) -> None:
    train(run_config("gaussian-gan", tmp_path, "steps=2"))
    assert train(run_config("gaussian-gan", tmp_path, "steps=4", "microbatches=2")).card.steps == 4


def test_weights_that_are_not_finite_are_not_saved(tmp_path: Path) -> None:
    """The loss of the last step is finite, but the weights after it are not."""
    config = run_config("ring-gan", tmp_path, "steps=1")
    exploding = dataclasses.replace(config, recipe=config.recipe.model_copy(update={"generator_lr": 1e39}))
    with pytest.raises(TrainingDiverged, match="a weight is not finite at step 1: lower the learning rates"):
        train(exploding)
    assert not config.checkpoint_path.exists()


def test_sigterm_stops_after_the_step(tmp_path: Path) -> None:
    config = run_config("ring-gan", tmp_path, "steps=5")
    with pytest.raises(StoppedEarly) as stopped:
        train(config, AtStep(lambda *_: signal.raise_signal(signal.SIGTERM)))
    assert stopped.value.steps == Checkpoint.read(config.checkpoint_path).card.steps == 1


def test_the_seed_decides_the_weights(tmp_path: Path) -> None:
    first, again, other = (run_config("ring-gan", tmp_path / name, "steps=30") for name in ("first", "again", "other"))
    version = train(first).version
    assert train(again).version == version
    assert train(dataclasses.replace(other, seed=1)).version != version


def test_ctrl_c_after_the_last_step_loses_nothing(tmp_path: Path) -> None:
    config = run_config("ring-gan", tmp_path, "steps=5")

    def press_at_the_last_step(step: int, _: Losses) -> None:
        if step == 5:
            signal.raise_signal(signal.SIGINT)

    assert train(config, AtStep(press_at_the_last_step)).card.steps == 5


def test_ctrl_c_stops_after_the_step(tmp_path: Path) -> None:
    config = run_config("gaussian-gan", tmp_path, "steps=5")

    def press(step: int, _: Losses) -> None:
        if step == 2:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(StoppedEarly) as stopped:
        train(config, AtStep(press))
    assert stopped.value.steps == Checkpoint.read(config.checkpoint_path).card.steps == 2
    short = train(dataclasses.replace(config, recipe=config.recipe.model_copy(update={"steps": 2})))
    assert Checkpoint.read(config.checkpoint_path).version == short.version


def test_ctrl_c_twice_loses_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    config = run_config("ring-gan", tmp_path, "steps=5")

    def press_twice(_: int, __: Losses) -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(StoppedEarly):
        train(config, AtStep(press_twice))
    assert Checkpoint.read(config.checkpoint_path).card.steps == 1
    assert caplog.text.count("stopping after this step") == 1


def test_a_stopped_run_does_not_overwrite_a_longer_one(tmp_path: Path) -> None:
    config = run_config("ring-gan", tmp_path, "steps=5")
    whole = train(config)
    shutil.rmtree(tmp_path / "state")  # else the run would resume
    with pytest.raises(StoppedEarly) as stopped:
        train(config, AtStep(lambda *_: signal.raise_signal(signal.SIGINT)))
    assert Checkpoint.read(config.checkpoint_path).version == whole.version
    assert stopped.value.checkpoint is not None
    beside = tmp_path / f"{stopped.value.checkpoint.name}.safetensors"
    assert beside.name == "ring-gan-step1.safetensors"
    assert Checkpoint.read(beside).card.steps == 1
