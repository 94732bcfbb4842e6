"""The rows of a query's samples: the input of the last stage, and the provenance of each sample."""

import asyncio
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from latentd.models.interpolation import NoDirectionError
from latentd.models.latents import seed_to_row, truncate
from latentd.models.provenance import Provenance, condition_fields
from latentd.models.stage_input import Rows, StageInput
from latentd.service.catalog import Deployment
from latentd.service.engine import Engine
from latentd.service.errors import invalid
from latentd.service.queries.query import SampleQuery
from latentd.service.queries.sources import Source
from latentd.service.samples.chunks import collect

_MAX_NUMBERS_ON_LOOP = 2**13
"""At most this many numbers are drawn on the event loop, in less than a millisecond. More are drawn on a thread."""


@dataclass(frozen=True)
class LatentBatch:
    """The rows of a query's samples, and what identifies each sample."""

    query: SampleQuery
    rows: StageInput
    """The input of the last stage, one row per sample."""
    inputs: Rows | None
    """[N, *spec.input.shape], before truncation; None if the transform works behind the first stage."""
    condition: Rows | None
    """[N, spec.condition.size]; None without a condition, and if the transform works behind the first stage."""
    source_condition: Rows | None
    """[K, spec.condition.size]; None without a condition."""

    def seed(self, sample: int) -> int | None:
        """Return the seed of a sample; None if it has none."""
        source = self._source(sample)
        return None if source is None else source.seed

    def origin(self, sample: int) -> Provenance | None:
        """Return the provenance of a sample's input: its seed, or the fields of its kind. None if it was made in w."""
        source = self._source(sample)
        if source is not None:
            return source.provenance(self.query.spec.input)
        return None if self.inputs is None else self.query.spec.input.provenance(self.inputs[sample])

    def condition_of(self, sample: int) -> Provenance:
        """Return a sample's condition as its field; {} without a condition, and if the sample was made in w."""
        source = self.query.transform.source_of(sample)
        rows, row = (self.condition, sample) if source is None else (self.source_condition, source)
        return {} if rows is None else condition_fields(self.query.spec, rows[row])

    @cached_property
    def seeds(self) -> list[int] | None:
        """The seeds of all samples; None if one of them has no seed."""
        seeds = [seed for index in range(self.query.num_samples) if (seed := self.seed(index)) is not None]
        return seeds if len(seeds) == self.query.num_samples else None

    def _source(self, sample: int) -> Source | None:
        index = self.query.transform.source_of(sample)
        return None if index is None else self.query.sources[index]


async def build_latent_batch(query: SampleQuery, deployment: Deployment, engine: Engine) -> LatentBatch:
    """Draw the query's sources, and run all stages but the last. Transform, truncate and edit the rows on the way.

    Rows of the first stage are transformed before they are truncated, because the rows before truncation identify
    samples. Rows of a later stage are truncated before they are transformed. Raises ApiError 400 if the transform or
    the edit fails, and the exceptions of Engine.submit.
    """
    kind = query.spec.input
    if max(len(query.sources), query.num_samples) * kind.size <= _MAX_NUMBERS_ON_LOOP:
        sources, rows = _first_rows(query)
    else:
        sources, rows = await asyncio.to_thread(_first_rows, query)
    inputs, condition = (None, None) if _transforms_later(query) else (rows.inputs, rows.condition)
    for takes, executor in deployment.stages:
        if takes.space is not None and takes.space == kind.edit_space:
            rows = _truncate_and_edit(query, rows, takes.mean)
        if executor is not deployment.last:
            values = await collect(engine, executor, takes.select(rows), list)
            rows = replace(rows, inputs=np.stack(values))
    return LatentBatch(query, takes.select(rows), inputs, condition, sources.condition)


def _first_rows(query: SampleQuery) -> tuple[StageInput, StageInput]:
    """Return the sources' rows, and the input of the first stage: the samples' rows if they are transformed there."""
    drawn = [_draw(query, source) for source in query.sources]
    conditions = [row for _, row in drawn if row is not None]
    condition = np.stack(conditions) if query.spec.condition.size else None
    sources = StageInput(np.stack([row for row, _ in drawn]), condition)
    rows = sources if _transforms_later(query) else _transform(query, sources)
    if not query.controls:
        return sources, rows
    controls = np.array(list(query.controls.values()), dtype=np.float32)
    return sources, replace(rows, controls=np.tile(controls, (len(rows), 1)))


def _draw(query: SampleQuery, source: Source) -> tuple[Rows, Rows | None]:
    """Return a source's input and condition."""
    if isinstance(source.origin, np.ndarray):
        return source.origin, source.condition
    drawn = seed_to_row(query.spec, source.origin)
    return drawn.input, drawn.condition if source.condition is None else source.condition


def _transforms_later(query: SampleQuery) -> bool:
    """Return whether the transform works on the rows of a later stage, such as w."""
    spaces = query.spec.input.spaces
    return query.space in spaces[1:]


def _truncate_and_edit(query: SampleQuery, rows: StageInput, mean: Rows | None) -> StageInput:
    rows = replace(rows, inputs=truncate(rows.inputs, query.truncation, mean))
    if _transforms_later(query):
        rows = _transform(query, rows)
    return rows if query.edit is None else replace(rows, inputs=query.edit.apply(rows.inputs))


def _transform(query: SampleQuery, rows: StageInput) -> StageInput:
    """Make the rows of the samples from the rows of the sources."""
    try:
        inputs = query.transform.inputs(rows.inputs, query.spec)
    except NoDirectionError as problem:
        raise invalid(query.error_field, str(problem)) from problem
    condition = None if rows.condition is None else query.transform.condition(rows.condition, query.spec)
    controls = None if rows.controls is None else np.resize(rows.controls, (len(inputs), rows.controls.shape[1]))
    return StageInput(inputs, condition, controls)
