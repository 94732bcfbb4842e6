"""Writes the report of a run."""

from latentd.training.report.page import write_report
from latentd.training.run.callback import ActiveRun, Callback, EvaluationResult


class ReportWriter(Callback):
    """Writes `report.html` after each evaluation, and when the run ends."""

    def on_evaluation(self, run: ActiveRun, result: EvaluationResult) -> None:
        write_report(run.folder)

    def on_end(self, run: ActiveRun) -> None:
        write_report(run.folder)

    def on_error(self, run: ActiveRun, error: BaseException) -> None:
        write_report(run.folder)
