"""What names a sample or an answer, as it stands in files and headers, so that it can be made again."""

import base64
import hashlib
import json
from typing import Any

import orjson

from models.travel import Vector
from service.plans.plan import Plan
from service.points import Points

_LONGEST_HEADER = 2048
_LONGEST_SAMPLE_NAME = 16384
"""Of a sample that is named by its request, which stands in every sample of the answer."""


def request_header(plan: Plan) -> str:
    """The request in ASCII JSON, or its sha256 where it is longer than two kilobytes."""
    text = _ascii({"endpoint": plan.endpoint, "request": plan.request})
    return text if len(text) <= _LONGEST_HEADER else f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def answer_name(plan: Plan) -> str:
    """Names a grid or an animation: the request that makes it."""
    return _ascii(_maker(plan) | {"endpoint": plan.endpoint, "request": plan.request})


def sample_name(points: Points, index: int) -> str:
    """Names one sample: by its seed or latent and its class; what lies in w has no name but its place in the answer."""
    plan = points.plan
    name = _maker(plan)
    seed, latent = points.seed(index), points.latent(index)
    if seed is None and latent is None:
        text = _ascii({"endpoint": plan.endpoint, "request": plan.request, "index": index})
        if len(text) > _LONGEST_SAMPLE_NAME:
            return _ascii(name | {"sha256": hashlib.sha256(text.encode()).hexdigest()})
        return text[:-1] + "," + _ascii(name)[1:]
    name |= {"seed": seed} if latent is None else {"latent": _as_base64(latent)}
    if (label := points.label(index)) is not None:
        name["label"] = label
    if plan.truncation != 1.0:
        name["truncation"] = plan.truncation
    if plan.shift is not None:
        name |= plan.shift.facts
    if plan.scale != 1:
        name["scale"] = plan.scale
    return _ascii(name)


def _maker(plan: Plan) -> dict[str, Any]:
    model = plan.model
    return {"model": model.name, "version": model.version, "fingerprint": model.fingerprint_id}


def _as_base64(latent: Vector) -> str:
    return base64.b64encode(latent.astype("<f4").tobytes()).decode()


def _ascii(value: Any) -> str:
    """JSON of which every character may stand in a header and in a file's comment."""
    text = orjson.dumps(value).decode()
    return text if text.isascii() else json.dumps(value, separators=(",", ":"))
