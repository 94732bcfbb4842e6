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
from latentd.service.plans.query import SampleQuery
from latentd.service.provenance import answer_name, sample_name


def encoder(plan: SampleQuery) -> Encode:
    """What the engine makes of samples, the same function for requests whose samples may be encoded together."""
    output, shape = plan.spec.output, plan.shape
    if shape.moving:
        return _sketches(output)
    if shape.envelope in ("json", "single"):
        return _files(output, shape.format, plan.scale)
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


def assemble(points: LatentBatch, results: list[Any]) -> bytes:
    """The answer's body, of what `encoder` made of each sample."""
    plan = points.plan
    shape = plan.shape
    if shape.envelope == "single":
        return embed_metadata(results[0], shape.format, sample_name(points, 0))
    if shape.envelope == "json":
        return _json_head(plan) + b",".join(entry(points, index, file) for index, file in enumerate(results)) + b"]}"
    if shape.envelope == "rows":
        samples: Samples = np.stack(results)
        return encode_npy(samples)
    whole = whole_file(plan, results)
    return _json_head(plan) + whole_entry(points, whole) + b"]}" if shape.envelope.startswith("json") else whole


def whole_file(plan: SampleQuery, results: list[Any]) -> bytes:
    """A grid or an animation, of what `encoder` made of each sample."""
    output, shape = plan.spec.output, plan.shape
    if plan.projection is not None:
        return encode_animation(output.frames(results), shape.format, plan.projection, answer_name(plan))
    return embed_metadata(output.encode_grid(np.stack(results), shape.format), shape.format, answer_name(plan))


def entry(points: LatentBatch, index: int, file: bytes) -> bytes:
    """One sample as an entry of `samples`."""
    encoding = points.plan.shape.format
    facts: dict[str, Any] = {"index": index, "seed": points.seed(index)} | points.plan.move.facts(index)
    if (label := points.label(index)) is not None:
        facts["label"] = label
    return _with_data(facts, embed_metadata(file, encoding, sample_name(points, index)), encoding)


def whole_entry(points: LatentBatch, file: bytes) -> bytes:
    """A grid or an animation as the one entry of `samples`."""
    plan = points.plan
    count = range(plan.num_samples)
    facts: dict[str, Any] = {"index": 0, "seeds": [points.seed(index) for index in count]}
    if plan.class_names:
        facts["labels"] = [points.label(index) for index in count]
    return _with_data(facts, file, plan.shape.format)


def _with_data(facts: dict[str, Any], file: bytes, format: str) -> bytes:
    """JSON as it is, what is binary as base64."""
    data = file if format == "json" else b'"' + base64.b64encode(file) + b'"'
    return orjson.dumps(facts)[:-1] + b',"data":' + data + b"}"


def _json_head(plan: SampleQuery) -> bytes:
    return orjson.dumps(head(plan))[:-1] + b',"samples":['


def head(plan: SampleQuery) -> dict[str, Any]:
    """What an answer in JSON says of all its samples."""
    facts = {"model": plan.model.name, "version": plan.model.version, "format": plan.shape.format}
    return facts if plan.shift is None else facts | {"directions_version": plan.shift.version}
