"""What names a sample or an answer, as it stands in files and headers, so that it can be made again."""

import base64
import hashlib

from latentd.models.interpolation import Vector
from latentd.models.provenance import Provenance, ascii_json, producer
from latentd.models.provenance import sample_provenance as name_of
from latentd.service.latent_batch import LatentBatch
from latentd.service.plans.query import SampleQuery

_LONGEST_HEADER = 2048
_LONGEST_SAMPLE_NAME = 16384
"""Of a sample that is named by its request, which stands in every sample of the answer."""


def request_header(plan: SampleQuery) -> str:
    """The request in ASCII JSON, or its sha256 where it is longer than two kilobytes."""
    text = ascii_json({"endpoint": plan.endpoint, "request": plan.request})
    return text if len(text) <= _LONGEST_HEADER else f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def answer_name(plan: SampleQuery) -> str:
    """Names a grid or an animation: the request that makes it."""
    return ascii_json(_maker(plan) | {"endpoint": plan.endpoint, "request": plan.request})


def sample_name(points: LatentBatch, index: int) -> str:
    """Names one sample: by its seed or latent and its class; what lies in w has no name but its place in the answer."""
    plan = points.plan
    name = _maker(plan)
    seed, latent = points.seed(index), points.latent(index)
    if seed is None and latent is None:
        text = ascii_json({"endpoint": plan.endpoint, "request": plan.request, "index": index})
        if len(text) > _LONGEST_SAMPLE_NAME:
            return ascii_json(name | {"sha256": hashlib.sha256(text.encode()).hexdigest()})
        return text[:-1] + "," + ascii_json(name)[1:]
    place: Provenance = {"seed": seed} if latent is None else {"latent": _as_base64(latent)}
    name = name_of(name, place, points.label(index), plan.truncation)
    if plan.shift is not None:
        name |= plan.shift.facts
    if plan.scale != 1:
        name["scale"] = plan.scale
    return ascii_json(name)


def _maker(plan: SampleQuery) -> Provenance:
    return producer(plan.model.name, plan.model.version, plan.model.fingerprint_id)


def _as_base64(latent: Vector) -> str:
    return base64.b64encode(latent.astype("<f4").tobytes()).decode()
