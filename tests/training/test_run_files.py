"""The files of a run: run.json, metrics, samples, TensorBoard's events, checkpoints."""

import json
import logging
import shutil
import signal
import struct
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tensorboardX.proto.event_pb2 import Event

from latentd.models.checkpoint import Checkpoint
from latentd.models.decision_surface import DecisionSurface
from latentd.models.latents import seeds_to_rows
from latentd.models.sampling import generate_rows
from latentd.training.algorithms.base import Algorithm, Losses, TrainingDiverged
from latentd.training.build import build
from latentd.training.data.source import TaskProgress
from latentd.training.run.directory import RunDirectory, read_metrics, read_run_json, sample_files
from latentd.training.run.runner import StoppedEarly, run
from tests.conftest import needs_fashion
from tests.training.runs import AtStep, logged, run_config, train
from tests.training.test_idx import write_idx


def curves(folder: Path) -> dict[str, list[int]]:
    """Curve → steps in TensorBoard's event files. A record is a length, its checksum, data, its checksum."""
    steps = defaultdict(list)
    for file in folder.glob("events.out.tfevents.*"):
        content = file.read_bytes()
        while content:
            (length,) = struct.unpack("<Q", content[:8])
            event = Event.FromString(content[12 : 12 + length])
            content = content[16 + length :]
            for value in event.summary.value:
                steps[value.tag].append(event.step)
    return steps


@pytest.fixture(scope="module")
def ring(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ring")
    train(run_config("ring-gan", folder, "steps=100"))
    return folder


def test_run_json_has_the_settings_and_the_result(ring: Path) -> None:
    facts = read_run_json(ring)
    assert facts is not None
    checkpoint = Checkpoint.read(ring / "ring-gan.safetensors")
    assert (facts["status"], facts["step"], facts["steps"]) == ("finished", 100, 100)
    assert facts["version"] == checkpoint.version
    assert facts["settings"] == checkpoint.card.settings
    assert facts["floors"]["modes"] == 8.0
    assert facts["chosen_by"] == "divergence"


def test_losses_metrics_and_samples_are_recorded_by_step(ring: Path) -> None:
    losses = logged(ring, "losses")
    assert list(losses) == list(range(1, 101))
    assert set(losses[7]) == {"generator", "discriminator"}
    metrics = logged(ring, "figures")
    assert list(metrics) == [100]
    assert metrics[100] == Checkpoint.read(ring / "ring-gan.safetensors").card.metrics
    assert [path.name for path in sample_files(ring)][-1] == "00000100.json"
    assert curves(ring)["losses/generator"] == list(range(1, 101))
    assert curves(ring)["figures/divergence"] == list(metrics)


def test_snapshots_of_points_have_the_decision_surface(ring: Path) -> None:
    shown = json.loads(sample_files(ring)[-1].read_text())
    generator = Checkpoint.read(ring / "ring-gan.safetensors").build()
    samples = generate_rows(generator, seeds_to_rows(generator.spec, range(512)))
    assert np.allclose(shown["samples"], samples, atol=6e-4)
    assert np.asarray(shown["surface"]).shape == (48, 48)
    assert 1.2 < shown["reach"] < 1.4


def test_a_run_saves_its_decision_surface(ring: Path) -> None:
    path = ring / "ring-gan.safetensors"
    surface = DecisionSurface.read(path, Checkpoint.read(path).version)
    left, right, bottom, top = surface.extent
    assert surface.logits.shape == (48, 48)
    assert left == bottom == -right == -top < -1.0  # the ring's radius is 1


def test_a_resumed_run_has_each_step_once(tmp_path: Path) -> None:
    config = run_config("ring-gan", tmp_path, "steps=40")

    def press(step: int, _: Losses) -> None:
        if step == 15:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(StoppedEarly):
        train(config, AtStep(press))
    facts = read_run_json(tmp_path)
    assert facts is not None
    assert (facts["status"], facts["step"]) == ("stopped", 15)
    state = tmp_path / "before"
    shutil.copytree(tmp_path / "state", state)
    train(config)
    shutil.rmtree(tmp_path / "state")
    shutil.copytree(state, tmp_path / "state")  # as if all states after step 15 were lost
    train(config)
    steps = [line["step"] for line in read_metrics(tmp_path) if "losses" in line]
    assert steps == list(range(1, 41))
    snapshots = [int(path.stem) for path in sample_files(tmp_path)]
    assert snapshots[-1] == 40
    assert {15, 40} <= set(snapshots)  # the end of each part has one


def test_a_new_run_deletes_the_files_of_the_old_one(ring: Path, tmp_path: Path) -> None:
    shutil.copytree(ring, tmp_path, dirs_exist_ok=True)
    shutil.rmtree(tmp_path / "state")
    train(run_config("ring-gan", tmp_path, "steps=1"))
    assert {line["step"] for line in read_metrics(tmp_path)} == {1}
    assert [path.name for path in sample_files(tmp_path)] == ["00000001.json"]
    assert {step for steps in curves(tmp_path).values() for step in steps} == {1}


@pytest.mark.parametrize(
    "line", ["[1, 2]", "5", '{"step": "x", "losses": {}}', '{"step": 3, "alarm": 5}', '{"step": 3, "los', "\udcff"]
)
def test_lines_that_cannot_be_read_are_left_out(line: str, tmp_path: Path) -> None:
    good = '{"step": 1, "seconds": 0.5, "losses": {"generator": 1.0}}'
    content = f"{good}\n{line}\n{good}\n".encode(errors="surrogateescape")
    (tmp_path / "metrics.jsonl").write_bytes(content)
    assert list(read_metrics(tmp_path)) == [json.loads(good)] * 2


def test_the_error_of_a_failed_run_is_recorded(tmp_path: Path) -> None:
    def fail(step: int, _: Losses) -> None:
        raise TrainingDiverged(f"a loss is not finite at step {step}")

    with pytest.raises(TrainingDiverged):
        train(run_config("ring-gan", tmp_path, "steps=10"), AtStep(fail))
    facts = read_run_json(tmp_path)
    assert facts is not None
    assert (facts["status"], facts["error"]) == ("failed", "a loss is not finite at step 1")
    assert list(logged(tmp_path, "losses")) == [1]
    assert "a loss is not finite at step 1" in (tmp_path / "report.html").read_text()


def test_a_run_stopped_before_its_first_step_has_the_status_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def build_and_press(*parts: Any) -> Algorithm:
        signal.raise_signal(signal.SIGINT)
        return build(*parts)

    monkeypatch.setattr("latentd.training.run.runner.build", build_and_press)
    with pytest.raises(StoppedEarly) as stopped:
        train(run_config("ring-gan", tmp_path, "steps=40"))
    assert stopped.value.checkpoint is None
    facts = read_run_json(tmp_path)
    assert facts is not None
    assert (facts["status"], facts["step"]) == ("stopped", 0)
    assert not list(tmp_path.glob("**/*.safetensors"))


def test_a_full_disk_does_not_end_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(RunDirectory, "save_samples", full)
    with caplog.at_level(logging.WARNING):
        checkpoint = train(run_config("ring-gan", tmp_path, "steps=40"))
    assert checkpoint.card.steps == 40
    assert checkpoint.card.metrics == logged(tmp_path, "figures")[40]
    assert caplog.text.count("not all records of this run can be written: [Errno 28] No space left on device") == 1
    facts = read_run_json(tmp_path)
    assert facts is not None
    assert facts["status"] == "finished"


def test_steps_and_the_last_evaluation_are_shown_as_progress(tmp_path: Path) -> None:
    shown: list[tuple[str, int, bool]] = []

    def on_progress(progress: TaskProgress) -> None:
        shown.append((progress.task, progress.done, bool(logged(tmp_path, "figures"))))

    run(run_config("ring-gan", tmp_path, "steps=10"), on_progress)
    assert shown[:10] == [("training ring-gan", step, False) for step in range(1, 11)]
    assert shown[10:] == [("evaluating the generator", 0, False), ("evaluating the generator", 1, True)]


def test_the_probe_needs_at_least_50_images(tmp_path: Path) -> None:
    for count, has_readings in ((40, False), (110, True)):
        write_idx(tmp_path / f"data{count}", count=count)
        small = ("generator.config.width=8", "discriminator.config.width=8", "batch_size=8", "steps=2")
        folder = tmp_path / f"run{count}"
        train(run_config("fashion-dcgan-conditional", folder, *small, data=tmp_path / f"data{count}"))
        assert bool(logged(folder, "vitals")) is has_readings


@needs_fashion
def test_runs_on_images_have_snapshots_metrics_and_nearest_images(tmp_path: Path) -> None:
    small = ("generator.config.width=8", "discriminator.config.width=8", "batch_size=8", "steps=2")
    checkpoint = train(run_config("fashion-dcgan", tmp_path, *small))
    assert checkpoint.card.data.size == 55_000
    assert checkpoint.card.measured.startswith("2000 samples against held-out data, features of the embedded")
    assert checkpoint.card.metrics["frechet_distance"] > 10 * checkpoint.card.floors["frechet_distance"]
    with Image.open(sample_files(tmp_path)[-1]) as grid:
        assert grid.size == (8 * 28, 8 * 28)
    with Image.open(tmp_path / "nearest.png") as pairs:
        assert pairs.size == (4 * 56, 4 * 28)
    distances = json.loads((tmp_path / "nearest.json").read_text())
    assert len(distances["distances"]) == 16
    assert 0.05 < distances["of_real"] < 0.5
