"""The routes that answer with samples: what each takes, and how it becomes a plan."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from latentd.service.catalog import Catalog
from latentd.service.queries.generate import generate_query
from latentd.service.queries.interpolate import interpolate_query
from latentd.service.queries.mix import mix_query
from latentd.service.queries.neighbors import neighbors_query
from latentd.service.queries.query import SampleQuery
from latentd.service.schemas import GenerateRequest, InterpolateRequest, MixRequest, NeighborsRequest
from latentd.service.settings import Settings


@dataclass(frozen=True)
class Endpoint:
    """A route, what it gives, the body that it takes, and what checks it: (body, Accept, catalog, settings) → plan."""

    path: str
    summary: str
    body: type[BaseModel]
    to_query: Callable[[Any, str, Catalog, Settings], SampleQuery]
    animations: bool = False
    """Its samples follow each other, so that they can be a film, and be streamed."""


ENDPOINTS = (
    Endpoint("/generate", "samples of seeds or latents", GenerateRequest, generate_query),
    Endpoint(
        "/interpolate",
        "a way through latent space, frame by frame or as a film",
        InterpolateRequest,
        interpolate_query,
        animations=True,
    ),
    Endpoint("/mix", "one sample of several places in latent space", MixRequest, mix_query),
    Endpoint("/neighbors", "samples at an angle around a place in latent space", NeighborsRequest, neighbors_query),
)
