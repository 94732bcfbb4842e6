"""A real server on its own loopback port and with its own BENTOML_HOME."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import free_port
from tests.e2e.explorer import READY, Open, settle

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> tuple[int, str, str | None]:
        """Return the status, code and field. The body must have these and a message, and nothing else."""
        assert set(self.json) == {"error"}
        assert set(self.json["error"]) == {"code", "message", "field"}
        assert self.json["error"]["message"]
        return self.status, self.json["error"]["code"], self.json["error"]["field"]


@dataclass(frozen=True)
class Server:
    url: str
    log: Path
    pid: int

    def call(self, path: str, body: bytes | None = None, method: str | None = None, **headers: str) -> Answer:
        request = urllib.request.Request(self.url + path, data=body, method=method)
        for name, value in headers.items():
            request.add_header(name.replace("_", "-"), value)
        try:
            with urllib.request.urlopen(request, timeout=300) as answer:
                return Answer(answer.status, {k.lower(): v for k, v in answer.headers.items()}, answer.read())
        except urllib.error.HTTPError as problem:
            return Answer(problem.code, {k.lower(): v for k, v in problem.headers.items()}, problem.read())

    def generate(self, accept: str = "*/*", **fields: Any) -> Answer:
        body = json.dumps(fields).encode()
        return self.call("/generate", body, content_type="application/json", accept=accept)


@contextmanager
def serving(
    home: Path,
    probe: str = "/readyz",
    port: int | None = None,
    may_end_with: Collection[int] = (0,),
    command: Sequence[str] = ("bentoml", "serve", "--host", "127.0.0.1"),
    folder: Path = ROOT,
    **environment: str,
) -> Iterator[Server]:
    """Run `command` in `folder` until the block ends. Then it must end with a status of `may_end_with`.

    Yields when the path `probe` is answered 200. Environment variables are those of the tests and `environment`.
    """
    port = port or free_port()
    program, *arguments = command
    inherited = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}  # as users start it
    home.mkdir(parents=True, exist_ok=True)
    log = home / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [Path(sys.executable).with_name(program), *arguments, "--port", str(port)],
            cwd=folder,
            env=inherited | {"BENTOML_HOME": str(home), "BENTOML_DO_NOT_TRACK": "True"} | environment,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    server = Server(f"http://127.0.0.1:{port}", log, process.pid)
    try:
        _wait_for(server, probe, process)
        yield server
    finally:
        if "told to stop" not in log.read_text(errors="replace"):  # a second SIGTERM, late, would kill it
            process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=300)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
    assert process.returncode in may_end_with, log.read_text()


def _wait_for(server: Server, probe: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        assert process.poll() is None, server.log.read_text()
        try:
            if server.call(probe).status == 200:
                return
        except OSError:
            time.sleep(0.1)
    raise AssertionError(f"{probe} is not 200: {server.log.read_text()}")


@pytest.fixture(autouse=True)
def threads_of_the_service(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compute in the tests' process with as many threads as the service: bytes depend on the number."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with the shipped models, as `make serve` starts it."""
    with serving(tmp_path_factory.mktemp("bentoml"), LATENTD_MODELS=str(ROOT / "models" / "checkpoints")) as running:
        yield running


@pytest.fixture
def look(chromium: Any, server: Server) -> Iterator[Open]:
    """Return a function that opens the explorer at a fragment. The console must be empty when the test ends."""
    messages: list[str] = []
    pages: list[Any] = []

    def load(
        fragment: str = "", width: int = 1440, height: int = 900, expect_errors: bool = False, **options: Any
    ) -> Any:
        page = chromium.new_page(viewport={"width": width, "height": height}, **options)
        pages.append(page)
        if not expect_errors:
            page.on(
                "console",
                lambda message: messages.append(message.text) if message.type in ("error", "warning") else None,
            )
        page.on("pageerror", lambda error: messages.append(str(error)))
        page.goto(f"{server.url}/explore{fragment}")
        page.wait_for_selector(READY)
        settle(page)
        return page

    yield load
    for page in pages:
        page.close()
    assert messages == []
