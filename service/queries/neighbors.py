"""`POST /neighbors`: samples from latents at an angle to another latent."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from latentd.models.spec import GeneratorSpec
from latentd.models.stage_input import Rows
from latentd.service.catalog import Catalog
from latentd.service.content_negotiation import negotiate
from latentd.service.errors import invalid
from latentd.service.queries.direction_edit import direction_edit
from latentd.service.queries.fields import control_values, require_known_fields, require_operation
from latentd.service.queries.query import RowTransform, SampleQuery, require_at_most
from latentd.service.queries.sources import (
    ErrorLocation,
    Source,
    condition_value,
    consecutive_seeds,
    draw_seed,
    parse_input,
    resolve_condition,
)
from latentd.service.request_schemas import NeighborsRequest
from latentd.service.settings import Settings


@dataclass(frozen=True)
class Neighborhood(RowTransform):
    """There is one source. Each sample is at an angle to it, in a direction drawn from the sample's neighbor seed."""

    degrees: float
    seeds: Sequence[int]

    def inputs(self, sources: Rows, spec: GeneratorSpec) -> Rows:
        (center,) = sources
        return np.stack([spec.input.neighbor(center, self.degrees, seed) for seed in self.seeds])

    def condition(self, sources: Rows, spec: GeneratorSpec) -> Rows:
        return np.repeat(sources, len(self.seeds), axis=0)

    def source_of(self, sample: int) -> int | None:
        del sample
        return 0 if self.degrees == 0.0 else None

    def answer_fields(self, sample: int) -> dict[str, Any]:
        return {"neighbor_seed": self.seeds[sample]}


def neighbors_query(request: NeighborsRequest, accept: str, catalog: Catalog, settings: Settings) -> SampleQuery:
    """Check `request` against the model that it names. Raises ApiError 400, 404 or 406, which names the wrong field."""
    model = catalog.find(request.model)
    require_operation(model, "neighbors")
    require_known_fields(model, request)
    spec = model.card.spec
    count = request.num_samples
    require_at_most(count, settings.max_samples, "num_samples")
    neighbor_seeds = consecutive_seeds(request.neighbor_seed, count, "neighbor_seed", "the last neighbor's seed")
    if request.latent is not None and request.seed is not None:
        raise invalid("latent", "seed and latent cannot be combined")
    choices = {"neighbor_seed": neighbor_seeds[0]}
    origin: int | Rows
    if request.latent is not None:
        origin = parse_input(request.latent, spec, ErrorLocation("latent", "the latent"))
    else:
        origin = choices["seed"] = draw_seed() if request.seed is None else request.seed
    value = condition_value(request, spec)
    return SampleQuery(
        endpoint="/neighbors",
        body=request,
        server_choices=choices,
        model=model,
        response_format=negotiate(accept, spec.output, request.format, request.layout, count),
        sources=[Source(origin, resolve_condition(value, spec, None, has_seed=request.latent is None))],
        num_samples=count,
        error_field="seed" if request.latent is None else "latent",
        transform=Neighborhood(request.angle, neighbor_seeds),
        truncation=request.truncation or 1.0,
        edit=direction_edit(request, model),
        controls=control_values(request, spec),
    )
