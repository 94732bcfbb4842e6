"""Find the sizes of forward passes that give the same bits, by trying them.

A size is kept if each row, at random positions and beside other latents or padding, has the same bits as in a pass of
REFERENCE_BATCH_SIZE. Each size is timed, so that the engine can choose the fastest one for a batch.
"""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, Self

import numpy as np

from latentd.models.families import controls_of
from latentd.models.latents import seeds_to_rows
from latentd.models.outputs.base import Samples
from latentd.models.sampling import REFERENCE_BATCH_SIZE
from latentd.models.spec import GeneratorSpec
from latentd.models.stage_input import StageInput

logger = logging.getLogger("latentd.engine")

Mode = Literal["bitwise", "off"]
"""`bitwise`: a sample's bits do not depend on its batch. `off`: no promise."""
RunPasses = Callable[[StageInput, int], tuple[Samples, float]]
"""(rows, size) → samples computed in passes of that size, and the seconds of the fastest pass."""

_CANDIDATES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)
_NUM_ROWS = 2 * REFERENCE_BATCH_SIZE
_ROUNDS = 2
_MAX_TIME_RATIO = 0.85
"""A larger size is worth its longer pass if its time per sample is below this fraction of the best one so far."""
_MAX_TRIES_WITHOUT_SPEEDUP = 2
"""Larger sizes are tried until this many in succession were not worth it."""


@dataclass(frozen=True)
class Calibration:
    """The sizes that a stage runs in, in ascending order, with the seconds that a pass of each takes."""

    mode: Mode
    seconds: dict[int, float]

    def __post_init__(self) -> None:
        _ = self._first_pass  # computed at once, so that no request waits for it

    @property
    def sizes(self) -> list[int]:
        """All sizes, in ascending order."""
        return list(self.seconds)

    @property
    def largest(self) -> int:
        """The largest size."""
        return max(self.seconds)

    def choose_size(self, waiting: int) -> int:
        """Return the size of the next pass with which `waiting` rows (1 or more) are done soonest."""
        return self._first_pass[min(waiting, 2 * self.largest)]

    @cached_property
    def _first_pass(self) -> list[int]:
        """For each number of rows: the size of the first pass, if passes are chosen for the least total time."""
        first, least = [0], [0.0]
        for waiting in range(1, 2 * self.largest + 1):
            cost, size = min((self.seconds[size] + least[max(0, waiting - size)], -size) for size in self.seconds)
            first.append(-size)
            least.append(cost)
        return first

    def limited_to(self, size: int) -> Self | None:
        """Return this calibration without the sizes above `size`; None if no size remains."""
        seconds = {each: cost for each, cost in self.seconds.items() if each <= size}
        return type(self)(self.mode, seconds) if seconds else None


def calibrate(rows: StageInput, run: RunPasses, deterministic: bool, out_of_memory: type[Exception]) -> Calibration:
    """Try sizes by running `rows`, which `draw_calibration_rows` makes.

    `run` raises `out_of_memory` for a size that is too large. If not `deterministic`, every size is kept and the mode
    is `off`. The mode is also `off` if passes of REFERENCE_BATCH_SIZE do not repeat to the bit. Exceptions of `run` at
    REFERENCE_BATCH_SIZE are raised.
    """
    reference = np.concatenate([run(part, REFERENCE_BATCH_SIZE)[0] for part in _chunks(rows, REFERENCE_BATCH_SIZE)])
    random = np.random.RandomState(0)
    seconds: dict[int, float] = {}
    best, tries_without_speedup = float("inf"), 0
    for size in _CANDIDATES:
        try:
            equal, cost = _try_size(run, rows, reference, size, random)
        except out_of_memory:
            logger.info("a forward pass of %d samples does not fit the device's memory", size)
            break
        if not equal and deterministic:
            continue
        faster = cost / size < best * _MAX_TIME_RATIO
        tries_without_speedup = 0 if faster else tries_without_speedup + 1
        best = min(best, cost / size)
        if size <= REFERENCE_BATCH_SIZE or faster:
            seconds[size] = cost
        if size >= REFERENCE_BATCH_SIZE and tries_without_speedup >= _MAX_TRIES_WITHOUT_SPEEDUP:
            break
    if deterministic and REFERENCE_BATCH_SIZE not in seconds:
        logger.warning(
            "forward passes of %d samples do not repeat to the bit; samples are not promised to be reproducible",
            REFERENCE_BATCH_SIZE,
        )
        return calibrate(rows, run, deterministic=False, out_of_memory=out_of_memory)
    return Calibration("bitwise" if deterministic else "off", _monotone(seconds))


def draw_calibration_rows(spec: GeneratorSpec) -> StageInput:
    """Return inputs, conditions and controls to calibrate a generator's first stage with."""
    rows = seeds_to_rows(spec, range(_NUM_ROWS))
    controls = controls_of(spec)
    if not controls:
        return rows
    ranges = [np.linspace(each.minimum, each.maximum, _NUM_ROWS, dtype=np.float32) for each in controls]
    return replace(rows, controls=np.stack(ranges, axis=1))


def _chunks(rows: StageInput, size: int) -> Iterator[StageInput]:
    return (rows[start : start + size] for start in range(0, len(rows), size))


def _try_size(
    run: RunPasses, rows: StageInput, reference: Samples, size: int, random: np.random.RandomState
) -> tuple[bool, float]:
    """Return whether passes of `size` give the reference's bits for every probe, and the seconds of the fastest."""
    equal, fastest = True, float("inf")
    for round_ in range(_ROUNDS):
        order = random.permutation(np.resize(np.arange(_NUM_ROWS), max(size, _NUM_ROWS)))
        count = max(size, REFERENCE_BATCH_SIZE) - round_ % 2  # in every other round, the last pass ends in padding
        for start in range(0, len(order), count):
            picked = order[start : start + count]
            samples, seconds = run(rows[picked], size)
            fastest = min(fastest, seconds)
            equal = equal and samples.tobytes() == reference[picked].tobytes()
    return equal, fastest


def _monotone(seconds: dict[int, float]) -> dict[int, float]:
    """Lower the time of a pass to that of any larger one: a smaller pass seems slower only if it was interrupted."""
    smoothed: dict[int, float] = {}
    least = float("inf")
    for size in sorted(seconds, reverse=True):
        least = min(least, seconds[size])
        smoothed[size] = least
    return dict(sorted(smoothed.items()))
