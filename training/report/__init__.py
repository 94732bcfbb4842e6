"""The report of a run: one self-contained HTML page, made from the files in the run directory."""

from latentd.training.report.page import write_report
from latentd.training.report.run_record import RunNotFound, RunRecord, json_safe

__all__ = ["RunNotFound", "RunRecord", "json_safe", "write_report"]
