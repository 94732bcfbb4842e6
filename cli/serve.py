"""`latentd serve`."""

import errno
import os
import socket
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
    _require_free(host, port)
    os.environ.setdefault("BENTOML_DO_NOT_TRACK", "True")
    click.echo(f"http://{_address(host)}:{port}/explore", err=True)
    command = [sys.executable, "-m", "bentoml", "serve", _SERVICE, "--host", host, "--port", str(port)]
    os.execv(sys.executable, command)  # noqa: S606  # no shell: signals reach the server itself


def _address(host: str) -> str:
    """Return the host part of a URL that leads to a server on `host`."""
    if host in ("127.0.0.1", "0.0.0.0", "::"):  # noqa: S104  # compared, not listened on
        return "localhost"
    return f"[{host}]" if ":" in host else host


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
        raise click.ClickException(f"cannot listen on {host} port {port}: {reason}") from problem


if __name__ == "__main__":
    serve()
