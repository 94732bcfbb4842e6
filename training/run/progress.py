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
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Column
from rich.text import Text

from latentd.training.data.source import TaskProgress

logger = logging.getLogger(__name__)

_SECONDS_BETWEEN_LINES = 10.0
_SECONDS_BETWEEN_UPDATES = 0.1
_WIDE, _MEDIUM = 110, 75
"""Columns of a terminal from which the bar and the elapsed time are shown, and from which the rate is."""
_BAR_WIDTH = 20


class Display:
    """Shows tasks one after another, with rate, time left and a note. A context manager."""

    def __init__(self, hidden: bool) -> None:
        """`hidden`: show nothing."""
        console = Console(stderr=True, quiet=hidden)
        self._lines = not console.is_terminal
        self._bars = Progress(*_columns(console.width), console=console, disable=self._lines)
        self._tasks: dict[str, _Task] = {}

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if error is None:
            for task in self._tasks.values():
                if not task.has_total:
                    self._bars.update(task.bar, completed=task.done, total=task.done)
        self._bars.stop()

    def update(self, progress: TaskProgress) -> None:
        """Show how far a task is. A task whose first unit takes long should call this with 0 when it begins.

        A task with an unknown total ends when it is given one, or with the display.
        """
        task, done, total, unit = progress.task, progress.done, progress.total, progress.unit
        if task not in self._tasks:
            bar = self._bars.add_task(task, total=total, note="", rate="")
            self._tasks[task] = _Task(bar, done, is_minor=total is None)
            if self._lines and not done:
                logger.info("%s", task)
        shown = self._tasks[task]
        shown.done, shown.has_total = done, total is not None
        now = time.monotonic()
        finished = done == total
        pause = _SECONDS_BETWEEN_LINES if self._lines else _SECONDS_BETWEEN_UPDATES
        ends = finished and not (self._lines and shown.is_minor)
        if now - shown.last < pause and not ends:
            return
        shown.last = now
        rate = (done - shown.first) / max(now - shown.started, 1e-9)
        if self._lines:
            shown.is_minor = False
            of_total = "" if total is None else f" of {total}"
            left = f", {in_words((total - done) / rate)} left" if total is not None and rate and not finished else ""
            logger.info("%s: %d%s%s, %.1f %s/s %s", task, done, of_total, left, rate, unit, progress.note())
        else:
            self._bars.update(shown.bar, completed=done, total=total, note=progress.note(), rate=f"{rate:.1f} {unit}/s")


def in_words(seconds: float) -> str:
    """Return a duration in the units that a person would use: `54 s`, `9 min`, `2 h 39 min`, `3 d 4 h`."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    if minutes < 90:
        return f"{minutes} min"
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes // (24 * 60)} d {minutes // 60 % 24} h"


class _Task:
    def __init__(self, bar: TaskID, first: int, is_minor: bool) -> None:
        """`is_minor`: in a log, its end needs no line unless it had one before."""
        self.bar = bar
        self.first = self.done = first
        self.has_total = False
        self.is_minor = is_minor
        self.started = self.last = time.monotonic()


class _Description(ProgressColumn):
    """The task's name. It is the only column that is cut where the terminal is narrow."""

    def render(self, task: Task) -> Text:
        return Text(task.description, no_wrap=True, overflow="ellipsis")


def _columns(width: int) -> list[ProgressColumn]:
    """Return what is shown of a task on a terminal of this width."""

    def whole() -> Column:
        return Column(no_wrap=True)

    wide, medium = width >= _WIDE, width >= _MEDIUM
    return [
        _Description(),
        *([BarColumn(_BAR_WIDTH, table_column=whole())] if wide else []),
        MofNCompleteColumn(table_column=whole()),
        *([TextColumn("{task.fields[rate]}")] if medium else []),
        *([TimeElapsedColumn(table_column=whole())] if wide else []),
        TimeRemainingColumn(table_column=whole()),
        TextColumn("{task.fields[note]}"),
    ]
