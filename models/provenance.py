"""What names a sample: from it, the sample can be made again, to the same bytes."""

import json
from typing import Any

import orjson

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


def ascii_json(value: Any) -> str:
    """JSON of which every character may stand in a header and in a file's comment."""
    text = orjson.dumps(value).decode()
    return text if text.isascii() else json.dumps(value, separators=(",", ":"))
