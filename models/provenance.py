"""The provenance of a sample: with it, the sample can be made again, with the same bytes."""

import base64
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

Provenance = dict[str, Any]
"""`model`, `version`, `fingerprint`, and `seed` or `latent`; `label` and `truncation` if they apply."""


def producer(model: str, version: str, fingerprint: str) -> Provenance:
    """Return the part that all samples of one model on one machine share. `fingerprint`: its id."""
    return {"model": model, "version": version, "fingerprint": fingerprint}


def sample_provenance(
    base: Provenance, origin: Provenance, label: str | dict[str, float] | None, truncation: float
) -> Provenance:
    """Return the provenance of one sample.

    `base`: from `producer`. `origin`: the sample's `seed` or `latent`. `label`: a class, or the weights of several by
    name. A truncation of 1 is left out.
    """
    provenance = base | origin
    if label is not None:
        provenance["label"] = label
    if truncation != 1.0:
        provenance["truncation"] = truncation
    return provenance


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
    """Return `value` as JSON in ASCII, which fits into an HTTP header and into a file's comment."""
    text = orjson.dumps(value).decode()
    return text if text.isascii() else json.dumps(value, separators=(",", ":"))
