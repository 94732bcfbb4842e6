"""Detects mode collapse from a run's probe readings: says which kind it is, and what to try."""

import logging
from collections import deque
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from statistics import median
from typing import Literal

from latentd.training.run.callback import ActiveRun, Callback
from latentd.training.run.collapse_probe import ProbeReading

logger = logging.getLogger(__name__)

Kind = Literal["modes lost", "frozen generator", "discriminator won", "oscillation", "far from the data"]

_GRACE = 0.4
"""Fraction of a run's steps without alarms: every generator begins with few modes."""
_MAX_GRACE = 3000
"""The same in steps, at most."""
_READINGS = 3
"""Number of successive readings that must agree."""
_MIN_DIVERSITY = 0.5
_MAX_DISTANCE = 0.25
_MIN_MOVEMENT, _MAX_MOVEMENT = 0.01, 0.5
_MAX_AUC = 0.98
# benchmarks/collapse.py measures how well these thresholds tell runs apart


@dataclass(frozen=True)
class Alarm:
    """A collapse that began."""

    kind: Kind
    message: str


class CollapseDetector(Callback):
    """Raises an alarm when a collapse begins or changes its kind. Raises none without a discriminator or hints."""

    def __init__(self, steps: int, hints: Mapping[str, str]) -> None:
        """`steps`: planned steps of the run. `hints`: kind of collapse → what to try."""
        self._hints = hints
        self._grace = min(_GRACE * steps, _MAX_GRACE)
        self._readings: deque[tuple[ProbeReading, float]] = deque(maxlen=_READINGS)
        self._current: Kind | None = None

    def on_reading(self, run: ActiveRun, reading: ProbeReading) -> None:
        if alarm := self.observe(run.step, reading):
            logger.warning("step %d: %s", run.step, alarm.message)
            run.log("alarm", asdict(alarm))

    def observe(self, step: int, reading: ProbeReading) -> Alarm | None:
        """Take in the reading of `step`. Return an alarm if it is a new one."""
        if reading.discriminator_auc is None or not self._hints:
            return None
        self._readings.append((reading, reading.discriminator_auc))
        if step < self._grace or len(self._readings) < _READINGS:
            return None
        kind, before = self._kind(), self._current
        self._current = kind
        if kind is None or kind == before:
            return None
        hint = f"; try to {self._hints[kind]}" if kind in self._hints else ""
        return Alarm(kind, f"{kind}: {self._symptoms()}{hint}")

    def _kind(self) -> Kind | None:
        readings = [reading for reading, _ in self._readings]
        few = median(each.diversity for each in readings) < _MIN_DIVERSITY
        far = median(each.distance for each in readings) > _MAX_DISTANCE
        if not (few or far):
            return None
        if all(auc > _MAX_AUC for _, auc in self._readings):
            return "discriminator won"
        if all(each.movement < _MIN_MOVEMENT for each in readings):
            return "frozen generator"
        if all(each.movement > _MAX_MOVEMENT for each in readings):
            return "oscillation"
        return "modes lost" if few else "far from the data"

    def _symptoms(self) -> str:
        reading, auc = self._readings[-1]
        where = "farther from it" if reading.distance > 0 else "nearer to it"
        return (
            f"samples reach {reading.diversity:.0%} of the data's clusters and lie {abs(reading.distance):.0%} {where} "
            f"than real ones; the discriminator tells {auc:.0%} of pairs apart"
        )
