"""`latentd serve` from an empty folder."""

import os
import signal
import subprocess
import sys
import time
import urllib.request
from contextlib import suppress
from pathlib import Path

from tests.conftest import free_port

ROOT = Path(__file__).parents[2]


def test_it_serves_the_shipped_models_from_any_folder(tmp_path: Path) -> None:
    port = free_port()
    command = [Path(sys.executable).with_name("latentd"), "serve", "--port", str(port)]
    environment = os.environ | {"BENTOML_HOME": str(tmp_path / "home"), "PYTHONPATH": str(ROOT)}
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=log, stderr=log)
        try:
            answer = b""
            until = time.monotonic() + 120
            while not answer and process.poll() is None and time.monotonic() < until:
                with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/models", timeout=10) as models:
                    answer = models.read()
                time.sleep(0.2)
        finally:
            process.send_signal(signal.SIGTERM)
            status = process.wait(60)
    assert b'"fashion-dcgan"' in answer, (tmp_path / "log").read_text()
    assert f"http://localhost:{port}/explore" in (tmp_path / "log").read_text()
    assert status == 0
