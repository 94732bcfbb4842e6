"""Builds the image, runs it locked down, and compares its answers with the checkout's: `make container-test`.

Needs root, and Debian's buildah, podman, runc and debootstrap. The base image stays in build/container for the next
time. All of it takes about 8 GB.
"""

import json
import shutil
import statistics
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from importlib.metadata import distributions
from pathlib import Path

import click

from deploy.container.container_engine import ContainerEngine, RunningContainer
from deploy.container.image import IMAGE, ROOT, build_bento, build_image
from tests.e2e.conftest import free_port, serving

FOLDER = ROOT / "build" / "container"
CHECKPOINTS = ROOT / "models" / "checkpoints"
PNG = json.dumps({"num_samples": 8, "seed": 7}).encode()
ROWS = json.dumps({"model": "ring-gan", "num_samples": 8, "seed": 7}).encode()
LARGE = json.dumps({"num_samples": 256, "seed": 7}).encode()


def main() -> None:
    """Build the image, check it and measure it."""
    engine = ContainerEngine(FOLDER)
    build_image(engine, build_bento(FOLDER / "home"), FOLDER)
    port = free_port()
    with engine.created(IMAGE, "latentd-shipped", port):
        seconds = list(_starts(engine, "latentd-shipped", port))
    with engine.created(IMAGE, "latentd-mounted", port, *_mounted(FOLDER / "mounted")):
        _check_mounted(engine, "latentd-mounted", port)
    click.echo(f"to /readyz: {seconds[0]:.1f} s cold, {statistics.median(seconds[1:]):.1f} s warm (median of 3)")
    _print_sizes(engine)


def _starts(engine: ContainerEngine, name: str, port: int) -> Iterator[float]:
    """Yield the seconds of each start: the first one from disk, with all checks; then three from the page cache."""
    with engine.running(name, port, cold=True) as (container, took):
        yield took
        _check_confinement(container)
        _check_bytes(container)
        requests = _send_large_requests(container)
    answered = sum(len(json.loads(each.result())["samples"]) == 256 for each in requests)
    _expect(answered == len(requests), f"it answers requests in progress after SIGTERM, and exits with 0: {answered}")
    for _ in range(3):
        with engine.running(name, port) as (_, took):
            yield took


def _check_confinement(container: RunningContainer) -> None:
    _expect(container.execute("id", "-u").stdout == "1034\n", "it is not root")
    for path in ("/home/bentoml/bento/x", "/app/x", "/x"):
        message = container.execute("touch", path).stderr
        _expect("Read-only file system" in message, f"{path} cannot be written: {message.strip()}")
    healthy = container.engine.podman("healthcheck", "run", container.name, check=False)
    _expect(healthy.returncode == 0, f"its health check passes: {healthy.stdout}{healthy.stderr}")


def _check_bytes(container: RunningContainer) -> None:
    with serving(FOLDER / "checkout", LATENTD_MODELS=str(CHECKPOINTS)) as checkout:
        for body, accept in ((PNG, "application/json"), (PNG, "image/png"), (ROWS, "application/x-npy")):
            expected = checkout.call("/generate", body, content_type="application/json", accept=accept)
            _expect(expected.body == container.ask("/generate", body, accept), f"{accept}: the bytes of the checkout")


def _send_large_requests(container: RunningContainer) -> list[Future[bytes]]:
    """Send twelve requests of the largest size, and return when all of them are in progress."""
    threads = ThreadPoolExecutor(12)
    requests = [threads.submit(container.ask, "/generate", LARGE) for _ in range(12)]
    until = time.monotonic() + 30
    while b"\nlatentd_requests_under_way 12.0" not in container.ask("/metrics"):
        _expect(time.monotonic() < until, "twelve requests are in progress", report=False)
        time.sleep(0.01)
    return requests


def _mounted(folder: Path) -> tuple[str, ...]:
    """Return the options that mount a folder with another model."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(CHECKPOINTS / "ring-gan.safetensors", folder / "mine.safetensors")
    return ("--volume", f"{folder}:/models:ro", "--env", "LATENTD_MODELS=/models")


def _check_mounted(engine: ContainerEngine, name: str, port: int) -> None:
    with engine.running(name, port) as (container, _):
        served = [model["name"] for model in json.loads(container.ask("/models"))["models"]]
        _expect(served == ["mine"], f"the models of a mounted folder are served: {served}")


def _print_sizes(engine: ContainerEngine) -> None:
    size = int(engine.podman("image", "inspect", "--format", "{{.Size}}", IMAGE).stdout)
    root = Path(engine.podman("image", "mount", IMAGE).stdout.strip())
    (packages,) = (root / "app" / ".venv" / "lib").glob("python*/site-packages")
    parts = {
        each.name: sum(_size(Path(str(file.locate()))) for file in each.files or ())
        for each in distributions(path=[str(packages)])
    }
    parts["bytecode"] = sum(_size(file) for file in (root / "app").rglob("*.pyc"))
    parts["latentd and its models"] = sum(_size(file) for file in (root / "home").rglob("*"))
    parts["the base image"] = (
        size - sum(_size(file) for file in (root / "app").rglob("*")) - parts["latentd and its models"]
    )
    click.echo(f"the image: {size / 1e6:.0f} MB")
    for name, part in sorted(parts.items(), key=lambda each: -each[1])[:12]:
        click.echo(f"  {name}: {part / 1e6:.0f} MB")


def _size(file: Path) -> int:
    return file.stat().st_size if file.is_file() and not file.is_symlink() else 0


def _expect(holds: bool, what: str, report: bool = True) -> None:
    if not holds:
        raise SystemExit(f"failed: {what}")
    if report:
        click.echo(f"ok: {what}")


if __name__ == "__main__":
    main()
