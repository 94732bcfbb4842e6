"""`POST /mix`: one sample from several latents."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from latentd.models.inputs.base import Space
from latentd.models.interpolation import NoDirectionError
from latentd.models.spec import GeneratorSpec
from latentd.models.stage_input import Rows
from latentd.service.catalog import Catalog
from latentd.service.content_negotiation import negotiate
from latentd.service.errors import invalid
from latentd.service.queries.direction_edit import direction_edit
from latentd.service.queries.fields import control_values, require_known_fields, require_operation
from latentd.service.queries.query import RowTransform, SampleQuery, require_space
from latentd.service.queries.sources import resolve_sources
from latentd.service.request_schemas import MixRequest
from latentd.service.settings import Settings


@dataclass(frozen=True)
class Mixture(RowTransform):
    """There is one sample. Its row is the weighted mean of the sources' rows."""

    weights: Sequence[float]
    space: Space

    def inputs(self, sources: Rows, spec: GeneratorSpec) -> Rows:
        return spec.input.mean(sources, self.weights, self.space)[None]

    def condition(self, sources: Rows, spec: GeneratorSpec) -> Rows:
        return spec.condition.mix(sources, self.weights)[None]

    def source_of(self, sample: int) -> int | None:
        del sample
        used = [index for index, weight in enumerate(self.weights) if weight != 0.0]
        return used[0] if len(used) == 1 and self.weights[used[0]] > 0 else None


@dataclass(frozen=True)
class StyleMixing(RowTransform):
    """There is one sample. Each of its layers has the style of one source (Karras et al. 2019, section 3.1)."""

    layers: Sequence[int]

    def inputs(self, sources: Rows, spec: GeneratorSpec) -> Rows:
        return np.stack([sources[source, layer] for layer, source in enumerate(self.layers)])[None]  # [1, layers, dim]

    def condition(self, sources: Rows, spec: GeneratorSpec) -> Rows:
        return sources[:1]  # w contains the condition already

    def source_of(self, sample: int) -> int | None:
        del sample
        return self.layers[0] if len(set(self.layers)) == 1 else None


def mix_query(request: MixRequest, accept: str, catalog: Catalog, settings: Settings) -> SampleQuery:
    """Check `request` against the model that it names. Raises ApiError 400, 404 or 406, which names the wrong field."""
    del settings
    model = catalog.find(request.model)
    require_operation(model, "mix")
    require_known_fields(model, request, request.sources, "sources")
    spec = model.card.spec
    require_space(request.space, spec)
    response_format = negotiate(accept, spec.output, request.format, None, 1)
    return SampleQuery(
        endpoint="/mix",
        body=request,
        model=model,
        response_format=response_format,
        sources=resolve_sources(request.sources, request, spec, "sources"),
        num_samples=1,
        error_field="sources",
        transform=_mixture(request, spec) if request.layers is None else _style_mixing(request, request.layers, spec),
        space=request.space if request.layers is None else "w",
        truncation=request.truncation or 1.0,
        edit=direction_edit(request, model),
        controls=control_values(request, spec),
    )


def _mixture(request: MixRequest, spec: GeneratorSpec) -> Mixture:
    weights = [source.weight for source in request.sources]
    try:
        spec.input.check_weights(weights, request.space)
    except NoDirectionError as problem:
        raise invalid("sources", str(problem)) from problem
    return Mixture(weights, request.space)


def _style_mixing(request: MixRequest, layers: Sequence[int], spec: GeneratorSpec) -> StyleMixing:
    if spec.input.layers is None:
        raise invalid("layers", "this model has no per-layer styles")
    if len(layers) != spec.input.layers:
        raise invalid("layers", f"{len(layers)} layers; this model has {spec.input.layers}")
    if max(layers) >= len(request.sources):
        raise invalid("layers", f"there is no source {max(layers)}; the {len(request.sources)} sources count from 0")
    if any("weight" in source.model_fields_set for source in request.sources):
        raise invalid("layers", "layers and weights cannot be combined")
    return StyleMixing(layers)
