"""Interpolation the model's directions: how far every sample of a request is moved, after truncation."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from latentd.models.directions import add_offset
from latentd.service.catalog import ServedModel
from latentd.service.errors import ApiError, invalid
from latentd.service.schemas import SamplesRequest

EDIT_FIELDS = _AMOUNTS, _VERSION = "directions", "directions_version"
"""Of requests, and of what names a sample."""


@dataclass(frozen=True)
class DirectionEdit:
    """Directions that a request goes along, of one version."""

    amounts: Mapping[str, float]
    """None of them 0."""
    version: str
    vector: NDArray[np.float64]
    """[dim] of z or of w."""

    @property
    def facts(self) -> dict[str, object]:
        """What names it, as requests and files have it."""
        return {_AMOUNTS: dict(self.amounts), _VERSION: self.version}

    def applied(self, places: NDArray[np.float32]) -> NDArray[np.float32]:
        """Places [N, dim] or w [N, layers, dim], moved; ApiError 400 where that is too far."""
        found = add_offset(places, self.vector)
        if not np.isfinite(found).all():
            raise invalid(_AMOUNTS, "these amounts lead too far for float32")
        return found


def edit_of(request: SamplesRequest, model: ServedModel) -> DirectionEdit | None:
    """What `request` asks for; None where it asks for nothing, which amounts of 0 are.

    ApiError 400 where `model` has no such directions, 404 where those that are pinned are not served.
    """
    found = model.directions
    pinned = request.directions_version
    if pinned is not None and pinned != model.directions_version:
        served = f"has the directions {found.version}" if found else "has no directions"
        message = f"{model.name} {served} now, not {pinned!r}"
        raise ApiError(404, "version_not_served", message, _VERSION)
    if not request.directions:
        return None
    if found is None:
        raise invalid(_AMOUNTS, f"{model.name} has no directions; latentd directions finds some")
    for name in request.directions:
        if name not in found.vectors:
            raise invalid(_AMOUNTS, f"{model.name} has no direction {name!r}; known are {', '.join(found.names)}")
    amounts = {name: amount for name, amount in request.directions.items() if amount != 0.0}
    return DirectionEdit(amounts, found.version, found.offset(amounts)) if amounts else None
