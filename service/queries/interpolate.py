"""`POST /interpolate`: frames of a path through latent space."""

from dataclasses import dataclass

from latentd.models.encoding.animation import MAX_GIF_FPS, MAX_PIXELS, MAX_SECONDS, MAX_SIDE, AnimationOptions
from latentd.models.interpolation import KeyframePath, Method
from latentd.models.spec import GeneratorSpec
from latentd.models.stage_input import Rows
from latentd.service.catalog import Catalog
from latentd.service.content_negotiation import ResponseFormat, negotiate_frames
from latentd.service.errors import invalid
from latentd.service.queries.direction_edit import direction_edit
from latentd.service.queries.fields import control_values, require_known_fields, require_operation
from latentd.service.queries.query import RowTransform, SampleQuery, require_at_most, require_space
from latentd.service.queries.sources import resolve_sources
from latentd.service.request_schemas import InterpolateRequest
from latentd.service.settings import Settings

_FPS = 24
_ANIMATION_FIELDS = ("fps", "scale", "filter")


@dataclass(frozen=True)
class Interpolation(RowTransform):
    """The samples are the frames of a path through the sources."""

    path: KeyframePath
    method: Method

    def inputs(self, sources: Rows, spec: GeneratorSpec) -> Rows:
        return self.path.interpolate(sources, self.method)

    def condition(self, sources: Rows, spec: GeneratorSpec) -> Rows:
        return spec.condition.interpolate(sources, self.path)

    def source_of(self, sample: int) -> int | None:
        return self.path.keyframe_at(sample)


def interpolate_query(request: InterpolateRequest, accept: str, catalog: Catalog, settings: Settings) -> SampleQuery:
    """Check `request` against the model that it names. Raises ApiError 400, 404 or 406, which names the wrong field."""
    model = catalog.find(request.model)
    require_operation(model, "interpolate")
    require_known_fields(model, request, request.keyframes, "keyframes")
    spec = model.card.spec
    require_space(request.space, spec)
    path = KeyframePath(len(request.keyframes), request.steps, request.loop, request.easing)
    require_at_most(len(path), settings.max_frames, "steps", "frames")
    response_format = negotiate_frames(accept, spec.output, request.format, request.layout, len(path))
    return SampleQuery(
        endpoint="/interpolate",
        body=request,
        model=model,
        response_format=response_format,
        sources=resolve_sources(request.keyframes, request, spec, "keyframes"),
        num_samples=len(path),
        error_field="keyframes",
        transform=Interpolation(path, request.method or spec.input.interpolation_method(request.space)),
        space=request.space,
        truncation=request.truncation or 1.0,
        edit=direction_edit(request, model),
        controls=control_values(request, spec),
        chunked=True,
        animation=_animation_options(request, response_format, spec.output.frame_size, len(path)),
    )


def _animation_options(
    request: InterpolateRequest, response_format: ResponseFormat, frame_size: tuple[int, int] | None, frames: int
) -> AnimationOptions | None:
    if not response_format.animated or frame_size is None:
        for field in _ANIMATION_FIELDS:
            if getattr(request, field) is not None:
                raise invalid(field, f'{field} is for animations; ask for layout "animation"')
        return None
    if response_format.format == "gif" and (request.fps or _FPS) > MAX_GIF_FPS:
        raise invalid("fps", f"a GIF has at most {MAX_GIF_FPS} frames per second; players slow down faster ones")
    if frames > MAX_SECONDS * (request.fps or _FPS):
        raise invalid("fps", f"the animation would last longer than {MAX_SECONDS} seconds")
    options = AnimationOptions(request.fps or _FPS, request.scale or 1, request.filter or "nearest")
    height, width = (side * options.scale for side in frame_size)
    if max(height, width) > MAX_SIDE:
        raise invalid(
            "scale", f"the animation would be {width} × {height} pixels; at most {MAX_SIDE} per side are possible"
        )
    if frames * height * width > MAX_PIXELS:
        most = MAX_PIXELS // (height * width)
        raise invalid(
            "scale", f"{frames} frames of {width} × {height} pixels; at this size, at most {most} frames are possible"
        )
    return options
