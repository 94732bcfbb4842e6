"""The handlers of `/models` and the paths below it: what is served."""

from starlette.requests import Request

from latentd.models.files import printable
from latentd.service.catalog import ListedVersion, ServedModel
from latentd.service.errors import ApiError
from latentd.service.queries.fields import model_fields
from latentd.service.response_schemas import (
    Determinism,
    DirectionsAnswer,
    FailedFile,
    Limits,
    ModelAnswer,
    ModelsAnswer,
    SurfaceAnswer,
    VersionAnswer,
)
from latentd.service.runtime import Runtime
from latentd.service.settings import Settings


async def list_models(runtime: Runtime, request: Request) -> ModelsAnswer:
    """Return all models, and the files that cannot be served."""
    del request
    catalog = runtime.catalog
    names = catalog.names
    return ModelsAnswer(
        default=catalog.default.name if catalog.default else None,
        models=[_describe(names.models[name], runtime.settings) for name in sorted(names.models)],
        versions=[_describe_version(each) for each in names.listed],
        failures=[FailedFile(file=failure.file, error=failure.error) for failure in catalog.failures],
    )


async def show_model(runtime: Runtime, request: Request) -> ModelAnswer:
    """Return a model's card, limits and determinism. It is loaded if it never was, because they are unknown before."""
    model = _model(runtime, request)
    if not model.was_loaded:
        await runtime.catalog.ensure_deployed(model)
    return _describe(model, runtime.settings)


async def list_directions(runtime: Runtime, request: Request) -> DirectionsAnswer:
    """Return a model's directions; an empty list for a model without any."""
    model = _model(runtime, request)
    found, space = model.directions, model.card.spec.input.direction_space
    return DirectionsAnswer(
        model=model.name,
        version=model.version,
        directions_version=model.directions_version,
        space=space.space if space else None,
        directions=list(found.card.directions) if found else [],
    )


async def show_surface(runtime: Runtime, request: Request) -> SurfaceAnswer:
    """Return the logits of a model's discriminator over the plane. Raises ApiError 404 if the model has none."""
    model = _model(runtime, request)
    if model.decision_surface is None:
        raise ApiError(404, "no_surface", f"{model.name} has no decision surface beside its checkpoint")
    return SurfaceAnswer(
        model=model.name,
        version=model.version,
        extent=model.decision_surface.extent,
        values=model.decision_surface.logits.tolist(),
    )


def _model(runtime: Runtime, request: Request) -> ServedModel:
    return runtime.catalog.find(request.path_params["name"])


def _describe(model: ServedModel, settings: Settings) -> ModelAnswer:
    output = model.card.spec.output
    return ModelAnswer(
        name=model.name,
        version=model.version,
        directions_version=model.directions_version,
        surface=model.decision_surface is not None,
        formats=list(output.media_types),
        films=dict(output.animation_types),
        shape=list(output.shape),
        media_types={output.default_format: output.media_types[output.default_format]} | output.media_types,
        layouts={name: list(output.layouts(name)) for name in output.media_types},
        operations=sorted(model.card.spec.input.operations),
        fields=model_fields(model),
        limits=Limits(max_samples=settings.max_samples, max_frames=settings.max_frames),
        determinism=Determinism(
            mode=str(model.fingerprint["determinism"]),
            sizes=model.batch_sizes,
            fingerprint=dict(model.fingerprint),
            fingerprint_id=model.fingerprint_id,
        ),
        card=model.card,
    )


def _describe_version(listed: ListedVersion) -> VersionAnswer:
    model, card, current = listed.model, listed.model.card, listed.current
    is_current = current is not None and current.version == model.version
    return VersionAnswer(
        name=model.name,
        version=model.version,
        current=is_current,
        hidden_by=current.reference if current is not None and not is_current else None,
        why=listed.why,
        also=list(listed.also),
        files=[printable(path.name) for path in listed.files],
        loaded=model.was_loaded,
        run=listed.run.status if listed.run else None,
        recipe=card.recipe,
        data=card.data.name,
        steps=card.steps,
        created=card.created,
        metrics=card.metrics,
        floors=card.floors,
        measured=card.measured,
    )
