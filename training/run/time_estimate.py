"""Says early how long a run will take."""

import logging

from latentd.training.run.callback import ActiveRun, Callback
from latentd.training.run.progress import in_words

logger = logging.getLogger(__name__)

_MIN_STEPS, _MIN_SECONDS = 3, 10.0
"""What is timed at least."""
_LONG = 120.0
"""Seconds. The rest of shorter runs is not announced."""


class TimeEstimate(Callback):
    """Logs once how long the rest of the run will take, from the time of some steps and of what was done between them.

    The first step is not timed, because it is slower than the others: caches are filled, kernels are loaded.
    """

    def __init__(self) -> None:
        self._from: tuple[int, float] | None = None
        self._is_done = False

    def on_step(self, run: ActiveRun) -> None:
        if self._is_done:
            return
        if self._from is None:
            self._from = run.step, run.seconds
        steps, seconds = run.step - self._from[0], run.seconds - self._from[1]
        if steps < _MIN_STEPS or seconds < _MIN_SECONDS:
            return
        self._is_done = True
        left = (run.steps - run.step) * seconds / steps
        if left >= _LONG:
            logger.info(
                "about %s for the other %s steps (%.2g s each); Ctrl-C keeps what was learned, and the same command "
                "continues",
                in_words(left),
                f"{run.steps - run.step:,}",
                seconds / steps,
            )
