"""Downloads, checked by their sha256."""

import gzip
import hashlib
import http.client
import urllib.request
import zlib
from pathlib import Path

from latentd.models.files import atomic_write
from latentd.training.data.source import DataError, OnProgress, TaskProgress

_CHUNK_BYTES = 256 * 1024
_TIMEOUT_SECONDS = 30


def download(url: str, path: Path, sha256: str, on_progress: OnProgress, advice: str) -> None:
    """Download a gzipped file to `path`. `sha256` is that of the decompressed content.

    Raises DataError, with `advice` at the end of its message, if the download fails or the hash differs. Then nothing
    is written.
    """
    try:
        with atomic_write(path) as temporary:
            _fetch(url, temporary, on_progress)
            found = hashlib.sha256(gzip.decompress(temporary.read_bytes())).hexdigest()
            if found != sha256:
                raise DataError(f"{url} is not the expected file (its sha256 is {found}, not {sha256}). {advice}.")
    except (OSError, EOFError, zlib.error, http.client.HTTPException) as problem:
        raise DataError(f"{url} could not be downloaded: {problem}. {advice}.") from problem


def _fetch(url: str, path: Path, on_progress: OnProgress) -> None:
    # S310: all URLs are constants of this package
    with urllib.request.urlopen(url, timeout=_TIMEOUT_SECONDS) as response, path.open("wb") as file:  # noqa: S310
        length = response.headers.get("Content-Length")
        total = int(length) if length else None
        done = 0
        while chunk := response.read(_CHUNK_BYTES):
            file.write(chunk)
            done += len(chunk)
            on_progress(TaskProgress(f"downloading {url.rsplit('/', 1)[-1]}", done, total, "bytes"))
