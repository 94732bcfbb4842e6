"""Logs a run to Weights & Biases (https://wandb.ai)."""

import io
import json
import os
from collections.abc import Mapping
from typing import Any

from PIL import Image

from latentd.training.run.callback import ActiveRun, SampleFile
from latentd.training.run.tracker import Tracker

_PROJECT = "latentd"


class WandbTracker(Tracker):
    """Settings are the run's config, and what is known at the end its summary.

    The library's own variables say where: WANDB_PROJECT (default: latentd), WANDB_ENTITY, WANDB_MODE.
    """

    name = "wandb"

    _run: Any

    def open(self, run: ActiveRun, run_id: str | None, settings: Mapping[str, Any]) -> str:
        self._run = self.library.init(
            project=os.environ.get("WANDB_PROJECT", _PROJECT),
            name=run.path.stem,
            id=run_id,
            resume="allow" if run_id else None,
            reinit="create_new",  # a run of the caller's stays as it is
            dir=run.folder,
        )
        self._run.config.update(dict(settings), allow_val_change=True)  # a run may resume with more steps
        return str(self._run.id)

    def log_numbers(self, step: int, numbers: Mapping[str, float]) -> None:
        self._run.log(dict(numbers), step=step)

    def log_alarm(self, step: int, kind: str, message: str) -> None:
        self._run.alert(title=kind, text=f"step {step}: {message}")
        self._run.summary["alarm"] = kind

    def log_samples(self, step: int, samples: SampleFile) -> None:
        if samples.suffix == "png":
            shown = self.library.Image(Image.open(io.BytesIO(samples.content)))
        else:
            rows = json.loads(samples.content)["samples"]
            shown = self.library.Table(columns=[f"x{index}" for index in range(len(rows[0]))], data=rows)
        self._run.log({"samples": shown}, step=step)

    def close(self, status: str, facts: Mapping[str, Any]) -> None:
        self._run.summary.update(dict(facts))
        self._run.finish(exit_code=int(status == "failed"))
