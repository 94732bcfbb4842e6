"""From a run to a name and back, with a real server, the real commands and the default catalog."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import openai
import tritonclient.http as triton

import latentd
from latentd.models.checkpoint import Checkpoint, write_checkpoint
from tests.conftest import eventually
from tests.e2e.conftest import ROOT, Server, serving

SHIPPED = ROOT / "models" / "checkpoints" / "fashion-dcgan.safetensors"


def command(folder: Path, *arguments: str) -> str:
    """Run `latentd` in `folder`, as a person does."""
    program = Path(sys.executable).with_name("latentd")
    done = subprocess.run([program, *arguments], cwd=folder, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def add_run(folder: Path) -> str:
    """Put a finished run of the shipped model's recipe into `folder`, and return its version."""
    run = folder / "runs" / "fashion-dcgan"
    run.mkdir(parents=True)
    read = Checkpoint.read(SHIPPED)
    tensors = {name: value * 0.9 if value.is_floating_point() else value for name, value in read.tensors.items()}
    version = write_checkpoint(run / SHIPPED.name, read.card, tensors).version
    (run / "run.json").write_text(json.dumps({"status": "finished", "name": "fashion-dcgan"}))
    return version


@contextmanager
def asking(server: Server) -> Iterator[list[Any]]:
    """Ask for samples of the default model all the time. Yields the statuses and versions of the answers."""
    answers: list[Any] = []
    ended = threading.Event()

    def ask() -> None:
        while not ended.is_set():
            answer = server.generate(seed=1)
            answers.append((answer.status, answer.headers.get("x-latentd-version")))

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield answers
    finally:
        ended.set()
        thread.join()


def test_a_run_is_served_promoted_and_rolled_back_without_a_failed_request(tmp_path: Path) -> None:
    shipped = Checkpoint.read(SHIPPED).version
    serve = ("latentd", "serve")
    with (
        serving(tmp_path / "home", command=serve, folder=tmp_path, PYTHONPATH=str(ROOT)) as server,
        asking(server) as answers,
    ):
        trained = add_run(tmp_path)
        eventually(lambda: server.generate(model="runs/fashion-dcgan", seed=1).status == 200)
        host = server.url.removeprefix("http://")
        assert triton.InferenceServerClient(host).is_model_ready("runs/fashion-dcgan", trained)
        other = openai.OpenAI(base_url=f"{server.url}/v1", api_key="none")
        assert other.models.retrieve("runs/fashion-dcgan").id == "runs/fashion-dcgan"
        picture = tmp_path / "picture.png"
        picture.write_bytes(latentd.load(tmp_path / "runs" / "fashion-dcgan", "cpu").sample(7).encode()[0])
        assert {version for _, version in answers} == {shipped}
        said = command(tmp_path, "promote", "runs/fashion-dcgan")
        assert f"fashion-dcgan means {trained} now, before that {shipped}" in said
        eventually(lambda: answers[-1][1] == trained)
        command(tmp_path, "rollback", "fashion-dcgan")
        eventually(lambda: answers[-1][1] == shipped)
        assert {status for status, _ in answers} == {200}
        # the file names the recipe's model, which means another version now
        assert "the same bytes" in command(tmp_path, "reproduce", str(picture), "--url", server.url)
