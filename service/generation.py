"""`POST /generate` without HTTP: from a request to samples and from samples to the answer's bytes."""

import asyncio
import base64
import secrets
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson

from models.latents import MAX_SEED, Latents, draw_many, truncate
from models.outputs.base import Samples, encode_npy
from models.spec import ClassCondition, GeneratorSpec
from service.catalog import Catalog, ServedModel
from service.engine import Engine
from service.errors import invalid
from service.negotiate import Shape, negotiate
from service.schemas import GenerateRequest, Label


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


async def carry_out(plan: Plan, engine: Engine, workers: Executor) -> Answer:
    """Draw, compute and encode `plan`; drawing and encoding run in `workers`, off the event loop."""
    loop = asyncio.get_running_loop()
    latents, labels = await loop.run_in_executor(workers, _rows, plan)
    samples = await asyncio.wrap_future(engine.submit(plan.model, latents, labels))
    _require_finite(plan, samples)
    body = await loop.run_in_executor(workers, _encode, plan, samples, labels)
    return Answer(plan, body)


def _require_finite(plan: Plan, samples: Samples) -> None:
    if np.isfinite(samples).all():
        return
    if plan.given_latents is not None:
        raise invalid("latents", "they lead to a sample that is not finite; keep near what seeds give")
    raise ArithmeticError(f"{plan.model.name}@{plan.model.version} gave a sample that is not finite")


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


def _rows(plan: Plan) -> tuple[Latents, Sequence[int | None]]:
    labels: Sequence[int | None] = [None] * plan.num_samples
    if plan.given_latents is not None:
        latents = plan.given_latents
    else:
        latents, labels = draw_many(plan.model.card.spec, plan.seeds or [])
    return truncate(latents, plan.truncation), plan.given_labels or labels


def _encode(plan: Plan, samples: Samples, labels: Sequence[int | None]) -> bytes:
    output, shape = plan.model.card.spec.output, plan.shape
    if shape.envelope == "rows":
        return encode_npy(samples)
    if shape.envelope == "grid":
        return output.encode_grid(samples, shape.format)
    if shape.envelope == "single":
        return output.encode(samples[0], shape.format)
    return _encode_json(plan, samples, labels)


def _encode_json(plan: Plan, samples: Samples, labels: Sequence[int | None]) -> bytes:
    spec, shape = plan.model.card.spec, plan.shape
    names = spec.condition.names if isinstance(spec.condition, ClassCondition) else ()
    if shape.envelope == "json-grid":
        entry: dict[str, Any] = {"index": 0, "seeds": plan.seeds}
        if names:
            entry["labels"] = [names[label or 0] for label in labels]
        entries = [entry | {"data": _data(spec.output.encode_grid(samples, shape.format), shape.format)}]
    else:
        entries = []
        for index, sample in enumerate(samples):
            entry = {"index": index, "seed": plan.seeds[index] if plan.seeds else None}
            if names:
                entry["label"] = names[labels[index] or 0]
            entries.append(entry | {"data": _data(spec.output.encode(sample, shape.format), shape.format)})
    model = plan.model
    return orjson.dumps({"model": model.name, "version": model.version, "format": shape.format, "samples": entries})


def _data(encoded: bytes, format: str) -> object:
    """JSON goes in as it is, binary formats as base64."""
    return orjson.Fragment(encoded) if format == "json" else base64.b64encode(encoded).decode("ascii")
