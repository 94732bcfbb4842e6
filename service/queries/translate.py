"""`POST /translate`: samples from pictures, or from other files."""

import base64
import binascii
from collections.abc import Sequence

from latentd.models.provenance import Provenance
from latentd.models.stage_input import Rows
from latentd.service.catalog import Catalog, ServedModel
from latentd.service.content_negotiation import negotiate
from latentd.service.errors import invalid
from latentd.service.queries.fields import control_values, require_known_fields, require_operation
from latentd.service.queries.query import SampleQuery, require_at_most
from latentd.service.queries.sources import Source, resolve_conditions
from latentd.service.request_schemas import TranslateRequest
from latentd.service.settings import Settings

_MAX_PIXELS = 2**26
"""Pixels of all pictures of a request. Reading this many takes about a second."""


def translate_query(request: TranslateRequest, accept: str, catalog: Catalog, settings: Settings) -> SampleQuery:
    """Check `request` against the model that it names, and read its files.

    It may take a second, so call it on a thread. Raises ApiError 400, 404 or 406, which names the wrong field.
    """
    model = catalog.find(request.model)
    require_operation(model, "translate")
    require_known_fields(model, request)
    spec = model.card.spec
    count = len(request.images)
    require_at_most(count, settings.max_samples, "images", "pictures")
    response_format = negotiate(accept, spec.output, request.format, request.layout, count)
    conditions = resolve_conditions(request, spec, count, has_seed=False)
    sources = [
        Source(row, condition, provenance)
        for (row, provenance), condition in zip(_read(request.images, model), conditions, strict=True)
    ]
    return SampleQuery(
        endpoint="/translate",
        body=request,
        server_choices={"images": [dict(source.file_provenance or {}) for source in sources]},
        model=model,
        response_format=response_format,
        sources=sources,
        num_samples=count,
        error_field="images",
        controls=control_values(request, spec),
    )


def _read(images: Sequence[str], model: ServedModel) -> Sequence[tuple[Rows, Provenance]]:
    """Decode files in base64. All headers are checked before any file is read, so that too much work never begins."""
    kind = model.card.spec.input
    files = []
    pixels = 0
    for index, text in enumerate(images):
        where = f"picture {index}"
        try:
            files.append(base64.b64decode(text, validate=True))
            pixels += kind.count_pixels(files[-1])
        except binascii.Error as problem:
            raise invalid("images", f"{where} is not base64: {problem}") from problem
        except ValueError as problem:
            raise invalid("images", f"{where} {problem}") from problem
    require_at_most(pixels, _MAX_PIXELS, "images", "pixels")
    rows = []
    for index, file in enumerate(files):
        try:
            rows.append(kind.read(file))
        except ValueError as problem:
            raise invalid("images", f"picture {index} {problem}") from problem
    return rows
