"""The routes that answer with samples: what each takes, and how it becomes a plan."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from latentd.service.catalog import Catalog
from latentd.service.plans.generate import plan_generate
from latentd.service.plans.interpolate import plan_interpolate
from latentd.service.plans.mix import plan_mix
from latentd.service.plans.neighbors import plan_neighbors
from latentd.service.plans.query import SampleQuery
from latentd.service.schemas import GenerateRequest, InterpolateRequest, MixRequest, NeighborsRequest
from latentd.service.settings import Settings


@dataclass(frozen=True)
class Endpoint:
    """A route, what it gives, the body that it takes, and what checks it: (body, Accept, catalog, settings) → plan."""

    path: str
    summary: str
    body: type[BaseModel]
    plan: Callable[[Any, str, Catalog, Settings], SampleQuery]
    films: bool = False
    """Its samples follow each other, so that they can be a film, and be streamed."""


ENDPOINTS = (
    Endpoint("/generate", "samples of seeds or latents", GenerateRequest, plan_generate),
    Endpoint(
        "/interpolate",
        "a way through latent space, frame by frame or as a film",
        InterpolateRequest,
        plan_interpolate,
        films=True,
    ),
    Endpoint("/mix", "one sample of several places in latent space", MixRequest, plan_mix),
    Endpoint("/neighbors", "samples at an angle around a place in latent space", NeighborsRequest, plan_neighbors),
)
