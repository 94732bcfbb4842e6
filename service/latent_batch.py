"""The latents of a query's samples: the input of the last stage, and what each sample is called."""

import asyncio
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from latentd.models.interpolation import NoDirectionError, Vector
from latentd.models.latents import Latents, seed_to_latent, truncate
from latentd.models.provenance import describe_label
from latentd.models.sampling import StageInput, labels_to_weights
from latentd.service.catalog import Deployment
from latentd.service.chunks import collect
from latentd.service.engine import Engine
from latentd.service.errors import invalid
from latentd.service.queries.query import ClassWeights, SampleQuery
from latentd.service.queries.sources import ResolvedLabel, Source

_MAX_NUMBERS_ON_LOOP = 2**13
"""Numbers that are drawn on the event loop, in less than a millisecond. More are drawn on a thread."""


@dataclass(frozen=True)
class LatentBatch:
    """A query's samples as latents."""

    query: SampleQuery
    rows: StageInput
    """The input of the synthesis, one row per sample."""
    latents: Latents | None
    """[N, dim], before truncation; None if the transform works in w."""
    class_weights: ClassWeights | None
    """[N, classes]; None for an unconditional model, and if the transform works in w."""
    source_class_weights: ClassWeights | None
    """[K, classes]; None for an unconditional model."""

    def seed(self, sample: int) -> int | None:
        """Return the seed whose sample this is."""
        source = self.query.transform.source_of(sample)
        return None if source is None else self.query.sources[source].seed

    def latent(self, sample: int) -> Vector | None:
        """Return the latent of a sample that no seed names; None if it has a seed, or was made in w."""
        source = self.query.transform.source_of(sample)
        if source is not None:
            return self.query.sources[source].latent
        return None if self.latents is None else self.latents[sample]

    def label(self, sample: int) -> str | dict[str, float] | None:
        """Return the class's name, or weights by name; None if the model has no classes, or the sample is made in w."""
        source = self.query.transform.source_of(sample)
        weights, row = (self.class_weights, sample) if source is None else (self.source_class_weights, source)
        return None if weights is None else describe_label(self.query.class_names, weights[row])

    @cached_property
    def seeds(self) -> list[int] | None:
        """All samples' seeds; None if a sample has none."""
        seeds = [seed for index in range(self.query.num_samples) if (seed := self.seed(index)) is not None]
        return seeds if len(seeds) == self.query.num_samples else None


async def build_latent_batch(query: SampleQuery, deployment: Deployment, engine: Engine) -> LatentBatch:
    """Draw the query's sources, transform and truncate them; w is computed by the engine if the model has it.

    Raises ApiError 400 if the transform or the edit fails, and whatever Engine.submit raises.
    """
    if max(len(query.sources), query.num_samples) * query.spec.input.dim <= _MAX_NUMBERS_ON_LOOP:
        latents, class_weights, of_sources = _first_stage_input(query)
    else:
        latents, class_weights, of_sources = await asyncio.to_thread(_first_stage_input, query)
    if deployment.mapping_executor is None:
        rows = StageInput(_edited(query, truncate(latents, query.truncation)), class_weights)
        return LatentBatch(query, rows, latents, class_weights, of_sources)
    w = np.stack(await collect(engine, deployment.mapping_executor, StageInput(latents, class_weights), list))
    w = truncate(w, query.truncation, deployment.mean_w)  # [N, layers, dim]
    if query.space == "z":
        return LatentBatch(query, StageInput(_edited(query, w), None), latents, class_weights, of_sources)
    w = _transformed(query, w)
    return LatentBatch(query, StageInput(_edited(query, w), None), None, None, of_sources)


def _first_stage_input(query: SampleQuery) -> tuple[Latents, ClassWeights | None, ClassWeights | None]:
    """Return latents [N, dim] and class weights [N, classes] for the first stage, and the sources' class weights.

    If the transform works in w, the first stage gets the sources, and otherwise the samples.
    """
    drawn = [_draw(query, source) for source in query.sources]
    latents = np.stack([latent for latent, _ in drawn])
    of_sources = labels_to_weights([label for _, label in drawn], len(query.class_names)) if query.class_names else None
    if query.space == "w":
        return latents, of_sources, of_sources
    class_weights = None if of_sources is None else query.transform.class_weights(of_sources)
    return _transformed(query, latents), class_weights, of_sources


def _draw(query: SampleQuery, source: Source) -> tuple[Latents, ResolvedLabel | None]:
    """Return a source's latent [dim] and class."""
    if isinstance(source.origin, np.ndarray):
        return source.origin, source.label
    drawn = seed_to_latent(query.spec, source.origin)
    return drawn.latent, drawn.label if source.label is None else source.label


def _transformed(query: SampleQuery, latents: Latents) -> Latents:
    try:
        return query.transform.latents(latents)
    except NoDirectionError as problem:
        raise invalid(query.error_field, str(problem)) from problem


def _edited(query: SampleQuery, latents: Latents) -> Latents:
    return latents if query.edit is None else query.edit.apply(latents)
