"""`latentd reproduce`."""

import base64
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import av
import click
import httpx
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageSequence, UnidentifiedImageError
from pydantic import BaseModel, ConfigDict, Field, JsonValue

from latentd.models.outputs.animation import MEDIA_TYPES
from latentd.models.outputs.image import ImageOutput
from latentd.models.outputs.metadata import read_metadata

_TIMEOUT_SECONDS = 600.0
_FORMATS = {"PNG": "png", "JPEG": "jpeg", "WEBP": "webp", "GIF": "gif"}
_NAMED = ("label", "truncation", "directions", "directions_version")
"""What a sample's name says in the words of a request."""
_MEDIA_TYPES = ImageOutput.media_types | MEDIA_TYPES


class _Name(BaseModel):
    """What a file says of itself; it may have been written by anybody."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)

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
    endpoint: Literal["/generate", "/interpolate", "/mix", "/neighbors"] = "/generate"
    request: dict[str, JsonValue] | None = None
    index: int | None = Field(None, ge=0)


@dataclass(frozen=True)
class Recipe:
    """How a file was made."""

    endpoint: str
    body: dict[str, Any]
    fingerprint: str
    index: int | None
    """Which of the answer's samples the file is; None: all of the answer."""
    media_type: str
    """The file's, or of an answer that holds it."""


@click.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@click.option("--url", default="http://127.0.0.1:3000", show_default=True, help="The service to ask.")
def reproduce(file: Path, url: str) -> None:
    """Make FILE again from the request that it carries, and say whether it is the same.

    Reads PNG, APNG, WebP, JPEG, GIF and MP4 files that a latentd service made. Exits with 1 where the bytes are not
    the same.
    """
    content = file.read_bytes()
    recipe = _read(content, file)
    click.echo(f"POST {recipe.endpoint} {json.dumps(recipe.body)}")
    again, fingerprint = _ask(url, recipe)
    if again == content:
        click.echo("the same bytes")
        return
    if fingerprint == recipe.fingerprint:
        raise click.ClickException(
            f"other bytes, though the service has the fingerprint {fingerprint} that the file was made with; "
            f"was the file changed? {_compared(content, again)}"
        )
    raise click.ClickException(
        f"other bytes: the file was made with the fingerprint {recipe.fingerprint}, "
        f"the service has {fingerprint}; {_compared(content, again)}"
    )


def _read(content: bytes, file: Path) -> Recipe:
    text = read_metadata(content)
    if text is None:
        raise click.ClickException(
            f"{file} does not say how it was made, or is damaged; "
            "latentd's PNG, APNG, WebP, JPEG, GIF and MP4 files do, .npy cannot"
        )
    try:
        name = _Name.model_validate_json(text)
        if name.scale is not None:
            raise click.ClickException(
                f"{file} was enlarged {name.scale} times, by POST /v1/images/generations; make it again with its "
                f"seed {name.seed}, size and model {name.model}@{name.version} there"
            )
        if name.request is not None:
            media_type = "application/json" if name.index is not None else _MEDIA_TYPES[str(name.request["format"])]
            return Recipe(name.endpoint, name.request, name.fingerprint, name.index, media_type)
        format_name = _format_of(content)
        return Recipe(name.endpoint, _body(name, format_name), name.fingerprint, None, _MEDIA_TYPES[format_name])
    except (ValueError, KeyError) as problem:
        raise click.ClickException(f"{file} carries no request of latentd's: {text[:200]!r}") from problem


def _body(name: _Name, format_name: str) -> dict[str, Any]:
    """The request for a sample by its own name."""
    body: dict[str, Any] = {"model": f"{name.model}@{name.version}", "format": format_name}
    if name.latent is not None:
        body["latents"] = [np.frombuffer(base64.b64decode(name.latent), dtype="<f4").astype(float).tolist()]
    elif name.seed is not None:
        body["seed"] = name.seed
    else:
        raise ValueError("neither a seed nor a latent")
    return body | {key: value for key in _NAMED if (value := getattr(name, key)) is not None}


def _format_of(content: bytes) -> str:
    with Image.open(io.BytesIO(content)) as picture:
        return _FORMATS[picture.format or ""]


def _ask(url: str, recipe: Recipe) -> tuple[bytes, str]:
    """The bytes, and the fingerprint of the service that made them."""
    try:
        answer = httpx.post(
            url.rstrip("/") + recipe.endpoint,
            json=recipe.body,
            headers={"Accept": recipe.media_type},
            timeout=_TIMEOUT_SECONDS,
        )
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as problem:  # the last: a latent that is not finite
        raise click.ClickException(f"{url} cannot be asked: {problem}") from problem
    if not answer.is_success:
        raise click.ClickException(f"{url} does not make it: {_reason(answer)}")
    fingerprint = answer.headers.get("x-latentd-fingerprint", "")
    if recipe.index is None:
        return answer.content, fingerprint
    try:
        return base64.b64decode(answer.json()["samples"][recipe.index]["data"]), fingerprint
    except (ValueError, LookupError, TypeError) as problem:
        raise click.ClickException(f"the answer of {url} has no sample {recipe.index}") from problem


def _reason(answer: httpx.Response) -> str:
    try:
        error = answer.json()["error"]
        return f"{error['code']}: {error['message']}"
    except (ValueError, KeyError, TypeError):
        return f"it answers with the status {answer.status_code}"


def _compared(one: bytes, other: bytes) -> str:
    try:
        first, second = _pixels(one), _pixels(other)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as problem:
        return f"their pictures cannot be compared: {problem}"
    if first.shape != second.shape:
        return f"its pictures differ in size: {first.shape} and {second.shape}"
    return f"the largest difference of a pixel is {int(np.abs(first - second).max())} of 255"


def _pixels(content: bytes) -> NDArray[np.int16]:
    """A picture's or a film's frames [N, H, W, 3]."""
    try:
        with Image.open(io.BytesIO(content)) as picture:
            frames = [np.asarray(frame.convert("RGB")) for frame in ImageSequence.Iterator(picture)]
    except UnidentifiedImageError:
        with av.open(io.BytesIO(content), "r") as film:
            frames = [frame.to_ndarray(format="rgb24") for frame in film.decode(video=0)]
    return np.stack(frames).astype(np.int16)
