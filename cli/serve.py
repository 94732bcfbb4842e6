"""`latentd serve`."""

import errno
import os
import socket
import sys
from contextlib import suppress
from pathlib import Path

import click

_SERVICE = "latentd.service.app:Latentd"


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on; 0.0.0.0 for all.")
@click.option("--port", type=click.IntRange(1, 65535), default=3000, show_default=True)
@click.option(
    "--models",
    help="Folders, files and bento:NAME:VERSION to serve, as LATENTD_MODELS. "
    "[default: the shipped models, runs/ and promoted/]",
)
def serve(host: str, port: int, models: str | None) -> None:
    """Serve models over HTTP until Ctrl-C: the same as `make serve`, from any folder.

    Every other setting is an environment variable; docs/api.md lists them.
    """
    if models is not None:
        os.environ["LATENTD_MODELS"] = models
        _warn_of_missing(models)
    _require_free(host, port)
    _require_home()
    os.environ.setdefault("BENTOML_DO_NOT_TRACK", "True")
    with suppress(OSError):  # standard error may lead to a full disk
        click.echo(f"the explorer: {_address(host, port)}/explore", err=True)
    command = [sys.executable, "-m", "bentoml", "serve", _SERVICE, "--host", host, "--port", str(port)]
    os.execv(sys.executable, command)  # noqa: S606  # no shell: signals reach the server itself


def _address(host: str, port: int) -> str:
    """Return the URL by which a browser on this machine reaches the service."""
    if host in ("127.0.0.1", "0.0.0.0", "::"):  # noqa: S104  # compared, not listened on
        host = "localhost"
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def _warn_of_missing(models: str) -> None:
    if "bento:" in models:  # colons separate paths, too
        return
    for path in filter(None, models.split(os.pathsep)):
        if not Path(path).exists():
            click.echo(f"warning: --models: there is no file or folder {path}; it is served when it is there", err=True)


def _require_home() -> None:
    """Raise click.ClickException if BentoML cannot make its folder: otherwise it shows a traceback.

    A user in no list of users has no home. BentoML would make a folder named ~ for it.
    """
    home = Path(os.environ.get("BENTOML_HOME") or "~/bentoml")
    try:
        home.expanduser().mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError) as problem:
        reason = f"BentoML's folder cannot be made: {problem}"
        raise click.ClickException(f"{reason}; name one by the variable BENTOML_HOME") from problem


def _require_free(host: str, port: int) -> None:
    """Raise click.ClickException if no server can listen there: otherwise BentoML shows a traceback."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            if os.name == "posix":  # elsewhere it would allow a second server
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as problem:
        reason = problem.strerror or str(problem)
        if problem.errno == errno.EADDRINUSE:
            reason = "another program listens there; stop it, or choose another port with --port"
        elif problem.errno == errno.EACCES:
            reason = "the system allows this user no ports below 1024; choose another with --port"
        raise click.ClickException(f"cannot listen on {host} port {port}: {reason}") from problem
