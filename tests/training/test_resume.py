"""Runs that are interrupted and resume. They end with the same bits as runs that were not interrupted."""

import dataclasses
import json
import logging
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from latentd.models.checkpoint import Checkpoint
from latentd.training.algorithms.base import Losses, TrainingDiverged
from latentd.training.run.runner import RunConfig, StoppedEarly
from latentd.training.run.state import StateError
from tests.conftest import eventually
from tests.training.runs import AtStep, run_config, train
from tests.training.test_idx import write_idx


def stop_at(config: RunConfig, step: int) -> None:
    """Press Ctrl-C in this step."""

    def press(now: int, _: Losses) -> None:
        if now == step:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(StoppedEarly):
        train(config, AtStep(press))


EVERYTHING = (
    *("augment.views=['flip', 'translation', 'brightness', 'cutout']", "augment.target=0.1", "augment.speed=100"),
    *("penalties.r1.weight=0.1", "penalties.r1.every=2", "penalties.consistency.weight=1.0", "data.flip=true"),
    *("microbatches=2", "packing=2", "discriminator.config.minibatch_std=2", "precision=bfloat16"),
    *("schedule.warmup=2", "schedule.decay=cosine", "schedule.decay_from=0.4"),
)
IMAGES = ("steps=7", "batch_size=8", "generator.config.width=8", "discriminator.config.width=8")

ENCODED = ("steps=7", "batch_size=8", "generator.latent.dim=4", "generator.config.width=8", "encoder.config.width=8")


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("ring-gan", ("steps=40",)),
        ("gaussian-gan", ("steps=40",)),
        *((name, IMAGES) for name in ("fashion-dcgan-conditional", "fashion-wgan", "fashion-wgan-gp", "fashion-r3gan")),
        ("fashion-dcgan", (*IMAGES, *EVERYTHING)),
        ("fashion-vae", (*ENCODED, "microbatches=2", "precision=bfloat16", "data.flip=true")),
        ("fashion-vae", (*ENCODED, "generator.conditional=true", "schedule.warmup=2")),
        ("fashion-autoencoder", (*ENCODED, "precision=bfloat16")),
        ("fashion-gaussian", ("steps=7", "batch_size=8", "generator.latent.dim=16", "microbatches=2")),
        ("ring-gan", ("steps=40", "packing=2", "schedule.warmup=5", "discriminator.config.norm=spectral")),
    ],
)
def test_a_resumed_run_ends_with_the_same_bits(
    name: str, settings: tuple[str, ...], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = None
    if name.startswith("fashion"):
        data = tmp_path / "data"
        write_idx(data, count=20)  # two batches an epoch, so that several epochs end
    whole = train(run_config(name, tmp_path / "whole", *settings, data=data))
    interrupted = run_config(name, tmp_path / "interrupted", *settings, data=data)
    for step in (1, 3, 4):
        stop_at(interrupted, step)
    with caplog.at_level(logging.INFO):
        resumed = train(interrupted)
    assert "resumed at step 4" in caplog.text
    assert resumed.version == whole.version
    assert resumed.card.steps == whole.card.steps


def test_a_finished_run_resumes_with_more_steps(tmp_path: Path) -> None:
    train(run_config("gaussian-gan", tmp_path / "a", "steps=10"))
    longer = train(run_config("gaussian-gan", tmp_path / "a", "steps=25"))
    assert longer.version == train(run_config("gaussian-gan", tmp_path / "b", "steps=25")).version
    with pytest.raises(StateError, match=r"at step 25 already, past steps=10"):
        train(run_config("gaussian-gan", tmp_path / "a", "steps=10"))


def test_a_schedule_with_another_end_is_another_run(tmp_path: Path) -> None:
    train(run_config("ring-gan", tmp_path, "steps=10", "schedule.decay=linear"))
    with pytest.raises(StateError, match=r"a run with steps=10, but this run has 20"):
        train(run_config("ring-gan", tmp_path, "steps=20", "schedule.decay=linear"))


def test_weights_that_are_not_finite_are_not_saved(tmp_path: Path) -> None:
    """A loss can be finite although the update after it is not. Such a state must not replace a good one."""
    config = run_config(
        "ring-gan", tmp_path, "steps=300", "generator_lr=0.999", "discriminator_lr=0.999", "save_seconds=1e-6"
    )
    exploding = dataclasses.replace(
        config, recipe=config.recipe.model_copy(update={"generator_lr": 1e30, "discriminator_lr": 1e30})
    )
    with pytest.raises(TrainingDiverged, match="not finite at step"):
        train(exploding)
    for state in (tmp_path / "state").glob("*.safetensors"):
        assert all(tensor.isfinite().all() for tensor in load_file(state).values())


def test_the_state_of_another_run_is_refused(tmp_path: Path) -> None:
    config = run_config("ring-gan", tmp_path, "steps=5")
    train(config)
    for changed, named in (
        (run_config("ring-gan", tmp_path, "steps=5", "batch_size=32"), "batch_size=256"),
        (dataclasses.replace(config, seed=3), "seed=0"),
    ):
        with pytest.raises(StateError, match=f"{named}.*choose another folder"):
            train(changed)
    assert Checkpoint.read(config.checkpoint_path).card.steps == 5


def test_a_run_resumes_whose_objective_was_renamed(tmp_path: Path) -> None:
    write_idx(tmp_path / "data", count=20)
    whole = train(run_config("fashion-vae", tmp_path / "whole", *ENCODED, data=tmp_path / "data"))
    config = run_config("fashion-vae", tmp_path / "old", *ENCODED, data=tmp_path / "data")
    stop_at(config, 3)
    (state,) = (tmp_path / "old" / "state").iterdir()
    with safe_open(state, framework="pt") as file:
        metadata = file.metadata()
    facts = json.loads(metadata["latentd.state"])
    assert facts["identity"]["objective"] == "elbo"
    facts["identity"]["objective"] = "evidence"
    save_file(load_file(state), state, metadata | {"latentd.state": json.dumps(facts)})
    assert train(config).version == whole.version


def test_other_data_is_refused(tmp_path: Path) -> None:
    for name, count in (("some", 20), ("more", 24)):
        write_idx(tmp_path / name, count=count)
    train(run_config("fashion-dcgan", tmp_path, *IMAGES, data=tmp_path / "some"))
    with pytest.raises(StateError, match=r"data_sha256|data_size"):
        train(run_config("fashion-dcgan", tmp_path, *IMAGES, data=tmp_path / "more"))


def test_a_torn_state_falls_back_to_the_state_before(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    config = run_config("ring-gan", tmp_path / "torn", "steps=20")
    stop_at(config, 5)
    stop_at(config, 9)
    states = sorted((tmp_path / "torn" / "state").iterdir(), key=lambda path: path.stat().st_mtime_ns)
    assert len(states) == 2
    whole = states[1].read_bytes()
    for torn in (whole[: len(whole) // 2], whole[:-4] + b"\0\0\0\1", b""):
        states[1].write_bytes(torn)
        shutil.rmtree(tmp_path / "again", ignore_errors=True)
        shutil.copytree(tmp_path / "torn", tmp_path / "again")
        caplog.clear()
        with caplog.at_level(logging.INFO):
            resumed = train(run_config("ring-gan", tmp_path / "again", "steps=20"))
        assert "resuming from the state before it" in caplog.text
        assert "resumed at step 5" in caplog.text
        assert resumed.version == train(run_config("ring-gan", tmp_path / f"whole{len(torn)}", "steps=20")).version
    states[0].write_bytes(b"torn too")
    with pytest.raises(StateError, match="no whole state to resume from"):
        train(config)


def test_a_full_disk_leaves_the_state_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    config = run_config("ring-gan", tmp_path, "steps=20")
    stop_at(config, 5)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("latentd.training.run.state.write_tensors", full)
        stop_at(config, 9)
    assert "the state of step 9 was not saved: [Errno 28] No space left on device" in caplog.text
    with caplog.at_level(logging.INFO):
        train(config)
    assert "resumed at step 5" in caplog.text


def test_a_diverged_run_keeps_its_last_state(tmp_path: Path) -> None:
    config = run_config("ring-gan", tmp_path, "steps=300", "save_seconds=0.0001")

    def poison(step: int, _: Losses) -> None:
        if step == 100:
            raise TrainingDiverged("a loss is not finite at step 101")

    with pytest.raises(TrainingDiverged):
        train(config, AtStep(poison))
    whole = train(run_config("ring-gan", tmp_path / "whole", "steps=300"))
    assert train(config).version == whole.version


@pytest.mark.slow
def test_a_run_killed_at_random_times_ends_with_the_same_bits(tmp_path: Path) -> None:
    settings = ["--set", "steps=3000", "--set", "save_seconds=0.05"]

    def command(folder: str) -> list[str]:
        return [str(Path(sys.executable).with_name("latentd")), "train", "ring-gan", "--out", folder, *settings]

    whole, killed = str(tmp_path / "whole"), str(tmp_path / "killed")
    subprocess.run(command(whole), check=True, capture_output=True, timeout=300)
    times = random.Random(0)  # noqa: S311  # no cryptography
    log = ""
    for _ in range(4):
        before = saved_at(Path(killed))
        process = subprocess.Popen(command(killed), stderr=subprocess.PIPE, text=True)
        eventually(lambda: saved_at(Path(killed)) != before or process.poll() is not None)  # noqa: B023  # called here
        time.sleep(times.uniform(0.0, 0.2))
        process.kill()
        log += process.communicate()[1]
    assert log.count("resumed at step") == 3
    subprocess.run(command(killed), check=True, capture_output=True, timeout=300)
    results = [Checkpoint.read(Path(folder) / "ring-gan.safetensors") for folder in (whole, killed)]
    assert results[0].version == results[1].version
    assert results[1].card.steps == 3000


def saved_at(run_folder: Path) -> list[int]:
    return sorted(path.stat().st_mtime_ns for path in (run_folder / "state").glob("*.safetensors"))
