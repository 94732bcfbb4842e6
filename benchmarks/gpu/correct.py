"""Checks of this device: the tests marked `gpu`, and samples in random mixes of requests."""

import os
import sys
from typing import Any

import pytest

from benchmarks.gpu import mixes
from benchmarks.gpu.part import Part
from benchmarks.processes import ROOT

_SAMPLES = 10_000
_MIN_SECONDS = 5


class Recorder:
    """A pytest plugin that writes the outcome of each test as soon as it is known."""

    def __init__(self, part: Part) -> None:
        self._part = part

    def pytest_runtest_setup(self) -> None:
        """Skip the tests for which there is no time."""
        if self._part.left < _MIN_SECONDS:
            pytest.skip("no time is left")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Write the outcome of a test, or of its fixtures if they fail or skip it."""
        if report.when != "call" and report.passed:
            return
        figures: dict[str, Any] = {"outcome": report.outcome, "seconds": round(report.duration, 1)}
        if report.skipped:
            figures["why"] = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        elif report.failed:
            figures["why"] = str(report.longrepr).splitlines()[-1]
        details = {"traceback": {"text": str(report.longrepr)}} if report.failed else {}
        self._part.add(report.nodeid.rpartition("/")[2], figures | details)


def main() -> None:
    """Run the tests, then compare samples. The status says whether all was right."""
    part = Part.from_command_line("correct")
    os.environ["LATENTD_TEST_DEVICE"] = part.device.type
    os.chdir(ROOT)
    status = pytest.main(["-m", "gpu", "tests/gpu", "-p", "no:cacheprovider"], plugins=[Recorder(part)])
    count = 100 if part.smallest else _SAMPLES
    found = part.measure(
        f"{count} samples in random mixes", lambda: mixes.compare(part.device, count), 5 if part.smallest else 40
    )
    right = found and not any(found[name] for name in ("differing", "failed", "differing after a restart"))
    sys.exit(not right or int(status))


if __name__ == "__main__":
    main()
