"""Logs the losses of a run."""

from statistics import fmean

from latentd.training.algorithms.base import Losses
from latentd.training.run.callback import ActiveRun, Callback

_TIMES = 200
"""How often in a run."""


class LossLogger(Callback):
    """Logs the mean losses of the steps since the last time."""

    def __init__(self) -> None:
        self._losses: list[Losses] = []

    def on_step(self, run: ActiveRun) -> None:
        self._losses.append(run.losses)
        if run.step % max(1, run.steps // _TIMES) == 0:
            self._log(run)

    def on_end(self, run: ActiveRun) -> None:
        self._log(run)

    def on_error(self, run: ActiveRun, error: BaseException) -> None:
        self._log(run)

    def _log(self, run: ActiveRun) -> None:
        if self._losses:
            run.log("losses", {name: fmean(each[name] for each in self._losses) for name in self._losses[0]})
            self._losses.clear()
