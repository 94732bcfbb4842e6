"""`POST /mix`: one sample of several places."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from latentd.models.interpolation import (
    NoDirectionError,
    normalized_magnitudes,
    normalized_weights,
    spherical_mean,
    weighted_mean,
)
from latentd.models.spec import GeneratorSpec
from latentd.service.catalog import Catalog
from latentd.service.errors import invalid
from latentd.service.negotiate import negotiate
from latentd.service.queries.direction_edit import edit_of
from latentd.service.queries.query import Places, PointwiseTransform, SampleQuery, require_space, sources_of
from latentd.service.schemas import MixRequest
from latentd.service.settings import Settings


@dataclass(frozen=True)
class Mixture(PointwiseTransform):
    """The one sample lies among the sources, nearer to those with more weight."""

    weights: Sequence[float]
    on: Literal["sphere", "plane"]

    def places(self, sources: Places) -> Places:
        mean = spherical_mean if self.on == "sphere" else weighted_mean
        return mean(sources, self.weights)[None]

    def shares(self, sources: Places) -> Places:
        return (normalized_magnitudes(self.weights) @ sources).clip(max=1.0)[None]  # thirds may add up to a little more

    def source(self, sample: int) -> int | None:
        del sample
        used = [index for index, weight in enumerate(self.weights) if weight != 0.0]
        return used[0] if len(used) == 1 and self.weights[used[0]] > 0 else None


@dataclass(frozen=True)
class StyleMixing(PointwiseTransform):
    """The one sample has each layer's style from one of the sources."""

    layers: Sequence[int]

    def places(self, sources: Places) -> Places:
        return np.stack([sources[source, layer] for layer, source in enumerate(self.layers)])[None]  # [1, layers, dim]

    def shares(self, sources: Places) -> Places:
        return sources[:1]  # w holds the class already

    def source(self, sample: int) -> int | None:
        del sample
        return self.layers[0] if len(set(self.layers)) == 1 else None


def mix_query(request: MixRequest, accept: str, catalog: Catalog, settings: Settings) -> SampleQuery:
    """Check `request` against the model that it names; ApiError 400, 404 or 406 names the field at fault."""
    del settings
    model = catalog.find(request.model)
    spec = model.card.spec
    require_space(request.space, spec)
    response_format = negotiate(accept, spec.output, request.format, None, 1)
    return SampleQuery(
        endpoint="/mix",
        body=request,
        model=model,
        response_format=response_format,
        sources=sources_of(request.sources, request.label, spec, "sources"),
        num_samples=1,
        error_field="sources",
        transform=_blended(request, spec) if request.layers is None else _layered(request, request.layers, spec),
        space=request.space if request.layers is None else "w",
        truncation=request.truncation or 1.0,
        edit=edit_of(request, model),
    )


def _blended(request: MixRequest, spec: GeneratorSpec) -> Mixture:
    weights = [source.weight for source in request.sources]
    on_sphere = request.space == "z" and spec.input.distribution == "normal"
    if not on_sphere:
        try:
            normalized_weights(weights)
        except NoDirectionError as problem:
            raise invalid("sources", str(problem)) from problem
    return Mixture(weights, "sphere" if on_sphere else "plane")


def _layered(request: MixRequest, layers: Sequence[int], spec: GeneratorSpec) -> StyleMixing:
    if spec.input.w is None:
        raise invalid("layers", "this model has no styles a layer")
    if len(layers) != spec.input.w.layers:
        raise invalid("layers", f"{len(layers)} layers; this model has {spec.input.w.layers}")
    if max(layers) >= len(request.sources):
        raise invalid("layers", f"source {max(layers)} of {len(request.sources)}; they are counted from 0")
    if any("weight" in source.model_fields_set for source in request.sources):
        raise invalid("layers", "layers and weights cannot be combined")
    return StyleMixing(layers)
