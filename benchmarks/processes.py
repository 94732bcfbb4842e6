"""Starts servers and load generators as processes of their own, on loopback, and ends them by their pid."""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from latentd.models.file_names import SHIPPED

ROOT = Path(__file__).parents[1]
_START_SECONDS = 120
_STOP_SECONDS = 60


@dataclass(frozen=True)
class Server:
    """A running server."""

    url: str
    pid: int
    log: Path

    def resident_bytes(self) -> int:
        """Return the resident memory of the server and its children."""
        return sum(int(process.memory_info().rss) for process in self._processes())

    def processor_seconds(self) -> float:
        """Return the processor time that the server and its children have used so far."""
        times = [process.cpu_times() for process in self._processes()]
        return float(sum(used.user + used.system for used in times))

    def get(self, path: str) -> Any:
        """Return the JSON answer of GET `path`."""
        with urllib.request.urlopen(self.url + path, timeout=60) as answer:  # noqa: S310  # our own server
            return json.load(answer)

    def get_text(self, path: str) -> str:
        """Return the answer of GET `path`."""
        with urllib.request.urlopen(self.url + path, timeout=60) as answer:  # noqa: S310  # our own server
            return str(answer.read().decode())

    def generate(self, **fields: Any) -> dict[str, Any]:
        """Return the JSON answer of POST /generate."""
        return self.post("/generate", fields)

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Return the JSON answer of POST `path`."""
        request = urllib.request.Request(  # noqa: S310  # our own server
            self.url + path, json.dumps(body).encode(), {"content-type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310  # our own server
            return dict(json.load(answer))

    def _processes(self) -> list[psutil.Process]:
        server = psutil.Process(self.pid)
        return [server, *server.children(recursive=True)]


@contextmanager
def serving(command: list[str], port: int, probe: str, **environment: str) -> Iterator[Server]:
    """Run `command` in the repository root until the block ends. `probe`: the path that answers 200 when ready."""
    with tempfile.TemporaryDirectory(prefix="latentd-bench-") as home:
        log = Path(home) / "log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                command,
                cwd=ROOT,
                env=os.environ | {"BENTOML_HOME": home, "BENTOML_DO_NOT_TRACK": "True"} | environment,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        server = Server(f"http://127.0.0.1:{port}", process.pid, log)
        try:
            _wait_for(server, probe, process)
            yield server
        finally:
            _end(process)


def latentd(**environment: str) -> Any:
    """Start latentd with `bentoml serve`, and the shipped models unless LATENTD_MODELS names others."""
    port = free_port()
    command = [sys.executable, "-m", "bentoml", "serve", "--host", "127.0.0.1", "--port", str(port)]
    return serving(command, port, "/readyz", **{"LATENTD_MODELS": str(SHIPPED)} | environment)


def litserve(max_batch: int, threads: int, device: str = "cpu") -> Any:
    """Start LitServe with its own batching on `device`, cpu or cuda."""
    port = free_port()
    module = "benchmarks.rivals.litserve_server"
    return serving([sys.executable, "-m", module, str(port), str(max_batch), str(threads), device], port, "/health")


def bentoml_batching(threads: int) -> Any:
    """Start a BentoML service with BentoML's own adaptive batching."""
    port = free_port()
    command = [sys.executable, "-m", "bentoml", "serve", "benchmarks.rivals.bentoml_batching:Front"]
    command += ["--host", "127.0.0.1", "--port", str(port)]
    return serving(command, port, "/readyz", BENCH_THREADS=str(threads), PYTHONPATH=str(ROOT))


def load(server: Server, **options: Any) -> dict[str, Any]:
    """Run `python -m benchmarks.load` against `server` and return its figures."""
    return json_of("benchmarks.load", *_load_arguments(server, options))


def start_load(server: Server, **options: Any) -> "subprocess.Popen[bytes]":
    """Start `python -m benchmarks.load` against `server`. It prints its figures when it ends."""
    command = [sys.executable, "-m", "benchmarks.load", *_load_arguments(server, options)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE)


def json_of(module: str, *arguments: object) -> dict[str, Any]:
    """Return the JSON that `python -m module arguments` prints."""
    command = [sys.executable, "-m", module, *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True)
    return dict(json.loads(done.stdout))


def free_port() -> int:
    """Return a loopback port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _load_arguments(server: Server, options: dict[str, Any]) -> list[str]:
    arguments = [f"{server.url}/generate"]
    for name, value in options.items():
        text = json.dumps(value) if isinstance(value, dict) else str(value)
        arguments += [f"--{name.replace('_', '-')}", text]
    return arguments


def _wait_for(server: Server, probe: str, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"the server ended: {server.log.read_text()[-2000:]}")
        try:
            with urllib.request.urlopen(server.url + probe, timeout=5) as answer:  # noqa: S310  # our own server
                if answer.status == 200:
                    return
        except OSError:
            time.sleep(0.2)
    raise RuntimeError(f"{probe} is not 200: {server.log.read_text()[-2000:]}")


def _end(process: "subprocess.Popen[bytes]") -> None:
    children = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(timeout=_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for child in children:  # some rivals leave children behind
        if child.is_running():
            child.kill()
