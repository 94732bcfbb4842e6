"""The body of an answer with samples. JSON is joined from bytes, so that megabytes of base64 are copied only once."""

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import orjson

from latentd.models.encoding.animation import encode_animation
from latentd.models.outputs.base import OutputKind, Samples
from latentd.service.engine.fair_queue import Encode, QuantizedEncode
from latentd.service.queries.query import SampleQuery
from latentd.service.samples.latent_batch import LatentBatch
from latentd.service.samples.provenance_text import answer_provenance_text, sample_provenance_text


def encoder(query: SampleQuery) -> Encode:
    """Return the function with which the engine encodes samples.

    It is the same object for all requests whose samples can be encoded together.
    """
    output, response_format = query.spec.output, query.response_format
    if response_format.animated:
        return _frame_encoder(output)
    if response_format.separate:
        return _file_encoder(output, response_format.format, query.scale)
    return _value_encoder(output, response_format.format)


@cache
def _frame_encoder(output: OutputKind) -> Encode:
    return output.frame_data if output.quantized is None else QuantizedEncode(output.frame_data)


@cache
def _file_encoder(output: OutputKind, format: str, scale: int) -> Encode:
    def encode(samples: Samples) -> list[bytes]:
        if scale == 1:
            return output.encode(samples, format)
        return [file for sample in samples for file in output.encode(_enlarged(sample, scale), format)]

    return QuantizedEncode(encode) if output.accepts_quantized(format) else encode


@cache
def _value_encoder(output: OutputKind, format: str) -> Encode:
    """Return an encoder that keeps the values. One file of all samples is encoded later, when all of them are there."""
    if not output.accepts_quantized(format):
        return list
    return QuantizedEncode(lambda samples: list(output.as_quantized(samples)))


def _enlarged(image: Samples, scale: int) -> Samples:
    """Repeat pixels: [C, H, W] → [1, C, H·scale, W·scale]. One image at a time, because enlarged images are large."""
    return image.repeat(scale, axis=-2).repeat(scale, axis=-1)[None]


def build_body(batch: LatentBatch, results: Sequence[Any]) -> bytes:
    """Return the body of the answer. `results`: what `encoder` returned for each sample."""
    query = batch.query
    response_format = query.response_format
    if response_format.separate and response_format.in_json:
        return _json_body(query, b",".join(sample_json(batch, index, file) for index, file in enumerate(results)))
    if response_format.separate:
        return query.spec.output.embed(results[0], response_format.format, sample_provenance_text(batch, 0))
    file = combined_file(query, results)
    return _json_body(query, combined_json(batch, file)) if response_format.in_json else file


def combined_file(query: SampleQuery, results: Sequence[Any]) -> bytes:
    """Return all samples as one file."""
    output, encoding = query.spec.output, query.response_format.format
    if query.animation is not None:
        return encode_animation(output.frames(results), encoding, query.animation, answer_provenance_text(query))
    file = output.combine(np.stack(results), encoding, query.response_format.layout)
    return output.embed(file, encoding, answer_provenance_text(query))


def sample_json(batch: LatentBatch, index: int, file: bytes) -> bytes:
    """Return one sample as an element of `samples`."""
    query = batch.query
    output, encoding = query.spec.output, query.response_format.format
    fields: dict[str, Any] = {"index": index} | _input_fields(batch, index) | query.transform.answer_fields(index)
    fields |= batch.condition_of(index)
    return _with_data(fields, output.embed(file, encoding, sample_provenance_text(batch, index)), query)


def combined_json(batch: LatentBatch, file: bytes) -> bytes:
    """Return one file of all samples as the only element of `samples`. Its `seeds` and the like are lists."""
    query = batch.query
    indices = range(query.num_samples)
    inputs = [_input_fields(batch, index) for index in indices]
    fields: dict[str, Any] = {"index": 0} | {f"{name}s": [each[name] for each in inputs] for name in inputs[0]}
    if (field := query.spec.condition.field) is not None:
        fields[f"{field}s"] = [batch.condition_of(index).get(field) for index in indices]
    return _with_data(fields, file, query)


def _input_fields(batch: LatentBatch, index: int) -> dict[str, Any]:
    """Return the fields for a sample's input: its seed, which may be null, or the sha256 of its file."""
    if "seed" in batch.query.spec.input.operations:
        return {"seed": batch.seed(index)}
    return batch.origin(index) or {}


def _with_data(fields: dict[str, Any], file: bytes, query: SampleQuery) -> bytes:
    """Return `fields` as JSON, with the file in `data`."""
    data = query.spec.output.json_value(file, query.response_format.format)
    return orjson.dumps(fields)[:-1] + b',"data":' + data + b"}"


def _json_body(query: SampleQuery, samples: bytes) -> bytes:
    return orjson.dumps(answer_fields(query))[:-1] + b',"samples":[' + samples + b"]}"


def answer_fields(query: SampleQuery) -> dict[str, Any]:
    """Return the fields of a JSON answer that are about all of its samples."""
    fields: dict[str, Any] = {
        "model": query.model.name,
        "version": query.model.version,
        "format": query.response_format.format,
    }
    if query.edit is not None:
        fields["directions_version"] = query.edit.version
    return fields
