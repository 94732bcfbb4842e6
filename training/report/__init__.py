"""The report of a run: one HTML page that needs nothing but itself, drawn from what the run folder holds."""

from latentd.training.report.page import write_report
from latentd.training.report.run_record import RunNotFound, RunRecord, json_safe

__all__ = ["RunNotFound", "RunRecord", "json_safe", "write_report"]
