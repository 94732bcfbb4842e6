"""Random directions for tests."""

from pathlib import Path
from typing import Any

import numpy as np

from latentd.models.checkpoint import Checkpoint
from latentd.models.directions import DirectionCard, Directions, DirectionsCard, require_direction_space

NAMES = ("sleeves", "brightness")


def directions_of(checkpoint: Checkpoint, seed: int = 0, **changes: Any) -> Directions:
    """Return directions for `checkpoint`: a unit vector for each name, drawn from `seed`."""
    space, dim = require_direction_space(checkpoint.card.spec)
    vectors = np.random.RandomState(seed).standard_normal((len(NAMES), dim))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    cards = tuple(
        DirectionCard(name=name, method="drawn", about="By chance.", score=0.5, scored="nothing", range=3.0)
        for name in NAMES
    )
    facts: dict[str, Any] = {
        "of": checkpoint.version,
        "space": space,
        "dim": dim,
        "directions": cards,
        "samples": 1,
        "seed": seed,
    }
    card = DirectionsCard(**facts | changes)
    return Directions(card, dict(zip(NAMES, vectors.astype(np.float32), strict=True)))


def write_directions(path: Path, seed: int = 0, **changes: Any) -> Directions:
    """Write random directions beside the checkpoint at `path`."""
    found = directions_of(Checkpoint.read(path), seed, **changes)
    found.write(path)
    return found
