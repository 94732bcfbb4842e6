"""All settings of the service: `LATENTD_*` environment variables, read and validated once."""

import os
import re
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from latentd.models.file_names import SUFFIX
from latentd.models.names import default_paths
from latentd.models.promotions import PROMOTED
from latentd.models.run_folder import is_run_folder
from latentd.service.catalog.store import PREFIX, model_folder

_CATALOG_PATH = re.compile(rf"{PREFIX}[^:{os.pathsep}]+:[^:{os.pathsep}]+|[^{os.pathsep}]+")
"""A path, or a tag of BentoML's model store. Tags contain colons, and on Unix colons also separate paths."""


class Settings(BaseSettings):
    """Each field is the variable `LATENTD_` and its name in capitals."""

    model_config = SettingsConfigDict(env_prefix="LATENTD_", frozen=True)

    models: str = ""
    """Folders, files and bento:NAME:VERSION to serve, with os.pathsep between them. Empty: the shipped checkpoints, the
    runs in runs/, and the promoted versions in promoted/."""
    default_model: str = "fashion-dcgan"
    """The model of requests that name none. If the catalog does not have it, the first model by name."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    determinism: Literal["bitwise", "off"] = "bitwise"
    """`off`: forward passes of any size, without the promise that a sample's bits do not depend on its batch."""
    model_memory: int | None = Field(default=None, ge=1)
    """Bytes of weights on the device at a time. The least recently used model leaves first. Default: half of the
    device's memory."""
    max_samples: int = Field(default=256, ge=1, le=1024)
    """Samples that one request may ask for."""
    max_frames: int = Field(default=1024, ge=2)
    """Frames that one request may ask for."""
    max_queue: int = Field(default=4096, ge=1)
    """Samples that may wait. If there are more, requests are answered with 429."""
    max_requests: int = Field(default=256, ge=1)
    """Requests that may be in progress. If there are more, requests are answered with 429 before they are read."""
    max_body: int = Field(default=8 * 2**20, ge=1024)
    """Bytes that a request's body may have. A larger one is answered with 413."""
    receive_timeout: float = Field(default=30.0, gt=0)
    """Seconds that a client has to send the headers of a request, and as many to send its body."""
    send_timeout: float = Field(default=30.0, gt=0)
    """Seconds that a client has to read 256 KiB of an answer."""
    tokens_file: Path | None = None
    """A file with one token on each line. If it is set, clients need a token. It is read again when it changes."""
    tokens: SecretStr = SecretStr("")
    """The lines of a tokens file with `;` between them, instead of the file."""
    metrics_token: SecretStr = SecretStr("")
    """The token for /metrics. Empty: /metrics needs none."""
    timeout: float = Field(default=60.0, gt=0)
    """Seconds after which a request is answered with 504. A request can set a shorter time with X-Request-Timeout."""
    log: Literal["auto", "json", "console"] = "auto"
    """The format of the log: JSON objects, or text for people. `auto`: text on a terminal, JSON elsewhere."""
    access_log: Literal["on", "off"] = "on"
    """Whether the log has a line for each request."""
    drain: float = Field(default=30.0, gt=0)
    """Seconds that requests have to finish after SIGTERM."""

    @model_validator(mode="after")
    def _one_request_fits_the_queue(self) -> Self:
        if self.max_samples > self.max_queue:
            raise ValueError("LATENTD_MAX_SAMPLES must not exceed LATENTD_MAX_QUEUE")
        return self

    def promotions_folder(self) -> Path | None:
        """The folder that promotions are written to: the last one of the catalog, so that no other one counts more.

        None if LATENTD_MODELS names no folder besides those of runs and of BentoML's store.
        """
        if not self.models:
            return PROMOTED
        parts = [Path(part) for part in _CATALOG_PATH.findall(self.models) if not part.startswith(PREFIX)]
        folders = [path for path in parts if path.suffix != SUFFIX and not is_run_folder(path)]
        return folders[-1] if folders else None

    def catalog_paths(self) -> list[Path]:
        """The folders and files of the catalog, in order. If several have a model of one name, the last one wins."""
        if self.models:
            parts = _CATALOG_PATH.findall(self.models)
            return [model_folder(part) if part.startswith(PREFIX) else Path(part) for part in parts]
        return default_paths()
