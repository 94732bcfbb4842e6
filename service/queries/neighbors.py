"""`POST /neighbors`: samples at an angle around a latent."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from latentd.models.interpolation import Vector, neighbor
from latentd.models.latents import Latents
from latentd.service.catalog import Catalog
from latentd.service.errors import invalid
from latentd.service.negotiate import negotiate
from latentd.service.queries.direction_edit import direction_edit
from latentd.service.queries.query import ClassWeights, LatentTransform, SampleQuery, require_at_most
from latentd.service.queries.sources import Source, consecutive_seeds, draw_seed, parse_latent, resolve_label
from latentd.service.schemas import NeighborsRequest
from latentd.service.settings import Settings


@dataclass(frozen=True)
class Neighborhood(LatentTransform):
    """The samples lie around the one source, each in the direction that its neighbor seed draws."""

    degrees: float
    seeds: Sequence[int]
    limit: float
    """Coordinates are clipped to ±limit: uniform latents fill a cube. Infinity for normal latents."""

    def latents(self, sources: Latents) -> Latents:
        (center,) = sources
        neighbors = np.stack([neighbor(center, self.degrees, seed) for seed in self.seeds])
        return neighbors if self.degrees == 0.0 else neighbors.clip(-self.limit, self.limit)

    def class_weights(self, sources: ClassWeights) -> ClassWeights:
        return np.repeat(sources, len(self.seeds), axis=0)

    def source_of(self, sample: int) -> int | None:
        del sample
        return 0 if self.degrees == 0.0 else None

    def answer_fields(self, sample: int) -> dict[str, Any]:
        return {"neighbor_seed": self.seeds[sample]}


def neighbors_query(request: NeighborsRequest, accept: str, catalog: Catalog, settings: Settings) -> SampleQuery:
    """Check `request` against the model that it names. Raises ApiError 400, 404 or 406, which names the wrong field."""
    model = catalog.find(request.model)
    spec = model.card.spec
    count = request.num_samples
    require_at_most(count, settings.max_samples, "num_samples")
    neighbor_seeds = consecutive_seeds(request.neighbor_seed, count, "neighbor_seed", "the last neighbor's seed")
    if request.latent is not None and request.seed is not None:
        raise invalid("latent", "seed and latent cannot be combined")
    choices = {"neighbor_seed": neighbor_seeds[0]}
    origin: int | Vector
    if request.latent is not None:
        origin = parse_latent(request.latent, spec, "latent", "the latent")
    else:
        origin = choices["seed"] = draw_seed() if request.seed is None else request.seed
    return SampleQuery(
        endpoint="/neighbors",
        body=request,
        server_choices=choices,
        model=model,
        response_format=negotiate(accept, spec.output, request.format, request.layout, count),
        sources=[Source(origin, resolve_label(request.label, spec, "label", "label", request.latent is None))],
        num_samples=count,
        error_field="seed" if request.latent is None else "latent",
        transform=Neighborhood(
            request.angle, neighbor_seeds, limit=1.0 if spec.input.distribution == "uniform" else np.inf
        ),
        truncation=request.truncation or 1.0,
        edit=direction_edit(request, model),
    )
