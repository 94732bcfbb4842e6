"""Curves for TensorBoard."""

import time
from collections.abc import Mapping
from typing import Any

from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.summary import scalar

from latentd.training.run.callback import ActiveRun, Callback

_FILES = "events.out.tfevents.*"


class TensorBoard(Callback):
    """Writes all floats that are logged as curves, into a file in the run's folder."""

    _events: EventsWriter

    def on_start(self, run: ActiveRun) -> None:
        if not run.steps_done:
            for file in run.folder.glob(_FILES):
                file.unlink()
        self._events = EventsWriter(
            str(run.folder / "events")
        )  # no SummaryWriter: its threads hang when a disk is full
        if run.steps_done:
            restart = SessionLog(status=SessionLog.START)  # TensorBoard drops later points of all curves
            self._events.write_event(Event(wall_time=time.time(), step=run.steps_done + 1, session_log=restart))

    def on_log(self, run: ActiveRun, kind: str, values: Mapping[str, Any]) -> None:
        for name, value in values.items():
            if isinstance(value, float):
                curve = scalar(f"{kind}/{name}".replace(" ", "_"), value)
                self._events.write_event(Event(wall_time=time.time(), step=run.step, summary=curve))
        self._events.flush()

    def on_end(self, run: ActiveRun) -> None:
        self._events.close()

    def on_error(self, run: ActiveRun, error: BaseException) -> None:
        self._events.close()
