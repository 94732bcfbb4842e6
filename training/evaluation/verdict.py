"""A verdict in words on a generator of images, from its metrics and those of real images."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Kind = Literal["memorizes", "too early", "lost modes", "good"]

_MEMORIZES = 0.6
"""Below this fraction of real images' distance to the nearest training image."""
_TOO_EARLY = 0.5
"""Below this fraction of real images' density."""
_LOST_MODES = 0.65
"""Below this fraction of real images' recall."""


@dataclass(frozen=True)
class Verdict:
    """What the metrics mean."""

    kind: Kind
    words: str
    """A sentence with the metrics that decided."""


def judge(metrics: Mapping[str, float], baseline: Mapping[str, float]) -> Verdict | None:
    """Return the verdict on a generator; None if its metrics are not those of images.

    `baseline`: the same metrics of real images. The thresholds are measured by `python -m benchmarks.verdicts`.
    """
    try:
        nearest, density, recall = (
            metrics[name] / baseline[name] for name in ("nearest_training", "density", "recall")
        )
    except (KeyError, ZeroDivisionError):
        return None
    if not all(map(math.isfinite, (nearest, density, recall))):
        return None
    if nearest < _MEMORIZES:
        return Verdict(
            "memorizes",
            f"The samples are nearly copies: their distance to the nearest training image is {nearest:.0%} of real "
            "images'. Add images, turn on augmentation, or take an earlier checkpoint.",
        )
    if density < _TOO_EARLY:
        return Verdict(
            "too early",
            f"The samples do not look like the data yet: their density among real images is {density:.0%} of real "
            "images'. Train longer.",
        )
    if recall < _LOST_MODES:
        return Verdict(
            "lost modes",
            f"The samples look like the data but show only a part of it: their recall is {recall:.0%} of real images'. "
            "Lower the learning rates, or add regularization or images.",
        )
    return Verdict(
        "good",
        f"The samples look like the data (density {density:.0%} of real images'), show its variety (recall "
        f"{recall:.0%}), and are no copies (distance to the nearest training image {nearest:.0%}).",
    )
