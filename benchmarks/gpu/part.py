"""One part of a run, in its own process: its options, its time, and where its results go."""

import argparse
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import torch

from benchmarks.gpu.results import Results
from latentd.models.hardware import choose_device

_ERROR_CHARACTERS = 4000


@dataclass(frozen=True)
class Part:
    """A part and what it may use."""

    name: str
    device: torch.device
    smallest: bool
    """Whether this is only a test of the program, and every measurement has its smallest form."""
    results: Results
    deadline: float
    """time.monotonic() at which the part is ended."""
    failures: list[str] = field(default_factory=list)
    """The measurements that raised an exception."""

    @classmethod
    def from_command_line(cls, name: str) -> "Part":
        """Read the options that `benchmarks.gpu` passes to its parts."""
        options = argparse.ArgumentParser()
        options.add_argument("--seconds", type=float, required=True)
        options.add_argument("--device", required=True)
        options.add_argument("--out", type=Path, required=True)
        options.add_argument("--smallest", action="store_true")
        found = options.parse_args()
        results = Results(found.out)
        return cls(name, choose_device(found.device), found.smallest, results, time.monotonic() + found.seconds)

    @property
    def left(self) -> float:
        """Seconds until the part is ended."""
        return self.deadline - time.monotonic()

    def add(self, what: str, figures: dict[str, Any]) -> None:
        """Write one result."""
        self.results.add(self.name, what, figures)

    def measure(self, what: str, function: Callable[[], dict[str, Any]], seconds: float) -> dict[str, Any]:
        """Call `function`, which takes about `seconds`. Write the figures that it returns, and return them.

        If there is less time left, or if it raises an exception, this is written, and {} is returned.
        """
        if self.left < seconds:
            self.add(what, {"left out": f"it takes about {seconds:.0f} s, and {max(self.left, 0):.0f} were left"})
            return {}
        started = time.monotonic()
        figures: dict[str, Any] = {}
        with self.reporting(what):
            figures = function()
            self.add(what, figures | {"seconds": round(time.monotonic() - started, 1)})
        return figures

    @contextmanager
    def reporting(self, what: str) -> Iterator[None]:
        """Write an exception in the block as a result. One measurement that fails must not end the others."""
        try:
            yield
        except Exception as problem:  # noqa: BLE001  # written, and `finish` makes it the status of the process
            self.failures.append(what)
            text = traceback.format_exc()[-_ERROR_CHARACTERS:]
            self.add(what, {"failed": f"{type(problem).__name__}: {problem}", "traceback": {"text": text}})

    def finish(self) -> NoReturn:
        """End the process. Its status is 1 if a measurement failed."""
        sys.exit(bool(self.failures))

    def synchronize(self) -> None:
        """Wait until the device has done its work."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
