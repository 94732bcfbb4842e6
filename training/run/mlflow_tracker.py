"""Logs a run to MLflow (https://mlflow.org)."""

import re
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from latentd.training.run.callback import ActiveRun, SampleFile
from latentd.training.run.tracker import Tracker

_REFUSED = re.compile(r"[^\w\-. :]")
_STATUSES = {"finished": "FINISHED", "stopped": "KILLED", "failed": "FAILED"}


class MlflowTracker(Tracker):
    """Settings are parameters, samples artifacts, and what is known at the end tags.

    MLflow's own variables say where: MLFLOW_TRACKING_URI, MLFLOW_EXPERIMENT_NAME.
    """

    name = "mlflow"

    _run_id: str

    def open(self, run: ActiveRun, run_id: str | None, settings: Mapping[str, Any]) -> str:
        # nested: below the caller's run if there is one, else a run of its own
        active = self.library.start_run(run_id=run_id, run_name=run.path.stem, nested=True)
        self._run_id = str(active.info.run_id)
        if run_id is None:  # the values of a run that is there cannot be changed
            self.library.log_params(dict(settings), run_id=self._run_id)
        return self._run_id

    def log_numbers(self, step: int, numbers: Mapping[str, float]) -> None:
        accepted = {_accepted(name): value for name, value in numbers.items()}
        self.library.log_metrics(accepted, step=step, run_id=self._run_id)

    def log_alarm(self, step: int, kind: str, message: str) -> None:
        self._set_tags({"alarm": kind, "alarm_message": f"step {step}: {message}"})

    def log_samples(self, step: int, samples: SampleFile) -> None:
        with TemporaryDirectory() as folder:
            file = Path(folder) / f"{step:08d}.{samples.suffix}"
            file.write_bytes(samples.content)
            self.library.log_artifact(str(file), "samples", run_id=self._run_id)

    def close(self, status: str, facts: Mapping[str, Any]) -> None:
        self._set_tags(facts)
        self.library.end_run(_STATUSES[status])

    def _set_tags(self, tags: Mapping[str, Any]) -> None:
        client = self.library.MlflowClient()
        for name, value in tags.items():
            client.set_tag(self._run_id, f"latentd.{name}", str(value))


def _accepted(name: str) -> str:
    """Return the name of a curve with the characters that MLflow accepts. A class may have any name."""
    kind, _, rest = name.partition("/")
    return f"{kind}/{_REFUSED.sub('_', rest)}"
