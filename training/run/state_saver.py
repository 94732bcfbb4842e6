"""Saves the state from which a run resumes."""

import time

from latentd.training.run.callback import ActiveRun, Callback
from latentd.training.run.state import StateDirectory


class StateSaver(Callback):
    """Saves the state every `seconds`, on a thread, and at the end of the run."""

    def __init__(self, states: StateDirectory, seconds: float) -> None:
        self._states = states
        self._seconds = seconds
        self._saved_at = time.monotonic()

    def on_step(self, run: ActiveRun) -> None:
        if time.monotonic() - self._saved_at < self._seconds or self._states.is_saving:
            return
        self._saved_at = time.monotonic()
        self._states.start_saving(run.algorithm, run.step, run.seconds)

    def on_end(self, run: ActiveRun) -> None:
        if run.step:
            self._states.save(run.algorithm, run.step, run.seconds)

    def on_error(self, run: ActiveRun, error: BaseException) -> None:
        self._states.wait()
