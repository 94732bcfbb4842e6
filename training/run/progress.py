"""Progress of long work: a bar on a terminal, log lines elsewhere."""

import logging
import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from latentd.training.data.source import TaskProgress

logger = logging.getLogger(__name__)

_SECONDS_BETWEEN_LINES = 10.0
_SECONDS_BETWEEN_UPDATES = 0.1


class Display:
    """Shows tasks one after another, with rate, time left and a note. A context manager."""

    def __init__(self, hidden: bool) -> None:
        """`hidden`: show nothing."""
        console = Console(stderr=True, quiet=hidden)
        self._lines = not console.is_terminal
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=console,
            disable=self._lines,
        )
        self._tasks: dict[str, _Task] = {}

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._bars.stop()

    def update(self, progress: TaskProgress) -> None:
        """Show how far a task is. A task whose first unit takes long should call this with 0 when it begins."""
        task, done, total, unit = progress.task, progress.done, progress.total, progress.unit
        if task not in self._tasks:
            self._tasks[task] = _Task(self._bars.add_task(task, total=total, note="", rate=""), done)
            if self._lines and not done:
                logger.info("%s", task)
        shown = self._tasks[task]
        now = time.monotonic()
        finished = done == total
        pause = _SECONDS_BETWEEN_LINES if self._lines else _SECONDS_BETWEEN_UPDATES
        if now - shown.last < pause and not finished:
            return
        shown.last = now
        rate = (done - shown.first) / max(now - shown.started, 1e-9)
        if self._lines:
            of_total = "" if total is None else f" of {total}, {(total - done) / max(rate, 1e-9):.0f} s left"
            logger.info("%s: %d%s, %.1f %s/s %s", task, done, of_total, rate, unit, progress.note())
        else:
            self._bars.update(shown.bar, completed=done, total=total, note=progress.note(), rate=f"{rate:.1f} {unit}/s")


class _Task:
    def __init__(self, bar: TaskID, first: int) -> None:
        self.bar = bar
        self.first = first
        self.started = self.last = time.monotonic()
