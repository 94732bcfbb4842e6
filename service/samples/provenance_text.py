"""The provenance of samples and answers as text, for files and headers. They can be made again from it."""

import hashlib
from collections.abc import Sequence
from typing import Any

from latentd.models.provenance import Provenance, ascii_json, producer, sample_provenance
from latentd.service.queries.query import SampleQuery
from latentd.service.samples.latent_batch import LatentBatch

_MAX_REQUEST_HEADER = 768
_MAX_SEEDS_HEADER = 256
"""Characters. So the headers of every answer stay below 2 KB in all. Proxies have 4 KB for them."""
_MAX_EMBEDDED = 16384
"""Characters of a request that is embedded in every sample of its answer. The sha256 takes the place of longer ones."""


def request_header(query: SampleQuery) -> str:
    """Return the request as ASCII JSON. If it is too long, return its sha256 and the seeds that the server drew."""
    text = ascii_json(_request(query))
    if len(text) <= _MAX_REQUEST_HEADER:
        return text
    seeds = {name: value for name, value in query.server_choices.items() if isinstance(value, int)}
    chosen = "".join(f";{name}={seed}" for name, seed in seeds.items())
    return f"sha256:{_sha256(text)}{chosen}"


def seeds_header(seeds: Sequence[int]) -> str:
    """Return `seeds` with commas between them.

    If this is too long for a header, runs of seeds become `first-last`. If that is too long as well, return the sha256
    of the list.
    """
    listed = ",".join(map(str, seeds))
    if len(listed) <= _MAX_SEEDS_HEADER:
        return listed
    in_runs = ",".join(f"{first}-{last}" if last > first else str(first) for first, last in _runs(seeds))
    return in_runs if len(in_runs) <= _MAX_SEEDS_HEADER else f"sha256:{_sha256(listed)}"


def _runs(seeds: Sequence[int]) -> list[tuple[int, int]]:
    """Return the first and the last seed of each run of seeds that count up by one."""
    runs: list[tuple[int, int]] = []
    for seed in seeds:
        if runs and seed == runs[-1][1] + 1:
            runs[-1] = runs[-1][0], seed
        else:
            runs.append((seed, seed))
    return runs


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def answer_provenance_text(query: SampleQuery) -> str:
    """Return the provenance of a grid or an animation: the model, and the request that makes it."""
    return ascii_json(_producer(query) | _request(query))


def sample_provenance_text(batch: LatentBatch, index: int) -> str:
    """Return the provenance of one sample: the model, its input (by seed, if it has one), and its condition.

    A sample that was made in w has neither input nor condition. Its provenance is the request, and the sample's index.
    """
    query = batch.query
    origin = batch.origin(index)
    if origin is None:
        text = ascii_json(_request(query) | {"index": index})
        if len(text) > _MAX_EMBEDDED:
            return ascii_json(_producer(query) | {"sha256": _sha256(text)})
        return text[:-1] + "," + ascii_json(_producer(query))[1:]
    provenance = sample_provenance(_producer(query), origin, batch.condition_of(index), query.truncation)
    provenance |= query.changed_controls
    if query.edit is not None:
        provenance |= query.edit.fields
    if query.scale != 1:
        provenance["scale"] = query.scale
    return ascii_json(provenance)


def _request(query: SampleQuery) -> dict[str, Any]:
    return {"endpoint": query.endpoint, "request": query.request}


def _producer(query: SampleQuery) -> Provenance:
    return producer(query.model.name, query.model.version, query.model.fingerprint_id)
