"""Fetching a file: whole and checked, or not at all."""

import gzip
import hashlib
import http.client
import urllib.request
import zlib
from pathlib import Path

from latentd.models.files import atomic_write
from latentd.training.data.source import DataError, OnProgress, TaskProgress

_CHUNK = 256 * 1024
_TIMEOUT_SECONDS = 30


def download(url: str, path: Path, sha256: str, on_progress: OnProgress, otherwise: str) -> None:
    """Fetch a gzipped file to `path`, once the sha256 of what it unpacks to was found right.

    Raises DataError where it cannot be had or is not what was expected; `otherwise` says what to do then.
    """
    try:
        with atomic_write(path) as temporary:
            _fetch(url, temporary, on_progress)
            found = hashlib.sha256(gzip.decompress(temporary.read_bytes())).hexdigest()
            if found != sha256:
                raise DataError(f"{url} is not the file it should be (sha256 {found}, expected {sha256}). {otherwise}.")
    except (OSError, EOFError, zlib.error, http.client.HTTPException) as problem:
        raise DataError(f"{url} could not be fetched: {problem}. {otherwise}.") from problem


def _fetch(url: str, path: Path, on_progress: OnProgress) -> None:
    with urllib.request.urlopen(url, timeout=_TIMEOUT_SECONDS) as answer, path.open("wb") as file:  # noqa: S310  # ours alone
        length = answer.headers.get("Content-Length")
        total = int(length) if length else None
        done = 0
        while chunk := answer.read(_CHUNK):
            file.write(chunk)
            done += len(chunk)
            on_progress(TaskProgress(f"fetching {url.rsplit('/', 1)[-1]}", done, total, "bytes"))
