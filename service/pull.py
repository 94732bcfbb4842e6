"""`python -m latentd.service.pull URL...`: promote models that `bentoml models export` wrote.

The Job in deploy/kubernetes/pull runs it to fill a volume. It needs nothing that an image does not have.
"""

import lzma
import tarfile
from pathlib import Path
from urllib.parse import urlsplit

import click
from aiohttp import ClientError
from bentoml import Model
from bentoml.exceptions import BentoMLException

from latentd.models.checkpoint import Checkpoint
from latentd.models.errors import LatentdError
from latentd.models.file_names import SUFFIX, is_sidecar
from latentd.models.files import printable
from latentd.models.promote import copy_path, promote_copy
from latentd.models.promotions import Promotion, Promotions, author, now
from latentd.service.settings import Settings


@click.command()
@click.argument("urls", nargs=-1, required=True, metavar="URL...")
def main(urls: tuple[str, ...]) -> None:
    """Promote the models at each URL, which can also be a path, in the last folder of LATENTD_MODELS.

    If the name of a model refers to that version already, and its copy is there, nothing changes.
    """
    folder = Settings().promotions_folder()
    if folder is None:
        raise click.UsageError("LATENTD_MODELS names no folder to write to; add one at its end")
    for url in urls:
        try:
            click.echo(_pull(url, folder))
        except LatentdError as problem:
            raise SystemExit(f"error: {_without_secrets(url)}: {problem}") from problem


def _pull(url: str, folder: Path) -> str:
    model = _download(url)
    paths = [path for path in sorted(Path(model.path).glob(f"*{SUFFIX}")) if not is_sidecar(path)]
    if len(paths) != 1:
        raise LatentdError(f"it contains {len(paths)} checkpoints; `latentd publish` writes models with one")
    read = Checkpoint.read(paths[0])
    before = Promotions.read(folder).current.get(read.name)
    if before == read.version and copy_path(folder, read.name, read.version).exists():
        return f"{read.name} means {read.version} already"
    entry = Promotion(
        action="promote",
        name=read.name,
        version=read.version,
        before=before,
        source=printable(_without_secrets(url)),
        by=author(),
        at=now(),
        metrics=read.card.metrics,
        measured=read.card.measured,
    )
    return f"{read.name} means {read.version} now: {promote_copy(paths[0], entry, folder)}"


def _download(url: str) -> Model:
    """Return an exported model, unpacked to a temporary folder that is deleted with it. Raises LatentdError."""
    try:
        # BentoML takes relative paths as paths from the root.
        return Model.import_from(url if "://" in url else str(Path(url).absolute()))
    except FileNotFoundError as problem:  # also fsspec's error if a server cannot be reached
        raise LatentdError("there is no such file, or its server cannot be reached") from problem
    except ImportError as problem:
        raise LatentdError(f"the image lacks a package for such addresses: {problem}") from problem
    except (BentoMLException, ClientError, tarfile.TarError, lzma.LZMAError, EOFError, ValueError, OSError) as problem:
        reason = str(problem).replace(url, "it") or type(problem).__name__
        raise LatentdError(f"it cannot be read: {reason}; `bentoml models export` writes such files") from problem


def _without_secrets(url: str) -> str:
    """Return the URL without what may be secret: user, password and query."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="").geturl()


if __name__ == "__main__":
    main()
