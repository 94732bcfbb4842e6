"""`latentd reproduce`."""

import base64
import json
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from latentd.cli.reproduce.stored_request import StoredRequest

SAME_PIXELS = 3
"""Exit status if the pixels are the same and the bytes are not."""


@click.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@click.option("--url", default="http://127.0.0.1:3000", show_default=True, help="The service to ask.")
@click.option("--token", help="The service's token. Other users of this machine may see it. [default: LATENTD_TOKEN]")
@click.option(
    "--token-file",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="A file with the service's token.",
)
def reproduce(file: Path, url: str, token: str | None, token_file: Path | None) -> None:
    """Make FILE again from the request in it, and compare the bytes.

    Reads PNG, APNG, WebP, JPEG, GIF and MP4 files of a latentd service. The exit status is 0 if the bytes are the same,
    3 if only the pixels are the same, and 1 if they differ.
    """
    from latentd.cli.client import read_token
    from latentd.cli.reproduce.comparison import difference
    from latentd.cli.reproduce.stored_request import read_request

    logging.getLogger("httpx").setLevel(logging.WARNING)  # it logs every request
    content = file.read_bytes()
    stored = read_request(content, file)
    click.echo(f"POST {stored.endpoint} {json.dumps(stored.body)}")
    again, fingerprint = _ask(url, read_token(token, token_file), stored)
    if again == content:
        click.echo("the same bytes")
        return
    differs = difference(content, again)
    if fingerprint == stored.fingerprint:
        reason = f"the service has the file's fingerprint {fingerprint}, so the file was changed after it was made"
    else:
        reason = f"the file was made with the fingerprint {stored.fingerprint}, the service has {fingerprint}"
    if differs is None:
        click.echo(f"the same pixels, in other bytes: {reason}")
        sys.exit(SAME_PIXELS)
    raise click.ClickException(f"the pixels differ: {reason}; {differs}")


def _ask(url: str, token: str | None, stored: "StoredRequest") -> tuple[bytes, str]:
    """Send the request. Return the file, and the fingerprint of the service that made it."""
    from latentd.cli.client import post

    answer = post(url, stored.endpoint, stored.body, stored.media_type, token)
    fingerprint = answer.headers.get("x-latentd-fingerprint", "")
    if stored.index is None:
        return answer.content, fingerprint
    try:
        return base64.b64decode(answer.json()["samples"][stored.index]["data"]), fingerprint
    except (ValueError, LookupError, TypeError) as problem:
        raise click.ClickException(f"the answer of {url} has no sample {stored.index}") from problem
