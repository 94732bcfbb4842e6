"""What names a sample: from it, the sample can be made again, to the same bytes."""

import base64
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

Provenance = dict[str, Any]
"""`model`, `version` and `fingerprint`; `seed` or `latent`; `label` and `truncation` where they say something."""


def producer(model: str, version: str, fingerprint: str) -> Provenance:
    """Who made it; `fingerprint` by its id."""
    return {"model": model, "version": version, "fingerprint": fingerprint}


def sample_provenance(
    maker: Provenance, place: Provenance, label: str | dict[str, float] | None, truncation: float
) -> Provenance:
    """`place` is a `seed` or a `latent`; `label` a class, or shares of several; truncation 1 goes without saying."""
    name = maker | place
    if label is not None:
        name["label"] = label
    if truncation != 1.0:
        name["truncation"] = truncation
    return name


def describe_label(names: Sequence[str], weights: NDArray[np.float32]) -> str | dict[str, float]:
    """Return the class of a row of class weights [classes]: its name, or the weight of each class that has one."""
    used = np.flatnonzero(weights).tolist()
    if len(used) == 1 and weights[used[0]] == 1.0:
        return names[used[0]]
    return {names[index]: float(str(weights[index])) for index in used}  # the fewest digits that round to the float32


def encode_latent(latent: NDArray[np.float32]) -> str:
    """Return a latent as base64 of its little-endian float32 numbers."""
    return base64.b64encode(latent.astype("<f4").tobytes()).decode()


def ascii_json(value: Any) -> str:
    """JSON of which every character may stand in a header and in a file's comment."""
    text = orjson.dumps(value).decode()
    return text if text.isascii() else json.dumps(value, separators=(",", ":"))
