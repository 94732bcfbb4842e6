"""`POST /generate` without HTTP: from a request to samples and from samples to the answer's bytes."""

import asyncio
import base64
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import orjson

from models.latents import MAX_SEED, Latents, draw_many, truncate
from models.outputs.base import OutputKind, Samples, encode_npy
from models.sampling import Rows
from models.spec import ClassCondition, GeneratorSpec
from service.catalog import Catalog, ServedModel
from service.engine import Engine, NotFiniteError
from service.engine.fair_queue import Encode
from service.errors import invalid
from service.negotiate import Shape, negotiate
from service.schemas import GenerateRequest, Label

_DRAWN_AT_ONCE = 64
"""Latents that are drawn on the event loop, which takes less than a millisecond; more are drawn beside it."""


@dataclass(frozen=True)
class Plan:
    """A request that was found good: every sample's name, and the shape of the answer."""

    model: ServedModel
    shape: Shape
    num_samples: int
    seeds: list[int] | None
    """None where the request brought latents."""
    given_latents: Latents | None
    given_labels: list[int] | None
    """None: each from its seed."""
    truncation: float


@dataclass(frozen=True)
class Answer:
    """An answer's body and what its headers say."""

    plan: Plan
    body: bytes


def make_plan(request: GenerateRequest, accept: str, catalog: Catalog, max_samples: int) -> Plan:
    """Check `request` against the model it names; ApiError 400, 404 or 406 names the field at fault."""
    model = catalog.find(request.model)
    spec = model.card.spec
    num_samples, seeds = _seeds(request, max_samples)
    return Plan(
        model=model,
        shape=negotiate(accept, spec.output, request.format, request.layout, num_samples),
        num_samples=num_samples,
        seeds=seeds,
        given_latents=_latents(request, spec),
        given_labels=_labels(request, spec, num_samples),
        truncation=1.0 if request.truncation is None else request.truncation,
    )


async def carry_out(plan: Plan, catalog: Catalog, engine: Engine) -> Answer:
    """Draw, compute and encode `plan`. ApiError 400 where its latents lead to nothing finite."""
    engine.require_room(plan.num_samples)
    loop = asyncio.get_running_loop()
    few = plan.num_samples <= _DRAWN_AT_ONCE
    latents, labels = _draw(plan) if few else await loop.run_in_executor(None, _draw, plan)
    rows = Rows.of(plan.model.card.spec, latents, labels)
    replica = await catalog.ready(plan.model)
    try:
        body: bytes = await engine.submit(
            replica, rows, _encoder(plan), lambda results: _assemble(plan, labels, results)
        )
    except NotFiniteError as problem:
        if plan.given_latents is None:
            raise
        raise invalid("latents", "they lead to a sample that is not finite; keep near what seeds give") from problem
    return Answer(plan, body)


def _seeds(request: GenerateRequest, max_samples: int) -> tuple[int, list[int] | None]:
    sources = [name for name in ("latents", "seeds", "seed") if getattr(request, name) is not None]
    if len(sources) > 1:
        raise invalid(sources[1], f"{sources[0]} and {sources[1]} cannot be combined")
    explicit: Sequence[Any] | None = request.latents or request.seeds
    if explicit is not None and request.num_samples is not None:
        raise invalid("num_samples", f"{sources[0]} already says how many samples there are")
    count = len(explicit) if explicit is not None else request.num_samples or 1
    if count > max_samples:
        raise invalid(sources[0] if explicit else "num_samples", f"at most {max_samples} samples a request")
    if request.latents is not None:
        return count, None
    if request.seeds is not None:
        return count, request.seeds
    last_first = MAX_SEED - (count - 1)
    first = secrets.randbelow(last_first + 1) if request.seed is None else request.seed
    if first > last_first:
        raise invalid("seed", f"the last sample's seed would be {first + count - 1}, past {MAX_SEED}")
    return count, list(range(first, first + count))


def _latents(request: GenerateRequest, spec: GeneratorSpec) -> Latents | None:
    if request.latents is None:
        return None
    for index, row in enumerate(request.latents):
        if len(row) != spec.input.dim:
            raise invalid("latents", f"row {index} has {len(row)} numbers; this model takes {spec.input.dim}")
    with np.errstate(over="ignore"):
        latents = np.array(request.latents, dtype=np.float32)
    if not np.isfinite(latents).all():
        raise invalid("latents", "a number is too large for float32")
    return latents


def _labels(request: GenerateRequest, spec: GeneratorSpec, num_samples: int) -> list[int] | None:
    classes = spec.condition
    if not isinstance(classes, ClassCondition):
        if request.label is not None:
            raise invalid("label", "this model is unconditional and takes no label")
        return None
    if request.label is None:
        if request.latents is not None:
            raise invalid("label", "latents name no class: give a label with them")
        return None
    named: Sequence[Label] = request.label if isinstance(request.label, list) else [request.label] * num_samples
    if len(named) != num_samples:
        raise invalid("label", f"{len(named)} labels for {num_samples} samples; give one, or one a sample")
    try:
        return [classes.index(label) for label in named]
    except ValueError as problem:
        raise invalid("label", str(problem)) from problem


def _draw(plan: Plan) -> tuple[Latents, Sequence[int | None]]:
    labels: Sequence[int | None] = [None] * plan.num_samples
    if plan.given_latents is not None:
        latents = plan.given_latents
    else:
        latents, labels = draw_many(plan.model.card.spec, plan.seeds or [])
    return truncate(latents, plan.truncation), plan.given_labels or labels


def _encoder(plan: Plan) -> Encode:
    output, shape = plan.model.card.spec.output, plan.shape
    if shape.envelope == "json":
        return _json_data(output, shape.format)
    if shape.envelope == "single":
        return _files(output, shape.format)
    return list  # one file of all samples is encoded when all are there


@cache
def _files(output: OutputKind, format: str) -> Encode:
    return lambda samples: output.encode(samples, format)


@cache
def _json_data(output: OutputKind, format: str) -> Encode:
    return lambda samples: [_data(file, format) for file in output.encode(samples, format)]


def _data(file: bytes, format: str) -> bytes:
    """A file as a JSON value: JSON as it is, what is binary as base64."""
    return file if format == "json" else b'"' + base64.b64encode(file) + b'"'


def _assemble(plan: Plan, labels: Sequence[int | None], results: list[Any]) -> bytes:
    """The answer's body of what `_encoder` made of each sample."""
    output, shape = plan.model.card.spec.output, plan.shape
    if shape.envelope == "single":
        (file,) = results
        return bytes(file)
    if shape.envelope == "json":
        return _json_body(plan, labels, results)
    samples: Samples = np.stack(results)
    if shape.envelope == "rows":
        return encode_npy(samples)
    picture = output.encode_grid(samples, shape.format)
    return picture if shape.envelope == "grid" else _json_grid(plan, labels, picture)


def _json_body(plan: Plan, labels: Sequence[int | None], data: list[bytes]) -> bytes:
    """Joined by hand: megabytes of base64 are to be copied once."""
    seeds: Sequence[int | None] = plan.seeds or [None] * plan.num_samples
    names = _label_names(plan, labels)
    heads = (
        b'{"index":%d,"seed":%s%s,"data":'
        % (
            index,
            b"null" if seed is None else b"%d" % seed,
            b',"label":' + orjson.dumps(names[index]) if names else b"",
        )
        for index, seed in enumerate(seeds)
    )
    samples = b",".join(head + each + b"}" for head, each in zip(heads, data, strict=True))
    return _json_head(plan) + samples + b"]}"


def _json_grid(plan: Plan, labels: Sequence[int | None], picture: bytes) -> bytes:
    entry: dict[str, Any] = {"index": 0, "seeds": plan.seeds}
    if names := _label_names(plan, labels):
        entry["labels"] = names
    head = orjson.dumps(entry)[:-1]
    return _json_head(plan) + head + b',"data":' + _data(picture, plan.shape.format) + b"}]}"


def _json_head(plan: Plan) -> bytes:
    facts = {"model": plan.model.name, "version": plan.model.version, "format": plan.shape.format}
    return orjson.dumps(facts)[:-1] + b',"samples":['


def _label_names(plan: Plan, labels: Sequence[int | None]) -> list[str]:
    classes = plan.model.card.spec.condition
    return [classes.names[label or 0] for label in labels] if isinstance(classes, ClassCondition) else []
