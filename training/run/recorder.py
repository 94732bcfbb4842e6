"""Writes what callbacks measure into the run's folder."""

import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from pydantic import JsonValue

from latentd.training.run.callback import ActiveRun, Callback, EvaluationResult, SampleFile
from latentd.training.run.directory import OutputError, RunDirectory


class Recorder(Callback):
    """Writes `run.json`, `metrics.jsonl` and samples."""

    _directory: RunDirectory

    def on_start(self, run: ActiveRun) -> None:
        try:
            self._directory = RunDirectory(run.folder, run.steps_done, _facts(run))
        except OSError as problem:
            raise OutputError(f"{run.folder} cannot be written to ({problem})") from problem

    def on_log(self, run: ActiveRun, kind: str, values: Mapping[str, Any]) -> None:
        self._directory.log(run.step, run.seconds, kind, values)

    def on_samples(self, run: ActiveRun, samples: SampleFile) -> None:
        self._directory.save_samples(run.step, samples.content, samples.suffix)

    def on_nearest(self, run: ActiveRun, picture: bytes, distances: Mapping[str, JsonValue]) -> None:
        self._directory.save_nearest(picture, distances)

    def on_evaluation(self, run: ActiveRun, result: EvaluationResult) -> None:
        self._directory.update(
            step=run.step,
            wall_seconds=round(run.seconds, 1),
            chosen_by=result.selection_metric,
            floors=dict(result.baseline),
            measured=result.measured,
            best=_best(run),
        )

    def on_end(self, run: ActiveRun) -> None:
        facts: dict[str, JsonValue] = {"status": run.status}
        if run.checkpoint:
            facts |= {"step": run.step, "wall_seconds": round(run.seconds, 1), "best": _best(run)}
            facts["version"] = run.checkpoint.version
        self._directory.close(**facts)

    def on_error(self, run: ActiveRun, error: BaseException) -> None:
        self._directory.close(status="failed", wall_seconds=round(run.seconds, 1), error=str(error) or repr(error))


def _facts(run: ActiveRun) -> dict[str, JsonValue]:
    """Return the first content of `run.json`."""
    shared = run.card.model_dump(
        mode="json", include={"recipe", "description", "settings", "seed", "data", "hardware", "versions"}
    )
    return shared | {
        "name": run.path.stem,
        "steps": run.steps,
        "status": run.status,
        "step": 0,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "host": platform.node(),
    }


def _best(run: ActiveRun) -> JsonValue:
    return dict(run.best) if run.best else None
