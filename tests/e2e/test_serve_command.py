"""`latentd serve` from an empty folder."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import free_port
from tests.e2e.conftest import ROOT, serving


def latentd(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [Path(sys.executable).with_name("latentd"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, cwd=ROOT)


def test_it_serves_the_shipped_models_from_any_folder(tmp_path: Path) -> None:
    command = ("latentd", "serve")
    with serving(tmp_path / "home", command=command, folder=tmp_path, PYTHONPATH=str(ROOT)) as server:
        assert "fashion-dcgan" in {model["name"] for model in server.call("/models").json["models"]}
        assert f"the explorer: {server.url.replace('127.0.0.1', 'localhost')}/explore\n" in server.log.read_text()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0.0.0.0"])  # noqa: S104  # nothing listens there
def test_a_port_in_use_is_reported_in_one_line(host: str) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = str(other.getsockname()[1])
        done = latentd("serve", "--host", host, "--port", port)
    assert (done.returncode, done.stdout) == (1, "")
    reason = "another program listens there; stop it, or choose another port with --port"
    assert done.stderr == f"error: cannot listen on {host} port {port}: {reason}\n"


def test_a_host_of_another_machine_is_reported_in_one_line() -> None:
    done = latentd("serve", "--host", "192.0.2.1")
    assert done.returncode == 1
    assert done.stderr.startswith("error: cannot listen on 192.0.2.1 port 3000: ")
    assert done.stderr.count("\n") == 1


def test_a_folder_of_models_that_is_missing_is_named() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()  # so that nothing is served
        done = latentd("serve", "--models", "modles", "--port", str(other.getsockname()[1]))
    assert "warning: --models: there is no file or folder modles; " in done.stderr


@pytest.mark.parametrize("variable", ["HOME", "BENTOML_HOME"])
def test_a_home_that_cannot_be_made_is_reported_in_one_line(variable: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    environment = {name: value for name, value in os.environ.items() if name != "BENTOML_HOME"}
    done = subprocess.run(
        [Path(sys.executable).with_name("latentd"), "serve", "--port", str(free_port())],
        env=environment | {variable: str(tmp_path / "file")},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        cwd=ROOT,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("error: BentoML's folder cannot be made: ")
    assert done.stderr.endswith("; name one by the variable BENTOML_HOME\n")
