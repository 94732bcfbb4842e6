"""The provenance of a sample: with it, the sample can be made again, with the same bytes."""

import base64
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson
from numpy.typing import NDArray

if TYPE_CHECKING:
    from latentd.models.spec import GeneratorSpec

Provenance = dict[str, Any]
"""`model`, `version`, `fingerprint`, and `seed` or `latent`; `label`, `truncation` and controls if they apply."""


def producer(model: str, version: str, fingerprint: str) -> Provenance:
    """Return the part that all samples of one model on one machine share. `fingerprint`: its id."""
    return {"model": model, "version": version, "fingerprint": fingerprint}


def sample_provenance(base: Provenance, origin: Provenance, condition: Provenance, truncation: float) -> Provenance:
    """Return the provenance of one sample.

    `base`: from `producer`. `origin`: the sample's `seed`, or the fields that its input kind gives. `condition`: from
    `condition_fields`. A truncation of 1 is left out.
    """
    provenance = base | origin | condition
    if truncation != 1.0:
        provenance["truncation"] = truncation
    return provenance


def condition_fields(spec: "GeneratorSpec", row: NDArray[np.float32] | None) -> Provenance:
    """Return a condition's row as its field: {"label": "cat"}; {} if `row` is None or the model has no condition."""
    field = spec.condition.field
    return {} if field is None or row is None else {field: spec.condition.describe_row(row)}


def encode_latent(latent: NDArray[np.float32]) -> str:
    """Return a latent as base64 of its little-endian float32 numbers."""
    return base64.b64encode(latent.astype("<f4").tobytes()).decode()


def ascii_json(value: Any) -> str:
    """Return `value` as JSON in ASCII, which fits into an HTTP header and into a file's comment."""
    text = orjson.dumps(value).decode()
    return text if text.isascii() else json.dumps(value, separators=(",", ":"))
