"""The alarm: says from a run's vitals that it is collapsing, in which way, and what to try."""

from collections import deque
from dataclasses import dataclass
from statistics import median
from typing import Literal

from latentd.training.collapse_probe import ProbeReading

Kind = Literal["modes lost", "frozen generator", "discriminator won", "oscillation", "far from the data"]

_GRACE = 0.4
"""Share of a run's steps in which nothing is said: every generator begins with few modes."""
_MOST_GRACE = 3000
"""Steps."""
_LOOKS = 3
"""So many looks must agree."""
_FEW = 0.5
"""Diversity below which modes are lost."""
_FAR = 0.25
"""Distance from the data above which samples are of something else."""
_STILL = 0.01
_RESTLESS = 0.5
"""Movement between looks."""
_CERTAIN = 0.98

REMEDIES: dict[Kind, str] = {
    "modes lost": "show the discriminator several samples at once (packing=2, discriminator.config.minibatch_std=4), "
    "blur what it sees at first (noise.start=1.0), or restrain it (penalties.r1.weight=0.1)",
    "frozen generator": "raise generator_lr, or let its gradient stay (objective=hinge)",
    "discriminator won": "restrain it (discriminator.config.norm=spectral, penalties.r1.weight=1.0), lower "
    "discriminator_lr, and look for something in the data that gives real samples away",
    "far from the data": "raise generator_lr, or give it more steps if distance is falling",
    "oscillation": "lower both learning rates, set betas=[0.0, 0.9], or let the schedule decay",
}


@dataclass(frozen=True)
class Finding:
    """What the alarm says."""

    kind: Kind
    message: str


class CollapseDetector:
    """Hears the vitals of a run of `steps`, and speaks when a collapse begins or changes its kind.

    Of an algorithm without a discriminator it says nothing: what it says to try is for algorithms that have one.
    """

    def __init__(self, steps: int) -> None:
        self._grace = min(_GRACE * steps, _MOST_GRACE)
        self._last: deque[ProbeReading] = deque(maxlen=_LOOKS)
        self._said: Kind | None = None

    def observe(self, step: int, vitals: ProbeReading) -> Finding | None:
        """A finding where there is a new one."""
        if vitals.certainty is None:
            return None
        self._last.append(vitals)
        if step < self._grace or len(self._last) < _LOOKS:
            return None
        kind, before = self._kind(), self._said
        self._said = kind
        if kind is None or kind == before:
            return None
        return Finding(kind, f"{kind}: {self._evidence()}; try to {REMEDIES[kind]}")

    def _kind(self) -> Kind | None:
        few = median(each.diversity for each in self._last) < _FEW
        far = median(each.distance for each in self._last) > _FAR
        if not (few or far):
            return None
        if all(_certainty(each) > _CERTAIN for each in self._last):
            return "discriminator won"
        if all(each.movement < _STILL for each in self._last):
            return "frozen generator"
        if all(each.movement > _RESTLESS for each in self._last):
            return "oscillation"
        return "modes lost" if few else "far from the data"

    def _evidence(self) -> str:
        now = self._last[-1]
        return (
            f"samples reach {now.diversity:.0%} of the data's clusters and lie {now.distance:+.0%} farther from it "
            f"than real ones; the discriminator tells {_certainty(now):.0%} of pairs apart"
        )


def _certainty(vitals: ProbeReading) -> float:
    return 0.5 if vitals.certainty is None else vitals.certainty
