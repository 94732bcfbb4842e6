"""The routes that answer with samples: what each takes, and how it becomes a plan."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from service.catalog import Catalog
from service.plans.generate import plan_generate
from service.plans.interpolate import plan_interpolate
from service.plans.mix import plan_mix
from service.plans.neighbors import plan_neighbors
from service.plans.plan import Plan
from service.schemas import GenerateRequest, InterpolateRequest, MixRequest, NeighborsRequest
from service.settings import Settings


@dataclass(frozen=True)
class Endpoint:
    """A route, the body that it takes, and what checks it: (body, Accept, catalog, settings) → plan."""

    path: str
    body: type[BaseModel]
    plan: Callable[[Any, str, Catalog, Settings], Plan]


ENDPOINTS = (
    Endpoint("/generate", GenerateRequest, plan_generate),
    Endpoint("/interpolate", InterpolateRequest, plan_interpolate),
    Endpoint("/mix", MixRequest, plan_mix),
    Endpoint("/neighbors", NeighborsRequest, plan_neighbors),
)
