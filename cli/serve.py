"""`latentd serve`."""

import os
import sys

import click

_SERVICE = "latentd.service.app:Latentd"


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on; 0.0.0.0 for all.")
@click.option("--port", type=click.IntRange(1, 65535), default=3000, show_default=True)
@click.option(
    "--models",
    help="Folders, files and bento:NAME:VERSION to serve, as LATENTD_MODELS. [default: the shipped models and runs/]",
)
def serve(host: str, port: int, models: str | None) -> None:
    """Serve models over HTTP until Ctrl-C: the same as `make serve`, from any folder.

    Every other setting is an environment variable; docs/api.md lists them.
    """
    if models is not None:
        os.environ["LATENTD_MODELS"] = models
    os.environ.setdefault("BENTOML_DO_NOT_TRACK", "True")
    click.echo(f"http://{'localhost' if host in ('127.0.0.1', '0.0.0.0') else host}:{port}/explore", err=True)  # noqa: S104  # compared, not listened on
    command = [sys.executable, "-m", "bentoml", "serve", _SERVICE, "--host", host, "--port", str(port)]
    os.execv(sys.executable, command)  # noqa: S606  # no shell: signals reach the server itself
