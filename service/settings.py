"""All settings of the service: `LATENTD_*` environment variables, read and validated once."""

import os
import re
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from latentd import models
from latentd.service.store import PREFIX, model_folder

SHIPPED = Path(models.__file__).parent / "checkpoints"
RUNS = Path("runs")
_PLACE = re.compile(rf"{PREFIX}[^:{os.pathsep}]+:[^:{os.pathsep}]+|[^{os.pathsep}]+")
"""A tag of BentoML's has colons in it, which stand between places, too."""


class Settings(BaseSettings):
    """Each field is the variable `LATENTD_` and its name in capitals."""

    model_config = SettingsConfigDict(env_prefix="LATENTD_", frozen=True)

    models: str = ""
    """Folders, files and bento:NAME:VERSION to serve, os.pathsep between; empty: the shipped checkpoints, then every
    folder in runs/."""
    default_model: str = "fashion-dcgan"
    """Served where a request names no model; the first by name if it is not in the catalog."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    determinism: Literal["bitwise", "off"] = "bitwise"
    """`off`: forward passes of any size, without the promise that a sample's bits do not depend on its batch."""
    model_memory: int | None = Field(default=None, ge=1)
    """Bytes of weights on the device at a time, the least recently used making room; default: half of its memory."""
    max_samples: int = Field(default=256, ge=1, le=1024)
    """Samples that one request may ask for."""
    max_frames: int = Field(default=1024, ge=2)
    """Frames that one request may ask for."""
    max_queue: int = Field(default=4096, ge=1)
    """Samples that may wait; beyond, requests are answered 429."""
    max_requests: int = Field(default=256, ge=1)
    """Requests under way; beyond, they are answered 429 unread."""
    max_body: int = Field(default=8 * 2**20, ge=1024)
    """Bytes of a request's body; beyond, it is answered 413."""
    receive_timeout: float = Field(default=30.0, gt=0)
    """Seconds that a client has to send a request's headers, and then its body."""
    send_timeout: float = Field(default=30.0, gt=0)
    """Seconds that a client has to take 256 KiB of an answer."""
    tokens_file: Path | None = None
    """A token a line, which clients then have to show; read again when it changes."""
    tokens: SecretStr = SecretStr("")
    """The same lines, `;` between, where there is no file."""
    metrics_token: SecretStr = SecretStr("")
    """Shown by whoever asks for /metrics; empty: anybody may."""
    timeout: float = Field(default=60.0, gt=0)
    """Seconds until a request is given up with 504; it may name a shorter time in X-Request-Timeout."""
    log: Literal["auto", "json", "console"] = "auto"
    """The log's lines: JSON objects, or for people; `auto`: the latter on a terminal."""
    access_log: Literal["on", "off"] = "on"
    """Whether the log has a line for each request."""
    drain: float = Field(default=30.0, gt=0)
    """Seconds that queued requests have to finish in once the service was told to stop."""

    @model_validator(mode="after")
    def _one_request_fits_the_queue(self) -> Self:
        if self.max_samples > self.max_queue:
            raise ValueError("LATENTD_MAX_SAMPLES must not exceed LATENTD_MAX_QUEUE")
        return self

    def catalog_paths(self) -> list[Path]:
        """The folders and files of the catalog, in order; later ones win."""
        if self.models:
            parts = _PLACE.findall(self.models)
            return [model_folder(part) if part.startswith(PREFIX) else Path(part) for part in parts]
        return [SHIPPED, *sorted(path for path in RUNS.glob("*") if path.is_dir())]
