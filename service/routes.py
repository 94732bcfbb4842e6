"""The table of all routes: the router, the metrics, BentoML's declarations and the OpenAPI document are made from it.

To add an endpoint, write its handler and add its Route here.
"""

from dataclasses import replace
from functools import cache, partial
from typing import Any

import orjson
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from latentd.models.encoding import animation
from latentd.models.kind import kinds
from latentd.service.content_negotiation import EVENTS, JSON
from latentd.service.explorer import ASSET_TYPES, show_asset, show_page
from latentd.service.guard.multipart import MULTIPART
from latentd.service.model_routes import list_directions, list_models, show_model, show_surface
from latentd.service.openapi_document import document
from latentd.service.protocols import kserve, openai
from latentd.service.queries.generate import generate_query
from latentd.service.queries.interpolate import interpolate_query
from latentd.service.queries.mix import mix_query
from latentd.service.queries.neighbors import neighbors_query
from latentd.service.queries.translate import translate_query
from latentd.service.request_schemas import (
    GenerateRequest,
    InterpolateRequest,
    MixRequest,
    NeighborsRequest,
    TranslateRequest,
)
from latentd.service.response_schemas import DirectionsAnswer, ModelAnswer, ModelsAnswer, SamplesAnswer, SurfaceAnswer
from latentd.service.route import Route
from latentd.service.samples.handler import ToQuery, in_process, native_parser, sample_handler

_OUTPUTS = kinds("latentd.models.outputs").values()
_SAMPLE_TYPES = {each for kind in _OUTPUTS for each in kind.media_types.values()} - {JSON}
_ANIMATION_TYPES = set(animation.MEDIA_TYPES.values())
_PICTURES = {"image": "images", "images": "images"}
"""The names of a form's parts that are pictures, and the field that lists them."""
_SAMPLE_HEADERS = ("Model", "Version", "Fingerprint", "Seeds", "Directions", "Request")


def _samples(path: str, summary: str, body: type[BaseModel], to_query: ToQuery, animated: bool = False) -> Route:
    """Return a route that answers with samples. `animated`: they may also be an animation or a stream of events."""
    answers: dict[str, Any] = {JSON: SamplesAnswer} | ({EVENTS: str} if animated else {})
    return Route(
        method="POST",
        path=path,
        summary=summary,
        handler=sample_handler(native_parser(body, to_query)),
        body=body,
        in_process=in_process(body, to_query),
        answers=answers | dict.fromkeys(sorted(_SAMPLE_TYPES | (_ANIMATION_TYPES if animated else set())), bytes),
        headers=tuple(f"X-Latentd-{name}" for name in _SAMPLE_HEADERS),
        tag="samples",
    )


async def show_document(_: object, request: Request) -> Response:
    """Return the OpenAPI document."""
    del request
    return Response(_document(), media_type=JSON)


@cache
def _document() -> bytes:
    return orjson.dumps(document(ROUTES))


_model = partial(Route, method="GET", tag="models", errors=(404,))
_page = partial(Route, method="GET", tag="pages", access="open")
_bentoml = partial(Route, method="GET", tag="service", handler=None, access="open")

ROUTES = (
    _samples("/generate", "Generate samples from seeds or latents", GenerateRequest, generate_query),
    _samples(
        "/interpolate",
        "Interpolate between latents, frame by frame or as an animation",
        InterpolateRequest,
        interpolate_query,
        animated=True,
    ),
    _samples("/mix", "Mix several latents into one sample", MixRequest, mix_query),
    _samples(
        "/neighbors", "Generate samples from the neighbors of a latent, at an angle", NeighborsRequest, neighbors_query
    ),
    replace(
        _samples("/translate", "Translate pictures with an image-to-image model", TranslateRequest, translate_query),
        handler=sample_handler(
            native_parser(TranslateRequest, translate_query, _PICTURES),
            (MULTIPART,),
            on_thread=True,
        ),
        body_types=(JSON, MULTIPART),
    ),
    Route(
        method="GET",
        path="/models",
        tag="models",
        summary="List the served models, and the files that cannot be served",
        handler=list_models,
        answers={JSON: ModelsAnswer},
    ),
    _model(
        path="/models/{name}",
        name="model",
        summary="Show a model's card, fields, limits and determinism",
        handler=show_model,
        answers={JSON: ModelAnswer},
    ),
    _model(
        path="/models/{name}/directions",
        name="directions",
        summary="List the directions along which a model's samples can be moved",
        handler=list_directions,
        answers={JSON: DirectionsAnswer},
    ),
    _model(
        path="/models/{name}/surface",
        name="decisionsurface",
        summary="Show the decision surface of a GAN of 2-D points",
        handler=show_surface,
        answers={JSON: SurfaceAnswer},
    ),
    *openai.ROUTES,
    *kserve.ROUTES,
    _page(
        path="/docs.json",
        name="document",
        summary="Return this OpenAPI document",
        handler=show_document,
        answers={JSON: dict[str, Any]},
    ),
    _page(
        path="/explore",
        summary="Show the explorer, a page for trying out models",
        handler=show_page,
        answers={"text/html": str},
    ),
    _page(
        path="/explore/{build}/{name}",
        name="explore_part",
        summary="Return the explorer's scripts and styles",
        handler=show_asset,
        answers=dict.fromkeys(ASSET_TYPES, str),
        errors=(404,),
    ),
    _bentoml(path="/", name="swagger", tag="pages", summary="Show the API in Swagger UI", answers={"text/html": str}),
    _bentoml(
        path="/schema.json",
        name="bentoml",
        summary="Return the schema that BentoML's clients read",
        answers={JSON: dict[str, Any]},
    ),
    _bentoml(path="/livez", summary="Check that the process is alive", answers={"text/plain": str}, errors=(503,)),
    _bentoml(
        path="/readyz", summary="Check that there is a model to serve", answers={"text/plain": str}, errors=(503,)
    ),
    _bentoml(path="/healthz", summary="The same as /livez", answers={"text/plain": str}, errors=(503,)),
    _bentoml(
        path="/metrics",
        summary="Return the metrics in Prometheus's text format",
        access="metrics",
        answers={"text/plain": str},
    ),
)
