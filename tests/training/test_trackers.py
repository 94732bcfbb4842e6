"""Runs that are logged to a tracking service as well. The real services write to this machine's disk."""

import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import latentd
from latentd.cli.main import latentd as command_line
from latentd.models.checkpoint import Checkpoint
from latentd.training.algorithms.base import Losses, TrainingDiverged
from latentd.training.run.callback import ActiveRun, Callback, SampleFile
from latentd.training.run.directory import sample_files
from latentd.training.run.runner import StoppedEarly
from latentd.training.run.tracker import Tracker, TrackerMissing
from tests.training.runs import AtStep, run_config, train

STEPS = 6


class Kept(Tracker):
    """Keeps what it is told. Its library is one that every Python has."""

    name = "json"

    def __init__(self) -> None:
        super().__init__()
        self.opened: list[str | None] = []
        self.settings: Mapping[str, Any] = {}
        self.numbers: list[tuple[int, Mapping[str, float]]] = []
        self.samples: dict[int, SampleFile] = {}
        self.alarms: list[str] = []
        self.ends: list[tuple[str, Mapping[str, Any]]] = []

    def open(self, run: ActiveRun, run_id: str | None, settings: Mapping[str, Any]) -> str:
        self.opened.append(run_id)
        self.settings = settings
        return run_id or "number-one"

    def log_numbers(self, step: int, numbers: Mapping[str, float]) -> None:
        self.numbers.append((step, numbers))

    def log_alarm(self, step: int, kind: str, message: str) -> None:
        self.alarms.append(kind)

    def log_samples(self, step: int, samples: SampleFile) -> None:
        self.samples[step] = samples

    def close(self, status: str, facts: Mapping[str, Any]) -> None:
        self.ends.append((status, facts))


class OddName(Callback):
    """Logs a number under a name that MLflow refuses."""

    def on_end(self, run: ActiveRun) -> None:
        run.log("mine", {"cats & dogs/..": 1.0})


def press_at(step: int) -> Callback:
    def press(now: int, _: Losses) -> None:
        if now == step:
            signal.raise_signal(signal.SIGINT)

    return AtStep(press)


def test_a_tracker_gets_settings_curves_samples_and_the_version(tmp_path: Path) -> None:
    tracker = Kept()
    checkpoint = train(run_config("ring-gan", tmp_path, f"steps={STEPS}"), tracker)
    assert tracker.settings["generator.latent.dim"] == checkpoint.card.settings["generator"]["latent"]["dim"]
    assert (tracker.settings["seed"], tracker.settings["data"]) == (0, "ring")
    curves = {name for _, numbers in tracker.numbers for name in numbers}
    assert {"losses/generator", "losses/discriminator", "vitals/diversity", "figures/divergence"} <= curves
    last = [numbers["figures/divergence"] for step, numbers in tracker.numbers if "figures/divergence" in numbers]
    assert last == [checkpoint.card.metrics["divergence"]]
    assert tracker.samples[STEPS].content == sample_files(tmp_path)[-1].read_bytes()
    assert tracker.ends == [
        ("finished", {"step": STEPS, "checkpoint": "ring-gan", "version": checkpoint.version}),
    ]


def test_a_run_that_resumes_is_one_run_of_the_service(tmp_path: Path) -> None:
    config = run_config("ring-gan", tmp_path, f"steps={STEPS}")
    first, second, new = Kept(), Kept(), Kept()
    with pytest.raises(StoppedEarly):
        train(config, first, press_at(2))
    assert first.ends[0][0] == "stopped"
    train(config, second)
    assert (first.opened, second.opened) == ([None], ["number-one"])
    assert [step for step, numbers in second.numbers if "losses/generator" in numbers] == [3, 4, 5, 6]
    for state in (tmp_path / "state").iterdir():
        state.unlink()
    train(config, new)
    assert new.opened == [None]


def test_a_tracker_is_told_why_a_run_failed(tmp_path: Path) -> None:
    def diverge(step: int, _: Losses) -> None:
        raise TrainingDiverged("a loss is not finite")

    tracker = Kept()
    with pytest.raises(TrainingDiverged):
        train(run_config("ring-gan", tmp_path, "steps=2"), tracker, AtStep(diverge))
    assert tracker.ends == [("failed", {"step": 1, "error": "a loss is not finite"})]


def test_a_library_that_is_missing_is_named_before_anything_is_read(tmp_path: Path) -> None:
    class Missing(Kept):
        name = "no_such_library"

    with pytest.raises(TrackerMissing, match=r"pip install 'latentd\[no_such_library\]'"):
        Missing()
    with pytest.raises(ValueError, match="log is one of mlflow, wandb, not 'nothing'"):
        latentd.train("ring-gan", out=tmp_path, log="nothing")


def test_mlflow_has_the_run_and_continues_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow", reason="pip install 'latentd[mlflow]'")
    monkeypatch.chdir(tmp_path)  # where MLflow keeps artifacts
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///store.db")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "points")
    result = CliRunner().invoke(
        command_line, ["train", "gaussian-gan", "--device", "cpu", "--log", "mlflow", "--set", "steps=2"]
    )
    assert result.exit_code == 0, result.output
    latentd.train("gaussian-gan", device="cpu", log="mlflow", callbacks=[OddName()], steps=STEPS)
    client = mlflow.MlflowClient()
    (run,) = mlflow.search_runs(experiment_names=["points"], output_format="list")
    checkpoint = Checkpoint.read(tmp_path / "runs" / "gaussian-gan" / "gaussian-gan.safetensors")
    assert (run.info.run_name, run.info.status) == ("gaussian-gan", "FINISHED")
    assert run.data.params["generator.latent.dim"] == str(checkpoint.card.settings["generator"]["latent"]["dim"])
    assert run.data.tags["latentd.checkpoint"] == "gaussian-gan"
    assert run.data.tags["latentd.version"] == checkpoint.version
    assert run.data.metrics["figures/divergence"] == checkpoint.card.metrics["divergence"]
    assert run.data.metrics["mine/cats _ dogs_.."] == 1.0
    losses = client.get_metric_history(run.info.run_id, "losses/generator")
    assert [each.step for each in losses] == list(range(1, STEPS + 1))
    samples = [Path(each.path).name for each in client.list_artifacts(run.info.run_id, "samples")]
    assert f"{STEPS:08d}.json" in samples


def test_wandb_has_the_run_and_continues_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb", reason="pip install 'latentd[wandb]'")
    monkeypatch.setenv("WANDB_MODE", "offline")
    for steps in (2, 4):
        run = latentd.train("gaussian-gan", out=tmp_path, device="cpu", log="wandb", callbacks=[OddName()], steps=steps)
    run_id = (tmp_path / "wandb-run-id").read_text().strip()
    first, second = sorted((tmp_path / "wandb").glob(f"offline-run-*-{run_id}"))
    (content,) = (path.read_bytes() for path in second.glob("*.wandb"))
    for text in ("generator.latent.dim", "losses/generator", "vitals/diversity", "figures/divergence", "mine/cats"):
        assert text.encode() in content
    assert run.load("cpu").version.encode() in content
    assert [path.name.split("_")[1] for path in sorted(first.glob("files/media/table/samples_*"))][-1] == "2"
    assert [path.name.split("_")[1] for path in sorted(second.glob("files/media/table/samples_*"))][-1] == "4"
