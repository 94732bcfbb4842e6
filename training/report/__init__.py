"""The report of a run: one HTML page that needs nothing but itself, drawn from what the run folder holds."""

from latentd.training.report.page import write_report
from latentd.training.report.record import NoRun, Record, finite

__all__ = ["NoRun", "Record", "finite", "write_report"]
