"""From encoded samples to the body of an answer. JSON is joined by hand, to copy megabytes of base64 only once."""

import base64
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import orjson

from latentd.models.outputs.animation import encode_animation
from latentd.models.outputs.base import OutputKind, Samples, encode_npy
from latentd.models.outputs.metadata import embed_metadata
from latentd.service.engine.fair_queue import Encode
from latentd.service.latent_batch import LatentBatch
from latentd.service.provenance import answer_provenance, sample_provenance
from latentd.service.queries.query import SampleQuery


def encoder(query: SampleQuery) -> Encode:
    """Return the function that the engine encodes samples with.

    It is the same object for all requests whose samples may be encoded together.
    """
    output, response_format = query.spec.output, query.response_format
    if response_format.animated:
        return _frame_encoder(output)
    if response_format.envelope in ("json", "single"):
        return _file_encoder(output, response_format.format, query.scale)
    return list  # the one file of all samples is encoded when all of them are there


@cache
def _frame_encoder(output: OutputKind) -> Encode:
    return output.frame_data


@cache
def _file_encoder(output: OutputKind, format: str, scale: int) -> Encode:
    if scale == 1:
        return lambda samples: output.encode(samples, format)
    return lambda samples: [file for sample in samples for file in output.encode(_enlarged(sample, scale), format)]


def _enlarged(image: Samples, scale: int) -> Samples:
    """[C, H, W] → [1, C, H·scale, W·scale] by repeating pixels; one image at a time, because they are large."""
    return image.repeat(scale, axis=-2).repeat(scale, axis=-1)[None]


def assemble(batch: LatentBatch, results: Sequence[Any]) -> bytes:
    """Return the answer's body. `results`: what `encoder` made of each sample."""
    query = batch.query
    response_format = query.response_format
    if response_format.envelope == "single":
        return embed_metadata(results[0], response_format.format, sample_provenance(batch, 0))
    if response_format.envelope == "rows":
        return encode_npy(np.stack(results))
    if response_format.envelope == "json":
        return _json_body(query, b",".join(sample_json(batch, index, file) for index, file in enumerate(results)))
    file = combined_file(query, results)
    return _json_body(query, combined_json(batch, file)) if response_format.envelope.startswith("json") else file


def combined_file(query: SampleQuery, results: Sequence[Any]) -> bytes:
    """Return all samples as one grid or animation."""
    output, encoding = query.spec.output, query.response_format.format
    if query.animation is not None:
        return encode_animation(output.frames(results), encoding, query.animation, answer_provenance(query))
    return embed_metadata(output.encode_grid(np.stack(results), encoding), encoding, answer_provenance(query))


def sample_json(batch: LatentBatch, index: int, file: bytes) -> bytes:
    """Return one sample as an element of `samples`."""
    encoding = batch.query.response_format.format
    fields: dict[str, Any] = {"index": index, "seed": batch.seed(index)} | batch.query.transform.answer_fields(index)
    if (label := batch.label(index)) is not None:
        fields["label"] = label
    return _with_data(fields, embed_metadata(file, encoding, sample_provenance(batch, index)), encoding)


def combined_json(batch: LatentBatch, file: bytes) -> bytes:
    """Return a grid or an animation as the only element of `samples`."""
    query = batch.query
    indices = range(query.num_samples)
    fields: dict[str, Any] = {"index": 0, "seeds": [batch.seed(index) for index in indices]}
    if query.class_names:
        fields["labels"] = [batch.label(index) for index in indices]
    return _with_data(fields, file, query.response_format.format)


def _with_data(fields: dict[str, Any], file: bytes, format: str) -> bytes:
    """Add `data` to the fields: JSON as it is, binary files as base64."""
    data = file if format == "json" else b'"' + base64.b64encode(file) + b'"'
    return orjson.dumps(fields)[:-1] + b',"data":' + data + b"}"


def _json_body(query: SampleQuery, samples: bytes) -> bytes:
    return orjson.dumps(answer_fields(query))[:-1] + b',"samples":[' + samples + b"]}"


def answer_fields(query: SampleQuery) -> dict[str, Any]:
    """Return what a JSON answer says about all of its samples."""
    fields = {"model": query.model.name, "version": query.model.version, "format": query.response_format.format}
    return fields if query.edit is None else fields | {"directions_version": query.edit.version}
