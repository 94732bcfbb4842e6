"""`POST /generate`: samples of seeds or latents."""

from collections.abc import Sequence
from typing import Any

from latentd.models.latents import MAX_SEED
from latentd.models.spec import GeneratorSpec
from latentd.service.catalog import Catalog
from latentd.service.errors import invalid
from latentd.service.negotiate import negotiate
from latentd.service.queries.direction_edit import edit_of
from latentd.service.queries.query import Class, SampleQuery, Source, class_of, draw_seed, latent_of, require_at_most
from latentd.service.schemas import GenerateRequest
from latentd.service.settings import Settings


def generate_query(request: GenerateRequest, accept: str, catalog: Catalog, settings: Settings) -> SampleQuery:
    """Check `request` against the model that it names; ApiError 400, 404 or 406 names the field at fault."""
    model = catalog.find(request.model)
    spec = model.card.spec
    count, seeds = _seeds(request, settings.max_samples)
    response_format = negotiate(accept, spec.output, request.format, request.layout, count)
    classes = _classes(request, spec, count)
    if seeds is None:
        rows = enumerate(request.latents or [])
        latents = [latent_of(row, spec, "latents", f"row {index}") for index, row in rows]
        sources = [Source(None, latent, each) for latent, each in zip(latents, classes, strict=True)]
    else:
        sources = [Source(seed, None, each) for seed, each in zip(seeds, classes, strict=True)]
    return SampleQuery(
        endpoint="/generate",
        body=request,
        chosen={} if request.seeds or seeds is None else {"seed": seeds[0]},
        model=model,
        response_format=response_format,
        sources=sources,
        num_samples=count,
        error_field="latents",
        truncation=request.truncation or 1.0,
        edit=edit_of(request, model),
    )


def _seeds(request: GenerateRequest, max_samples: int) -> tuple[int, Sequence[int] | None]:
    """How many samples, and their seeds; None where the request brings latents."""
    sources = [name for name in ("latents", "seeds", "seed") if getattr(request, name) is not None]
    if len(sources) > 1:
        raise invalid(sources[1], f"{sources[0]} and {sources[1]} cannot be combined")
    explicit: Sequence[Any] | None = request.latents or request.seeds
    if explicit is not None and request.num_samples is not None:
        raise invalid("num_samples", f"{sources[0]} already says how many samples there are")
    count = len(explicit) if explicit is not None else request.num_samples or 1
    require_at_most(count, max_samples, sources[0] if explicit else "num_samples")
    if request.latents is not None:
        return count, None
    if request.seeds is not None:
        return count, request.seeds
    last_first = MAX_SEED - (count - 1)
    first = draw_seed(last_first) if request.seed is None else request.seed
    if first > last_first:
        raise invalid("seed", f"the last sample's seed would be {first + count - 1}, past {MAX_SEED}")
    return count, range(first, first + count)


def _classes(request: GenerateRequest, spec: GeneratorSpec, count: int) -> Sequence[Class | None]:
    has_seed = request.latents is None
    if isinstance(request.label, list):
        if len(request.label) != count:
            raise invalid("label", f"{len(request.label)} labels for {count} samples; give one, or one a sample")
        return [class_of(label, spec, "label", "label", has_seed) for label in request.label]
    return [class_of(request.label, spec, "label", "label", has_seed)] * count
