"""`POST /generate`: samples from seeds or latents."""

from collections.abc import Sequence
from typing import Any

from latentd.models.stage_input import Rows
from latentd.service.catalog import Catalog
from latentd.service.content_negotiation import negotiate
from latentd.service.errors import invalid
from latentd.service.queries.direction_edit import direction_edit
from latentd.service.queries.fields import control_values, require_known_fields, require_operation
from latentd.service.queries.query import SampleQuery, require_at_most
from latentd.service.queries.sources import ErrorLocation, Source, consecutive_seeds, parse_input, resolve_conditions
from latentd.service.request_schemas import GenerateRequest
from latentd.service.settings import Settings


def generate_query(request: GenerateRequest, accept: str, catalog: Catalog, settings: Settings) -> SampleQuery:
    """Check `request` against the model that it names. Raises ApiError 400, 404 or 406, which names the wrong field."""
    model = catalog.find(request.model)
    require_operation(model, "seed")
    require_known_fields(model, request)
    spec = model.card.spec
    count, seeds = _seeds(request, settings.max_samples)
    response_format = negotiate(accept, spec.output, request.format, request.layout, count)
    conditions = resolve_conditions(request, spec, count, has_seed=seeds is not None)
    origins: Sequence[int | Rows]
    if seeds is None:
        rows = enumerate(request.latents or [])
        origins = [parse_input(row, spec, ErrorLocation("latents", f"row {index}")) for index, row in rows]
    else:
        origins = seeds
    return SampleQuery(
        endpoint="/generate",
        body=request,
        server_choices={} if request.seeds or seeds is None else {"seed": seeds[0]},
        model=model,
        response_format=response_format,
        sources=[Source(origin, condition) for origin, condition in zip(origins, conditions, strict=True)],
        num_samples=count,
        error_field="latents",
        truncation=request.truncation or 1.0,
        edit=direction_edit(request, model),
        controls=control_values(request, spec),
    )


def _seeds(request: GenerateRequest, max_samples: int) -> tuple[int, Sequence[int] | None]:
    """Return the number of samples and their seeds; None if the request has latents instead of seeds."""
    given = [name for name in ("latents", "seeds", "seed") if getattr(request, name) is not None]
    if len(given) > 1:
        raise invalid(given[1], f"{given[0]} and {given[1]} cannot be combined")
    explicit: Sequence[Any] | None = request.latents or request.seeds
    if explicit is not None and request.num_samples is not None:
        raise invalid("num_samples", f"{given[0]} already says how many samples there are")
    count = len(explicit) if explicit is not None else request.num_samples or 1
    require_at_most(count, max_samples, given[0] if explicit else "num_samples")
    if request.latents is not None:
        return count, None
    if request.seeds is not None:
        return count, request.seeds
    return count, consecutive_seeds(request.seed, count, "seed", "the last sample's seed")
