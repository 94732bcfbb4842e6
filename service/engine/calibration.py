"""Which sizes of forward pass give the same bits, found by trying them.

A size is kept where each of its rows, at random positions and among other latents or zeros, equals bit for bit the row
that a pass of REFERENCE_BATCH_SIZE gives. Kept sizes are timed, so that a batch can be given the size that serves it
fastest.
"""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, Self

import numpy as np

from latentd.models.latents import seeds_to_latents
from latentd.models.outputs.base import Samples
from latentd.models.sampling import REFERENCE_BATCH_SIZE, StageInput
from latentd.models.spec import GeneratorSpec

logger = logging.getLogger("latentd.engine")

Mode = Literal["bitwise", "off"]
Run = Callable[[StageInput, int], tuple[Samples, float]]
"""Computes rows in passes of a given size; gives the samples and the seconds of the fastest pass."""

_CANDIDATES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)
_PROBES = 2 * REFERENCE_BATCH_SIZE
_TURNS = 2
_WORTH = 0.85
"""A larger size is worth its longer pass where a sample takes at most this share of the time."""
_PATIENCE = 2
"""Larger sizes are tried until so many in a row were not worth it."""


@dataclass(frozen=True)
class Calibration:
    """The sizes that a generator runs in, in rising order, with the seconds that a pass of each takes."""

    mode: Mode
    seconds: dict[int, float]

    def __post_init__(self) -> None:
        _ = self._first_pass  # computed now, not when a request waits

    @property
    def sizes(self) -> list[int]:
        """In rising order."""
        return list(self.seconds)

    @property
    def largest(self) -> int:
        """The most samples of one pass."""
        return max(self.seconds)

    def choose(self, waiting: int) -> int:
        """The size of the next pass, where `waiting` rows (≥ 1) are to be done soonest by it and those that follow."""
        return self._first_pass[min(waiting, 2 * self.largest)]

    @cached_property
    def _first_pass(self) -> list[int]:
        """For each number of rows, the first of the passes that do them in the least time together."""
        first, least = [0], [0.0]
        for waiting in range(1, 2 * self.largest + 1):
            cost, size = min((self.seconds[size] + least[max(0, waiting - size)], -size) for size in self.seconds)
            first.append(-size)
            least.append(cost)
        return first

    def up_to(self, size: int) -> Self | None:
        """The same without the sizes above `size`; None where nothing is left."""
        seconds = {each: cost for each, cost in self.seconds.items() if each <= size}
        return type(self)(self.mode, seconds) if seconds else None


def calibrate(probes: StageInput, run: Run, deterministic: bool, out_of_memory: type[Exception]) -> Calibration:
    """Try sizes by `run` with `probes` (of `draw_probes`); `out_of_memory` is how it fails for memory.

    Without `deterministic` every size is kept and no promise made. Raises what `run` raises at REFERENCE_BATCH_SIZE.
    """
    reference = np.concatenate([run(part, REFERENCE_BATCH_SIZE)[0] for part in _chunks(probes, REFERENCE_BATCH_SIZE)])
    shuffle = np.random.RandomState(0)
    seconds: dict[int, float] = {}
    best, disappointments = float("inf"), 0
    for size in _CANDIDATES:
        try:
            same, cost = _try_size(run, probes, reference, size, shuffle)
        except out_of_memory:
            logger.info("a forward pass of %d samples does not fit the device's memory", size)
            break
        if not same and deterministic:
            continue
        worth = cost / size < best * _WORTH
        disappointments = 0 if worth else disappointments + 1
        best = min(best, cost / size)
        if size <= REFERENCE_BATCH_SIZE or worth:
            seconds[size] = cost
        if size >= REFERENCE_BATCH_SIZE and disappointments >= _PATIENCE:
            break
    if deterministic and REFERENCE_BATCH_SIZE not in seconds:
        logger.warning(
            "forward passes of %d samples do not repeat to the bit; no promise is made", REFERENCE_BATCH_SIZE
        )
        return calibrate(probes, run, deterministic=False, out_of_memory=out_of_memory)
    return Calibration("bitwise" if deterministic else "off", _never_falling(seconds))


def draw_probes(spec: GeneratorSpec) -> StageInput:
    """Latents to calibrate a generator's first stage with; what it makes of them is for the next one."""
    latents, labels = seeds_to_latents(spec, range(_PROBES))
    return StageInput.from_labels(spec, latents, labels)


def _chunks(rows: StageInput, size: int) -> Iterator[StageInput]:
    return (rows[start : start + size] for start in range(0, len(rows), size))


def _try_size(
    run: Run, probes: StageInput, reference: Samples, size: int, shuffle: np.random.RandomState
) -> tuple[bool, float]:
    """Whether `size` gives the reference's bits for every probe, and the seconds of its fastest pass."""
    same, fastest = True, float("inf")
    for turn in range(_TURNS):
        order = shuffle.permutation(np.resize(np.arange(_PROBES), max(size, _PROBES)))
        count = max(size, REFERENCE_BATCH_SIZE) - turn % 2  # every other turn, the last pass ends in padding
        for start in range(0, len(order), count):
            picked = order[start : start + count]
            samples, seconds = run(probes[picked], size)
            fastest = min(fastest, seconds)
            same = same and samples.tobytes() == reference[picked].tobytes()
    return same, fastest


def _never_falling(seconds: dict[int, float]) -> dict[int, float]:
    """A smaller pass cannot take longer than a larger one: where it seems to, something came between."""
    smoothed: dict[int, float] = {}
    least = float("inf")
    for size in sorted(seconds, reverse=True):
        least = min(least, seconds[size])
        smoothed[size] = least
    return dict(sorted(smoothed.items()))
