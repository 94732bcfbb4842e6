"""The lock of a run directory, as users meet it who start a second run."""

import json
import os
import platform
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from filelock import lock_descriptor

from latentd.training.run.directory import OutputError
from latentd.training.run.lock import is_locked, locked
from tests.conftest import eventually
from tests.training.runs import run_config, train

LATENTD = Path(sys.executable).with_name("latentd")


def start(out: Path) -> subprocess.Popen[str]:
    settings = ["--set", "steps=1000000", "--set", "save_seconds=0.05"]
    command = [LATENTD, "train", "gaussian-gan", "--out", out, *settings]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


@pytest.fixture
def running(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    process = start(tmp_path)
    eventually(lambda: any(tmp_path.glob("state/*.safetensors")))
    yield process
    process.kill()
    process.communicate()


def status(folder: Path) -> str:
    listed = subprocess.run([LATENTD, "runs", folder, "--json"], capture_output=True, check=True, timeout=300)
    return str(json.loads(listed.stdout)[0]["status"])


def test_a_second_run_is_refused_and_a_killed_run_resumes(tmp_path: Path, running: subprocess.Popen[str]) -> None:
    second = start(tmp_path)
    error = second.communicate(timeout=300)[1]
    assert second.returncode == 1
    assert error.startswith(f"error: another run is at work in {tmp_path} (process {running.pid} on ")
    assert error.count("\n") == 1
    assert running.poll() is None
    assert status(tmp_path) == "running"

    running.kill()
    running.wait()
    assert status(tmp_path) == "killed"

    third = start(tmp_path)
    assert third.stderr is not None
    assert "resumed at step" in third.stderr.readline()
    third.send_signal(signal.SIGINT)
    third.communicate(timeout=300)
    assert third.returncode == 130
    assert status(tmp_path) == "stopped"


def test_the_lock_is_released_after_a_run(tmp_path: Path) -> None:
    config = run_config("gaussian-gan", tmp_path, "steps=2")
    with locked(tmp_path), pytest.raises(OutputError, match="another run is at work"):
        train(config)
    train(config)
    assert not is_locked(tmp_path)


def test_asking_keeps_no_run_from_starting(tmp_path: Path) -> None:
    with locked(tmp_path):
        pass
    asking = (tmp_path / "lock").open()  # as `is_locked` does, but for longer
    assert lock_descriptor(asking.fileno(), blocking=False)
    threading.Timer(0.2, asking.close).start()
    with locked(tmp_path):
        assert is_locked(tmp_path)


def test_asking_at_the_same_time_gives_the_right_answer(tmp_path: Path) -> None:
    with locked(tmp_path):
        pass
    with ThreadPoolExecutor(8) as threads:
        assert not any(threads.map(is_locked, [tmp_path] * 400))


def test_asking_creates_and_changes_no_file(tmp_path: Path) -> None:
    assert not is_locked(tmp_path / "missing")
    assert not is_locked(tmp_path)
    assert list(tmp_path.iterdir()) == []
    with locked(tmp_path):
        holder = (tmp_path / "lock").read_text()
        assert is_locked(tmp_path)
        assert (tmp_path / "lock").read_text() == holder == f"process {os.getpid()} on {platform.node()}"


def test_an_unwritable_directory_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    refused = pytest.raises(OutputError, match=r"file/below cannot be written to .*`out` or `--out`")
    with refused, locked(tmp_path / "file" / "below"):
        pass
