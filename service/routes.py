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
"""The parts of a form that are pictures, and the field that they go to."""
_SAMPLE_HEADERS = ("Model", "Version", "Fingerprint", "Seeds", "Directions", "Request")


def _samples(path: str, summary: str, body: type[BaseModel], to_query: ToQuery, animated: bool = False) -> Route:
    """Return a route that answers with samples. `animated`: they follow each other, as frames or events."""
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
    _samples("/generate", "samples of seeds or latents", GenerateRequest, generate_query),
    _samples(
        "/interpolate",
        "a path through latent space, frame by frame or as an animation",
        InterpolateRequest,
        interpolate_query,
        animated=True,
    ),
    _samples("/mix", "one sample of several places in latent space", MixRequest, mix_query),
    _samples("/neighbors", "samples at an angle around a place in latent space", NeighborsRequest, neighbors_query),
    replace(
        _samples("/translate", "samples of pictures", TranslateRequest, translate_query),
        handler=sample_handler(
            native_parser(TranslateRequest, translate_query, {"image": "images", "images": "images"}),
            (MULTIPART,),
            on_thread=True,
        ),
        body_types=(JSON, MULTIPART),
    ),
    Route(
        method="GET",
        path="/models",
        tag="models",
        summary="what is served, and which files are not",
        handler=list_models,
        answers={JSON: ModelsAnswer},
    ),
    _model(
        path="/models/{name}",
        name="model",
        summary="a model's card, limits and determinism",
        handler=show_model,
        answers={JSON: ModelAnswer},
    ),
    _model(
        path="/models/{name}/directions",
        name="directions",
        summary="the directions that a model's samples can be moved along",
        handler=list_directions,
        answers={JSON: DirectionsAnswer},
    ),
    _model(
        path="/models/{name}/surface",
        name="decisionsurface",
        summary="the logits of the discriminator of a model of 2-D points",
        handler=show_surface,
        answers={JSON: SurfaceAnswer},
    ),
    *openai.ROUTES,
    *kserve.ROUTES,
    _page(
        path="/docs.json",
        name="document",
        summary="this document",
        handler=show_document,
        answers={JSON: dict[str, Any]},
    ),
    _page(path="/explore", summary="a page to play with models", handler=show_page, answers={"text/html": str}),
    _page(
        path="/explore/{build}/{name}",
        name="explore_part",
        summary="the files of that page",
        handler=show_asset,
        answers=dict.fromkeys(ASSET_TYPES, str),
        errors=(404,),
    ),
    _bentoml(path="/", name="swagger", tag="pages", summary="BentoML's page about itself", answers={"text/html": str}),
    _bentoml(path="/schema.json", name="bentoml", summary="for BentoML's clients", answers={JSON: dict[str, Any]}),
    _bentoml(path="/livez", summary="whether the process lives", answers={"text/plain": str}, errors=(503,)),
    _bentoml(path="/readyz", summary="whether there is a model to serve", answers={"text/plain": str}, errors=(503,)),
    _bentoml(path="/healthz", summary="as /livez", answers={"text/plain": str}, errors=(503,)),
    _bentoml(path="/metrics", summary="for Prometheus", access="metrics", answers={"text/plain": str}),
)
