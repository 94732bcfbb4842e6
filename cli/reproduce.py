"""`latentd reproduce`."""

import base64
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import click
import httpx
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageSequence, UnidentifiedImageError

from models.outputs.animation import MEDIA_TYPES
from models.outputs.image import ImageOutput
from models.outputs.tags import read_tag

_TIMEOUT_SECONDS = 600.0
_FORMATS = {"PNG": "png", "JPEG": "jpeg", "WEBP": "webp", "GIF": "gif"}


@dataclass(frozen=True)
class Recipe:
    """What a file says of how it was made."""

    endpoint: str
    body: dict[str, Any]
    fingerprint: str
    index: int | None
    """Which of the answer's samples the file is; None: all of the answer."""

    @property
    def accept(self) -> str:
        """The media type of the file itself, or of an answer that holds it."""
        kinds = ImageOutput.media_types | MEDIA_TYPES
        return "application/json" if self.index is not None else kinds[self.body["format"]]


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
    click.echo(f"POST {recipe.endpoint}\n{json.dumps(recipe.body, indent=2)}")
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
    text = read_tag(content)
    if text is None:
        raise click.ClickException(
            f"{file} does not say how it was made; latentd's PNG, APNG, WebP, JPEG, GIF and MP4 files do, .npy cannot"
        )
    try:
        name = json.loads(text)
        model = f"{name['model']}@{name['version']}"
        if "request" in name:
            index = name.get("index")
            layout = {} if index is None else {"layout": "separate"}
            return Recipe(name["endpoint"], name["request"] | layout, name["fingerprint"], index)
        body: dict[str, Any] = {"model": model, "format": _format_of(content)}
        if "latent" in name:
            body["latents"] = [np.frombuffer(base64.b64decode(name["latent"]), dtype="<f4").astype(float).tolist()]
        else:
            body["seed"] = name["seed"]
        body |= {key: name[key] for key in ("label", "truncation") if key in name}
        return Recipe("/generate", body, name["fingerprint"], None)
    except (ValueError, KeyError, TypeError) as problem:
        raise click.ClickException(f"{file} carries no request of latentd's: {text[:200]!r} ({problem})") from problem


def _format_of(content: bytes) -> str:
    with Image.open(io.BytesIO(content)) as picture:
        return _FORMATS[picture.format or ""]


def _ask(url: str, recipe: Recipe) -> tuple[bytes, str]:
    """The bytes, and the fingerprint of the service that made them."""
    try:
        answer = httpx.post(
            url.rstrip("/") + recipe.endpoint,
            json=recipe.body,
            headers={"Accept": recipe.accept},
            timeout=_TIMEOUT_SECONDS,
        )
    except (httpx.HTTPError, httpx.InvalidURL) as problem:
        raise click.ClickException(f"{url} cannot be asked: {problem}") from problem
    if not answer.is_success:
        raise click.ClickException(f"{url} does not make it: {_reason(answer)}")
    fingerprint = answer.headers.get("x-latentd-fingerprint", "")
    if recipe.index is None:
        return answer.content, fingerprint
    return base64.b64decode(answer.json()["samples"][recipe.index]["data"]), fingerprint


def _reason(answer: httpx.Response) -> str:
    try:
        error = answer.json()["error"]
        return f"{error['code']}: {error['message']}"
    except (ValueError, KeyError, TypeError):
        return f"it answers with the status {answer.status_code}"


def _compared(one: bytes, other: bytes) -> str:
    first, second = _pixels(one), _pixels(other)
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
