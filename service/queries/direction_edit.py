"""Directions in a request: every sample is moved along them, after truncation."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from latentd.models.directions import add_offset
from latentd.models.stage_input import Rows
from latentd.models.suggestions import did_you_mean
from latentd.service.catalog import ServedModel
from latentd.service.errors import ApiError, invalid
from latentd.service.request_schemas import SamplesRequest

EDIT_FIELDS = _AMOUNTS, _VERSION = "directions", "directions_version"
"""The names of the fields, in requests and in embedded metadata."""


@dataclass(frozen=True)
class DirectionEdit:
    """An offset along directions, and the version of the directions."""

    amounts: Mapping[str, float]
    """For each direction: the amount, in standard deviations of the latents. Zeros are left out."""
    version: str
    offset: NDArray[np.float64]
    """[dim] of z or of w."""

    @property
    def fields(self) -> dict[str, object]:
        """The edit as fields of a request or of embedded metadata."""
        return {_AMOUNTS: dict(self.amounts), _VERSION: self.version}

    def apply(self, latents: Rows) -> Rows:
        """Add the offset to latents [N, dim], or to w [N, layers, dim]. Raises ApiError 400 if the sum overflows."""
        edited = add_offset(latents, self.offset)
        if not np.isfinite(edited).all():
            raise invalid(_AMOUNTS, "the latents moved by these amounts are too large for float32")
        return edited


def direction_edit(request: SamplesRequest, model: ServedModel) -> DirectionEdit | None:
    """Return the edit that `request` names; None if all amounts are 0 or absent.

    Raises ApiError 400 if `model` does not have these directions, and 404 if their pinned version is not served.
    """
    directions = model.directions
    pinned = request.directions_version
    if pinned is not None and pinned != model.directions_version:
        served = f"has the directions {directions.version}" if directions else "has no directions"
        raise ApiError(404, "version_not_served", f"{model.name} {served} now, not {pinned!r}", _VERSION)
    if not request.directions:
        return None
    if directions is None:
        raise invalid(_AMOUNTS, f"{model.name} has no directions; `latentd directions` finds some")
    for name in request.directions:
        if name not in directions.vectors:
            suggested, known = did_you_mean(name, directions.names), ", ".join(directions.names)
            raise invalid(_AMOUNTS, f"{model.name} has no direction {name!r}{suggested}; it has {known}")
    amounts = {name: amount for name, amount in request.directions.items() if amount != 0.0}
    return DirectionEdit(amounts, directions.version, directions.offset(amounts)) if amounts else None
