"""A run folder is one run's at a time, as people meet it who start a second."""

import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from latentd.training.directory import OutputError
from latentd.training.lock import is_locked, locked
from tests.training.runs import run_of, train

LATENTD = Path(sys.executable).with_name("latentd")
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}


def start(out: Path) -> subprocess.Popen[str]:
    settings = ["--set", "steps=1000000", "--set", "save_seconds=0.05"]
    command = [LATENTD, "train", "gaussian-gan", "--out", out, *settings]
    return subprocess.Popen(command, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True)


@pytest.fixture
def at_work(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    process = start(tmp_path)
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("state/*.safetensors")) and time.monotonic() < deadline:
        time.sleep(0.02)
    yield process
    process.kill()
    process.communicate()


def status(folder: Path) -> str:
    listed = subprocess.run([LATENTD, "runs", folder, "--json"], capture_output=True, text=True, timeout=60, check=True)
    return str(json.loads(listed.stdout)[0]["status"])


def test_a_second_run_is_refused_in_one_line_and_a_killed_one_is_in_nobody_s_way(
    tmp_path: Path, at_work: subprocess.Popen[str]
) -> None:
    second = start(tmp_path)
    said = second.communicate(timeout=60)[1]
    assert second.returncode == 1
    assert said.startswith(f"error: another run is at work in {tmp_path} (process {at_work.pid} on ")
    assert said.count("\n") == 1
    assert at_work.poll() is None
    assert status(tmp_path) == "running"

    at_work.kill()
    at_work.wait()
    assert status(tmp_path) == "killed"

    third = start(tmp_path)
    assert third.stderr is not None
    assert "resumed at step" in third.stderr.readline()
    third.send_signal(signal.SIGINT)
    third.communicate(timeout=60)
    assert third.returncode == 130
    assert status(tmp_path) == "stopped"


def test_a_folder_is_free_again_after_a_run(tmp_path: Path) -> None:
    config = run_of("gaussian-gan", tmp_path, "steps=2")
    with locked(tmp_path), pytest.raises(OutputError, match="another run is at work"):
        train(config)
    train(config)
    assert not is_locked(tmp_path)


def test_who_only_looks_refuses_nobody(tmp_path: Path) -> None:
    with locked(tmp_path):
        pass
    looking = (tmp_path / "lock").open()
    fcntl.flock(looking, fcntl.LOCK_SH)
    threading.Timer(0.2, looking.close).start()
    with locked(tmp_path):
        assert is_locked(tmp_path)


def test_what_cannot_be_locked_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    said = pytest.raises(OutputError, match=r"file/below cannot be written to .* --out")
    with said, locked(tmp_path / "file" / "below"):
        pass
