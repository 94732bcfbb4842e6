"""Calls the callbacks of a run. It decides when there is time for them, and what happens if one fails."""

import logging
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

from latentd.models.errors import LatentdError
from latentd.training.algorithms.base import Losses
from latentd.training.run.callback import ActiveRun, Callback, PeriodicCallback
from latentd.training.run.time_budget import TimeBudget

logger = logging.getLogger(__name__)

Clock = Callable[[], float]

_FAILURES_TIME = 1 / 60
"""Fraction of the run's time that calls which fail may take: a service that does not answer must not stop the run."""
_SHORT = 1.0
"""Seconds. Calls that fail sooner are repeated as if nothing had happened."""


class CallbackHandler:
    """Calls all callbacks, in their order."""

    def __init__(self, callbacks: Sequence[Callback], run: ActiveRun, clock: Clock = time.monotonic) -> None:
        """`run.seconds`: training time before the run was resumed. `clock`: returns seconds."""
        self._callbacks = callbacks
        self._run = run
        self._clock = clock
        self._seconds_before = run.seconds
        self._began = clock()
        self._started: list[_Caller] = []
        self._fatal: list[Exception] = []
        """The errors that end the run."""
        run.call_all = self._call_all

    def start(self) -> None:
        """Start all callbacks. Raises the LatentdError of one that must not be left out."""
        for callback in self._callbacks:
            caller = _Caller(callback, self._run, self._clock, self._fatal)
            if caller.start():
                self._started.append(caller)
        self._began = self._clock()  # a service that is slow to answer is no training time

    def step(self, step: int, losses: Losses) -> None:
        """Call all after a step."""
        self._run.losses = losses
        self._set_time(step)
        for caller in self._started:
            caller.step()

    def end(self, step: int) -> None:
        """Call all after the last step."""
        self._run.has_ended = True
        self._set_time(step)
        for caller in self._started:
            caller.wake()  # first of all, so that each takes in what the others measure at the end
        for caller in self._started:
            caller.end()

    def fail(self, error: BaseException) -> None:
        """Call all after an error that ended the run."""
        self._set_time(self._run.step)
        for caller in self._started:
            caller.wake()
        for caller in self._started:
            caller.fail(error)

    def _call_all(self, method: str, *args: object) -> None:
        for caller in self._started:
            caller.call(method, *args)

    def _set_time(self, step: int) -> None:
        self._run.step = step
        self._run.seconds = self._seconds_before + self._clock() - self._began


class _Caller:
    """Calls one callback."""

    def __init__(self, callback: Callback, run: ActiveRun, clock: Clock, fatal: list[Exception]) -> None:
        """`fatal`: the errors that end the run. A callback raises them, too, if it told another one that failed."""
        self._callback = callback
        self._run = run
        self._clock = clock
        self._fatal = fatal
        self._periodic = _Periodic(callback, clock) if isinstance(callback, PeriodicCallback) else None
        self._has_failed = False
        self._rests_until = 0.0

    def start(self) -> bool:
        """Return whether the callback started, and is to be called from now on."""
        try:
            self._callback.on_start(self._run)
        except LatentdError:
            raise
        except Exception as problem:
            if self._callback.required:
                raise
            logger.warning("the run goes on without %s: %s", _name(self._callback), _describe(problem))
            return False
        return True

    def step(self) -> None:
        self.call("on_step")
        if self._periodic and self._periodic.has_turn(self._run):
            with self._periodic.budget.spend():
                self.call("act")

    def wake(self) -> None:
        """Call it from now on, although it failed lately."""
        self._rests_until = 0.0

    def end(self) -> None:
        if self._periodic and self._periodic.needs_last_turn(self._run):
            self.call("act")
        self.wake()
        self.call("on_end")

    def fail(self, error: BaseException) -> None:
        self.wake()
        self.call("on_error", error)

    def call(self, method: str, *args: object) -> None:
        """Call a method. If it fails, log this the first time, unless the callback is required."""
        if self._rests_until and self._clock() < self._rests_until:
            return
        started = self._clock()
        try:
            getattr(self._callback, method)(self._run, *args)
        except Exception as problem:
            if self._callback.required:
                self._fatal.append(problem)
            if problem in self._fatal:
                raise
            self._note_failure(problem, self._clock() - started)

    def _note_failure(self, problem: Exception, seconds: float) -> None:
        if seconds > _SHORT:
            self._rests_until = self._clock() + seconds / _FAILURES_TIME
        if not self._has_failed:
            logger.warning(
                "not all records of this run can be written: %s (%s, step %d; said once)",
                _describe(problem),
                _name(self._callback),
                self._run.step,
            )
        self._has_failed = True


class _Periodic:
    """When a periodic callback acts."""

    def __init__(self, callback: PeriodicCallback, clock: Clock) -> None:
        self.budget = TimeBudget(callback.time_fraction, clock)
        self._callback = callback
        self._is_due = False
        self._last_turn = 0

    def has_turn(self, run: ActiveRun) -> bool:
        """Whether it acts after this step. The end of the run has a turn of its own."""
        self._is_due = self._is_due or self._callback.is_due(run)
        if not self._is_due or run.step == run.steps or not self.budget.is_open:
            return False
        self._is_due = False
        self._last_turn = run.step
        return True

    def needs_last_turn(self, run: ActiveRun) -> bool:
        """Whether it acts at the end of the run: not twice for one step, and not before the first."""
        return run.step > self._last_turn


def _name(callback: Callback) -> str:
    return type(callback).__name__


def _describe(problem: Exception) -> str:
    """Return an error in one line. Of an error that may be in the code it says the kind and the place."""
    text = " ".join(str(problem).split())
    if isinstance(problem, OSError | LatentdError):
        return text
    place = traceback.extract_tb(problem.__traceback__)[-1]
    return f"{type(problem).__name__}: {text} ({Path(place.filename).name}:{place.lineno})"
