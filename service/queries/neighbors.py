"""`POST /neighbors`: samples at an angle around a place."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from latentd.models.interpolation import neighbor
from latentd.models.latents import MAX_SEED
from latentd.service.catalog import Catalog
from latentd.service.errors import invalid
from latentd.service.negotiate import negotiate
from latentd.service.queries.direction_edit import edit_of
from latentd.service.queries.query import Places, SampleQuery, Source, class_of, draw_seed, latent_of, require_at_most
from latentd.service.schemas import NeighborsRequest
from latentd.service.settings import Settings


@dataclass(frozen=True)
class Neighborhood:
    """Samples lie around the one source, each to the side that its seed names."""

    degrees: float
    seeds: Sequence[int]
    most: float
    """Coordinates beyond are brought back to it: a uniform latent's space is a cube."""

    def places(self, sources: Places) -> Places:
        (center,) = sources
        turned = np.stack([neighbor(center, self.degrees, seed) for seed in self.seeds])
        return turned if self.degrees == 0.0 else turned.clip(-self.most, self.most)

    def shares(self, sources: Places) -> Places:
        return np.repeat(sources, len(self.seeds), axis=0)

    def source(self, sample: int) -> int | None:
        del sample
        return 0 if self.degrees == 0.0 else None

    def facts(self, sample: int) -> dict[str, Any]:
        return {"neighbor_seed": self.seeds[sample]}


def neighbors_query(request: NeighborsRequest, accept: str, catalog: Catalog, settings: Settings) -> SampleQuery:
    """Check `request` against the model that it names; ApiError 400, 404 or 406 names the field at fault."""
    model = catalog.find(request.model)
    spec = model.card.spec
    count = request.num_samples
    require_at_most(count, settings.max_samples, "num_samples")
    last_first = MAX_SEED - (count - 1)
    first = draw_seed(last_first) if request.neighbor_seed is None else request.neighbor_seed
    if first > last_first:
        raise invalid("neighbor_seed", f"the last neighbour's would be {first + count - 1}, past {MAX_SEED}")
    field, seed = "latent", request.seed
    if request.latent is None:
        field, seed = "seed", draw_seed() if seed is None else seed
    elif seed is not None:
        raise invalid("latent", "seed and latent cannot be combined")
    most = 1.0 if spec.input.distribution == "uniform" else np.inf
    response_format = negotiate(accept, spec.output, request.format, request.layout, count)
    latent = None if request.latent is None else latent_of(request.latent, spec, "latent", "the latent")
    center = Source(seed, latent, class_of(request.label, spec, "label", "label", seed is not None))
    return SampleQuery(
        endpoint="/neighbors",
        body=request,
        chosen={"neighbor_seed": first} if seed is None else {"neighbor_seed": first, "seed": seed},
        model=model,
        response_format=response_format,
        sources=[center],
        num_samples=count,
        error_field=field,
        transform=Neighborhood(request.angle, range(first, first + count), most),
        truncation=request.truncation or 1.0,
        edit=edit_of(request, model),
    )
