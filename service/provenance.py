"""The provenance of a sample or an answer, from which it can be made again. It is embedded in files and headers."""

import hashlib
from typing import Any

from latentd.models.provenance import Provenance, ascii_json, encode_latent, producer
from latentd.models.provenance import sample_provenance as provenance_of
from latentd.service.latent_batch import LatentBatch
from latentd.service.queries.query import SampleQuery

_MAX_HEADER = 2048
_MAX_EMBEDDED = 16384
"""Characters of a request that is embedded in every sample of its answer; longer ones are embedded as their sha256."""


def request_header(query: SampleQuery) -> str:
    """Return the request as ASCII JSON, or its sha256 if that is longer than two kilobytes."""
    text = ascii_json(_request(query))
    return text if len(text) <= _MAX_HEADER else f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def answer_provenance(query: SampleQuery) -> str:
    """Return the provenance of a grid or an animation: the request that makes it."""
    return ascii_json(_producer(query) | _request(query))


def sample_provenance(batch: LatentBatch, index: int) -> str:
    """Return the provenance of one sample: its seed or latent, and its class.

    A sample that was made in w has neither. Its provenance is the request and its index in the answer.
    """
    query = batch.query
    seed, latent = batch.seed(index), batch.latent(index)
    if seed is None and latent is None:
        text = ascii_json(_request(query) | {"index": index})
        if len(text) > _MAX_EMBEDDED:
            return ascii_json(_producer(query) | {"sha256": hashlib.sha256(text.encode()).hexdigest()})
        return text[:-1] + "," + ascii_json(_producer(query))[1:]
    origin: Provenance = {"seed": seed} if latent is None else {"latent": encode_latent(latent)}
    provenance = provenance_of(_producer(query), origin, batch.label(index), query.truncation)
    if query.edit is not None:
        provenance |= query.edit.fields
    if query.scale != 1:
        provenance["scale"] = query.scale
    return ascii_json(provenance)


def _request(query: SampleQuery) -> dict[str, Any]:
    return {"endpoint": query.endpoint, "request": query.request}


def _producer(query: SampleQuery) -> Provenance:
    return producer(query.model.name, query.model.version, query.model.fingerprint_id)
