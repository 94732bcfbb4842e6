"""From encoded samples to the bytes of an answer. JSON is joined by hand: megabytes of base64 are to be copied once."""

import base64
from functools import cache
from typing import Any

import numpy as np
import orjson

from latentd.models.outputs.animation import encode_animation
from latentd.models.outputs.base import OutputKind, Samples, encode_npy
from latentd.models.outputs.metadata import embed_metadata
from latentd.service.engine.fair_queue import Encode
from latentd.service.latent_batch import LatentBatch
from latentd.service.provenance import answer_name, sample_name
from latentd.service.queries.query import SampleQuery


def encoder(query: SampleQuery) -> Encode:
    """What the engine makes of samples, the same function for requests whose samples may be encoded together."""
    output, response_format = query.spec.output, query.response_format
    if response_format.animated:
        return _sketches(output)
    if response_format.envelope in ("json", "single"):
        return _files(output, response_format.format, query.scale)
    return list  # one file of all samples is encoded when all are there


@cache
def _sketches(output: OutputKind) -> Encode:
    return output.frame_data


@cache
def _files(output: OutputKind, format: str, scale: int) -> Encode:
    if scale == 1:
        return lambda samples: output.encode(samples, format)
    return lambda samples: [file for sample in samples for file in output.encode(_enlarged(sample, scale), format)]


def _enlarged(image: Samples, scale: int) -> Samples:
    """[C, H, W] → [1, C, H·scale, W·scale], every pixel a square: one at a time, because these are large."""
    return image.repeat(scale, axis=-2).repeat(scale, axis=-1)[None]


def assemble(batch: LatentBatch, results: list[Any]) -> bytes:
    """The answer's body, of what `encoder` made of each sample."""
    query = batch.query
    response_format = query.response_format
    if response_format.envelope == "single":
        return embed_metadata(results[0], response_format.format, sample_name(batch, 0))
    if response_format.envelope == "json":
        return _json_head(query) + b",".join(entry(batch, index, file) for index, file in enumerate(results)) + b"]}"
    if response_format.envelope == "rows":
        samples: Samples = np.stack(results)
        return encode_npy(samples)
    whole = combined_file(query, results)
    if response_format.envelope.startswith("json"):
        return _json_head(query) + combined_json(batch, whole) + b"]}"
    return whole


def combined_file(query: SampleQuery, results: list[Any]) -> bytes:
    """A grid or an animation, of what `encoder` made of each sample."""
    output, response_format = query.spec.output, query.response_format
    if query.projection is not None:
        return encode_animation(output.frames(results), response_format.format, query.projection, answer_name(query))
    grid = output.encode_grid(np.stack(results), response_format.format)
    return embed_metadata(grid, response_format.format, answer_name(query))


def entry(batch: LatentBatch, index: int, file: bytes) -> bytes:
    """One sample as an entry of `samples`."""
    encoding = batch.query.response_format.format
    facts: dict[str, Any] = {"index": index, "seed": batch.seed(index)} | batch.query.transform.facts(index)
    if (label := batch.label(index)) is not None:
        facts["label"] = label
    return _with_data(facts, embed_metadata(file, encoding, sample_name(batch, index)), encoding)


def combined_json(batch: LatentBatch, file: bytes) -> bytes:
    """A grid or an animation as the one entry of `samples`."""
    query = batch.query
    count = range(query.num_samples)
    facts: dict[str, Any] = {"index": 0, "seeds": [batch.seed(index) for index in count]}
    if query.class_names:
        facts["labels"] = [batch.label(index) for index in count]
    return _with_data(facts, file, query.response_format.format)


def _with_data(facts: dict[str, Any], file: bytes, format: str) -> bytes:
    """JSON as it is, what is binary as base64."""
    data = file if format == "json" else b'"' + base64.b64encode(file) + b'"'
    return orjson.dumps(facts)[:-1] + b',"data":' + data + b"}"


def _json_head(query: SampleQuery) -> bytes:
    return orjson.dumps(head(query))[:-1] + b',"samples":['


def head(query: SampleQuery) -> dict[str, Any]:
    """What an answer in JSON says of all its samples."""
    facts = {"model": query.model.name, "version": query.model.version, "format": query.response_format.format}
    return facts if query.edit is None else facts | {"directions_version": query.edit.version}
