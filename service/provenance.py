"""What names a sample or an answer, as it stands in files and headers, so that it can be made again."""

import hashlib

from latentd.models.provenance import Provenance, ascii_json, encode_latent, producer
from latentd.models.provenance import sample_provenance as name_of
from latentd.service.latent_batch import LatentBatch
from latentd.service.queries.query import SampleQuery

_LONGEST_HEADER = 2048
_LONGEST_SAMPLE_NAME = 16384
"""Of a sample that is named by its request, which stands in every sample of the answer."""


def request_header(query: SampleQuery) -> str:
    """The request in ASCII JSON, or its sha256 where it is longer than two kilobytes."""
    text = ascii_json({"endpoint": query.endpoint, "request": query.request})
    return text if len(text) <= _LONGEST_HEADER else f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def answer_name(query: SampleQuery) -> str:
    """Names a grid or an animation: the request that makes it."""
    return ascii_json(_maker(query) | {"endpoint": query.endpoint, "request": query.request})


def sample_name(batch: LatentBatch, index: int) -> str:
    """Names one sample: by its seed or latent and its class; what lies in w has no name but its place in the answer."""
    query = batch.query
    name = _maker(query)
    seed, latent = batch.seed(index), batch.latent(index)
    if seed is None and latent is None:
        text = ascii_json({"endpoint": query.endpoint, "request": query.request, "index": index})
        if len(text) > _LONGEST_SAMPLE_NAME:
            return ascii_json(name | {"sha256": hashlib.sha256(text.encode()).hexdigest()})
        return text[:-1] + "," + ascii_json(name)[1:]
    place: Provenance = {"seed": seed} if latent is None else {"latent": encode_latent(latent)}
    name = name_of(name, place, batch.label(index), query.truncation)
    if query.edit is not None:
        name |= query.edit.facts
    if query.scale != 1:
        name["scale"] = query.scale
    return ascii_json(name)


def _maker(query: SampleQuery) -> Provenance:
    return producer(query.model.name, query.model.version, query.model.fingerprint_id)
