"""Writes the report of a run."""

import logging
import math

from latentd.training.report.page import report_path, write_report
from latentd.training.run.callback import ActiveRun, EvaluationResult, PeriodicCallback

logger = logging.getLogger(__name__)

_SECONDS = 60.0
"""Between two reports. Evaluations do not wait for it."""


class ReportWriter(PeriodicCallback):
    """Writes `report.html` after the first step, about every minute, after evaluations, and when the run ends."""

    time_fraction = 1 / 60

    def __init__(self) -> None:
        self._written_at = -math.inf
        self._has_news = False

    def on_start(self, run: ActiveRun) -> None:
        logger.info("report: %s", report_path(run.folder))

    def on_evaluation(self, run: ActiveRun, result: EvaluationResult) -> None:
        self._has_news = True

    def is_due(self, run: ActiveRun) -> bool:
        return self._has_news or run.seconds - self._written_at >= _SECONDS

    def act(self, run: ActiveRun) -> None:
        if not run.has_ended:  # then `on_end` writes it
            self._write(run)

    def on_end(self, run: ActiveRun) -> None:
        self._write(run)

    def on_error(self, run: ActiveRun, error: BaseException) -> None:
        self._write(run)

    def _write(self, run: ActiveRun) -> None:
        self._written_at = run.seconds
        self._has_news = False
        write_report(run.folder)
