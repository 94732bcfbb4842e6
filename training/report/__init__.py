"""The report of a run: one HTML page that needs nothing but itself, drawn from what the run folder holds."""

from training.report.page import write_report

__all__ = ["write_report"]
