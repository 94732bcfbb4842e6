"""From a file of a latentd service to the request that made it."""

import base64
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, JsonValue

from latentd.models.encoding.animation import MEDIA_TYPES
from latentd.models.encoding.metadata import read_metadata
from latentd.models.errors import UsageError
from latentd.models.outputs.image import ImageOutput

_FORMATS = {"PNG": "png", "JPEG": "jpeg", "WEBP": "webp", "GIF": "gif"}
_SHARED_FIELDS = ("label", "truncation", "directions", "directions_version")
"""Fields that have the same name in a sample's provenance and in a request."""
_MEDIA_TYPES = ImageOutput.media_types | MEDIA_TYPES


class _Provenance(BaseModel):
    """The provenance in a file. Anybody may have written it, so it is validated.

    Fields that are not declared here are those of the model, such as `prompt`; they go into the request.
    """

    model_config = ConfigDict(strict=True, allow_inf_nan=False, extra="allow")

    fingerprint: str = Field(max_length=100, pattern="^[0-9a-f]+$")
    model: str = Field(max_length=200)
    version: str = Field(max_length=100)
    seed: int | None = None
    latent: str | None = None
    label: str | dict[str, float] | None = None
    truncation: float | None = None
    directions: dict[str, float] | None = None
    directions_version: str | None = Field(None, max_length=100)
    scale: int | None = None
    image_sha256: str | None = None
    endpoint: Literal["/generate", "/interpolate", "/mix", "/neighbors", "/translate"] = "/generate"
    request: dict[str, JsonValue] | None = None
    index: int | None = Field(None, ge=0)


@dataclass(frozen=True)
class StoredRequest:
    """The request that made a file."""

    endpoint: str
    body: dict[str, Any]
    fingerprint: str
    index: int | None
    """Which of the answer's samples the file is; None: the whole answer."""
    media_type: str
    """The media type to ask for: the file's own, or JSON that contains it."""


def read_request(content: bytes, file: Path) -> StoredRequest:
    """Return the request in the content of `file`. Raises UsageError if it contains none that can be sent again."""
    text = read_metadata(content)
    if text is None:
        raise UsageError(
            f"{file} contains no provenance, or is damaged; "
            "PNG, APNG, WebP, JPEG, GIF and MP4 files of a latentd service contain it, .npy files cannot"
        )
    try:
        provenance = _Provenance.model_validate_json(text)
        if provenance.image_sha256 is not None or provenance.endpoint == "/translate":
            named = f" with the sha256 {provenance.image_sha256}" if provenance.image_sha256 else "s"
            raise UsageError(
                f"{file} was made of the picture{named}, which it does not contain; send it to POST /translate again, "
                f"with the model {provenance.model}@{provenance.version}"
            )
        if provenance.scale is not None:
            raise UsageError(
                f"{file} was enlarged {provenance.scale} times, by POST /v1/images/generations; make it again with its "
                f"seed {provenance.seed}, size and model {provenance.model}@{provenance.version} there"
            )
        if provenance.request is not None:
            media_type = (
                "application/json" if provenance.index is not None else _MEDIA_TYPES[str(provenance.request["format"])]
            )
            return StoredRequest(
                provenance.endpoint, provenance.request, provenance.fingerprint, provenance.index, media_type
            )
        format_name = _format_of(content)
        return StoredRequest(
            provenance.endpoint, _body(provenance, format_name), provenance.fingerprint, None, _MEDIA_TYPES[format_name]
        )
    except (ValueError, KeyError) as problem:
        raise UsageError(f"{file} contains no request to latentd: {text[:200]!r}") from problem


def _body(provenance: _Provenance, format_name: str) -> dict[str, Any]:
    """Return the request for a single sample, from its provenance."""
    body: dict[str, Any] = {"model": f"{provenance.model}@{provenance.version}", "format": format_name}
    if provenance.latent is not None:
        body["latents"] = [np.frombuffer(base64.b64decode(provenance.latent), dtype="<f4").astype(float).tolist()]
    elif provenance.seed is not None:
        body["seed"] = provenance.seed
    else:
        raise ValueError("neither a seed nor a latent")
    shared = {key: value for key in _SHARED_FIELDS if (value := getattr(provenance, key)) is not None}
    return body | shared | (provenance.model_extra or {})


def _format_of(content: bytes) -> str:
    with Image.open(io.BytesIO(content)) as picture:
        return _FORMATS[picture.format or ""]
