"""The samples of a plan as points of latent space: what the engine computes, and what each is called."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from latentd.models.interpolation import NoDirectionError, Vector
from latentd.models.latents import Latents, seed_to_latent, truncate
from latentd.models.provenance import describe_label
from latentd.models.sampling import StageInput
from latentd.service.catalog import Deployment
from latentd.service.chunks import collect
from latentd.service.engine import Engine
from latentd.service.errors import invalid
from latentd.service.queries.query import Class, Places, SampleQuery

_DRAWN_AT_ONCE = 2**13
"""Numbers that are drawn on the event loop, which takes less than a millisecond; more are drawn beside it."""


@dataclass(frozen=True)
class LatentBatch:
    """A plan's samples, laid out in latent space."""

    query: SampleQuery
    classes: Sequence[Class | None]
    """Each source's."""
    rows: StageInput
    """For the synthesis."""
    latents: Latents | None
    """[N, dim], before truncation; None where samples were placed in w."""
    shares: Places | None
    """[N, classes]; None for an unconditional model, and where samples were placed in w."""

    def seed(self, sample: int) -> int | None:
        """The seed whose sample this is."""
        source = self.query.transform.source(sample)
        return None if source is None else self.query.sources[source].seed

    def latent(self, sample: int) -> Vector | None:
        """The latent of a sample that is no seed's; None where it is one's, or lies in w alone."""
        source = self.query.transform.source(sample)
        if source is not None:
            return self.query.sources[source].latent
        return None if self.latents is None else self.latents[sample]

    def label(self, sample: int) -> str | dict[str, float] | None:
        """The class's name, or the shares of several; None where the model has none, or the sample lies in w."""
        names = self.query.class_names
        source = self.query.transform.source(sample)
        if not names:
            return None
        if source is not None:
            return _named(names, self.classes[source])
        return None if self.shares is None else _named(names, self.shares[sample])

    @cached_property
    def seeds(self) -> list[int] | None:
        """All samples' seeds, where every one has one."""
        seeds = [seed for index in range(self.query.num_samples) if (seed := self.seed(index)) is not None]
        return seeds if len(seeds) == self.query.num_samples else None


async def build_latent_batch(query: SampleQuery, deployment: Deployment, engine: Engine) -> LatentBatch:
    """Draw the plan's sources and place its samples; w is computed where the model has it.

    ApiError 400 where there is no such place; otherwise raises as Engine.submit does.
    """
    if max(len(query.sources), query.num_samples) * query.spec.input.dim <= _DRAWN_AT_ONCE:
        latents, classes, shares = _draw(query)
    else:
        latents, classes, shares = await asyncio.to_thread(_draw, query)
    if deployment.mapping_executor is None:
        return LatentBatch(
            query, classes, StageInput(_shifted(query, truncate(latents, query.truncation)), shares), latents, shares
        )
    w = np.stack(
        await collect(engine, deployment.mapping_executor, StageInput(latents, shares), list)
    )  # [N, layers, dim]
    w = truncate(w, query.truncation, deployment.mean_w)
    if query.space == "z":
        return LatentBatch(query, classes, StageInput(_shifted(query, w), None), latents, shares)
    return LatentBatch(query, classes, StageInput(_shifted(query, _placed(query, w)), None), None, None)


def _draw(query: SampleQuery) -> tuple[Latents, list[Class | None], Places | None]:
    """What the first stage gets: latents [N, dim] and class shares [N, classes]; and the class of each source.

    Where samples are placed in w, these are still the sources'.
    """
    latents, classes = [], []
    for source in query.sources:
        label = source.label
        latent = source.latent
        if source.seed is not None:
            drawn = seed_to_latent(query.spec, source.seed)
            latent = drawn.latent
            label = drawn.label if label is None else label
        latents.append(latent)
        classes.append(label)
    places = np.stack(latents)  # type: ignore[arg-type]  # a source has a seed or a latent
    shares = _shares(classes, len(query.class_names)) if query.class_names else None
    if query.space == "w":
        return places, classes, shares
    return _placed(query, places), classes, None if shares is None else query.transform.shares(shares)


def _placed(query: SampleQuery, sources: Places) -> Places:
    try:
        return query.transform.places(sources)
    except NoDirectionError as problem:
        raise invalid(query.error_field, str(problem)) from problem


def _shifted(query: SampleQuery, places: Places) -> Places:
    return places if query.edit is None else query.edit.applied(places)


def _shares(classes: Sequence[Class | None], count: int) -> Places:
    shares = np.zeros((len(classes), count), dtype=np.float32)
    for row, label in zip(shares, classes, strict=True):
        if isinstance(label, np.ndarray):
            row[:] = label
        else:
            row[label or 0] = 1.0
    return shares


def _named(names: tuple[str, ...], label: Class | None) -> str | dict[str, float]:
    if not isinstance(label, np.ndarray):
        return names[label or 0]
    return describe_label(names, label)
