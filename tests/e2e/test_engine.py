"""The engine's and the catalog's promises over real HTTP: model swaps, disconnecting clients, draining."""

import http.client
import json
import os
import shutil
import signal
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest

from latentd.models.checkpoint import Checkpoint, write_checkpoint
from latentd.models.latents import seeds_to_rows
from latentd.models.sampling import generate_rows
from tests.conftest import eventually
from tests.e2e.conftest import ROOT, Server, serving

SHIPPED = ROOT / "models" / "checkpoints"


def version_of(server: Server, name: str) -> str | None:
    answer = server.call(f"/models/{name}")
    return answer.json["version"] if answer.status == 200 else None


def test_a_model_is_swapped_under_load_without_a_wrong_answer(tmp_path: Path) -> None:
    shipped = Checkpoint.read(SHIPPED / "ring-gan.safetensors")
    file = tmp_path / "models" / "ring-gan.safetensors"
    tensors = {name: tensor * 1.01 for name, tensor in shipped.tensors.items()}
    changed = write_checkpoint(tmp_path / "ring-gan.safetensors", shipped.card, tensors)
    file.parent.mkdir()
    shutil.copy(SHIPPED / "ring-gan.safetensors", file)
    expected = {
        each.version: generate_rows(each.build(), seeds_to_rows(each.card.spec, range(3)))
        for each in (shipped, changed)
    }
    stop, seen = threading.Event(), set()

    def client() -> int:
        answers = 0
        while not stop.is_set():
            answer = server.generate(num_samples=3, seed=0)
            assert answer.status == 200, answer.body
            body = answer.json
            assert answer.headers["x-latentd-version"] == body["version"]
            data = np.array([sample["data"] for sample in body["samples"]], dtype=np.float32)
            np.testing.assert_allclose(data, expected[body["version"]], atol=1e-6)
            seen.add(body["version"])
            answers += 1
        return answers

    with serving(tmp_path / "home", LATENTD_MODELS=str(file.parent)) as server, ThreadPoolExecutor(4) as pool:
        clients = [pool.submit(client) for _ in range(4)]
        try:
            for checkpoint in (changed, shipped, changed):
                write_checkpoint(file, checkpoint.card, checkpoint.tensors)
                eventually(lambda version=checkpoint.version: version_of(server, "ring-gan") == version)
        finally:
            stop.set()
        assert all(each.result() for each in clients)
        assert seen == set(expected)
        shutil.copy(SHIPPED / "fashion-dcgan.safetensors", file.parent)
        eventually(lambda: version_of(server, "fashion-dcgan") is not None)
        file.unlink()
        eventually(lambda: version_of(server, "ring-gan") is None)


def test_a_request_past_its_deadline_is_504(server: Server) -> None:
    body = json.dumps({"num_samples": 256, "seed": 0, "format": "webp"}).encode()
    answer = server.call("/generate", body, x_request_timeout="0.001")
    assert answer.error == (504, "timeout", None)
    assert server.call("/generate", body, x_request_timeout="soon").error == (400, "invalid_request", None)


def ask_for_many(server: Server, requests: int) -> list[http.client.HTTPConnection]:
    """Send requests for 256 samples each, and return when the server has received them all."""
    address = urlsplit(server.url)
    connections = []
    for seed in range(requests):
        connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=300)
        connection.request("POST", "/generate", json.dumps({"num_samples": 256, "seed": seed, "format": "webp"}))
        connections.append(connection)
    assert server.generate(seed=1).status == 200  # connections are accepted in order, and one sample overtakes many
    return connections


@pytest.mark.parametrize("requests", [0, 8])
def test_sigterm_finishes_the_queued_requests(requests: int, tmp_path: Path) -> None:
    with serving(tmp_path, LATENTD_MODELS=str(SHIPPED)) as other:
        connections = ask_for_many(other, requests)
        os.kill(other.pid, signal.SIGTERM)  # `serving` asserts that the exit status is 0
        for connection in connections:
            answer = connection.getresponse()
            assert (answer.status, len(json.loads(answer.read())["samples"])) == (200, 256)


def gets_connection_close(idle: http.client.HTTPConnection) -> bool:
    """Return whether the answer to another request closes the connection."""
    idle.request("POST", "/generate", b'{"seed": 1}')
    answer = idle.getresponse()
    assert (answer.status, len(json.loads(answer.read())["samples"])) == (200, 1)
    return answer.headers["connection"] == "close"


def test_a_draining_server_refuses_new_connections_and_answers_on_open_ones(tmp_path: Path) -> None:
    with serving(tmp_path, LATENTD_MODELS=str(SHIPPED / "ring-gan.safetensors"), LATENTD_DRAIN="20") as other:
        address = urlsplit(other.url)
        host_and_port = address.hostname or "", address.port or 0
        idle = http.client.HTTPConnection(*host_and_port, timeout=300)
        with socket.create_connection(host_and_port, timeout=300) as stalled:
            stalled.sendall(b"POST /generate HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n{")
            idle.request("GET", "/livez")
            assert idle.getresponse().read() is not None
            os.kill(other.pid, signal.SIGTERM)
            eventually(lambda: "told to stop" in other.log.read_text())
            eventually(lambda: gets_connection_close(idle))
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(host_and_port, timeout=300)
            stalled.setblocking(False)
            with pytest.raises(BlockingIOError):  # it is still draining
                stalled.recv(1)


def test_a_client_that_never_sends_its_body_does_not_delay_the_shutdown(tmp_path: Path) -> None:
    with serving(tmp_path, LATENTD_MODELS=str(SHIPPED / "ring-gan.safetensors"), LATENTD_DRAIN="0.5") as other:
        address = urlsplit(other.url)
        with socket.create_connection((address.hostname, address.port), timeout=300) as stalled:
            stalled.sendall(b"POST /generate HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n{")
            assert other.generate(seed=1).status == 200
            os.kill(other.pid, signal.SIGTERM)
            assert stalled.recv(1000) == b""  # and not 408, LATENTD_TIMEOUT's answer after a minute


def test_requests_queued_past_the_grace_period_are_503(tmp_path: Path) -> None:
    settings = {"LATENTD_MODELS": str(SHIPPED), "LATENTD_DRAIN": "0.2", "LATENTD_MAX_QUEUE": "100000"}
    with serving(tmp_path, **settings) as other:
        connections = ask_for_many(other, 32)
        os.kill(other.pid, signal.SIGTERM)
        answers = [connection.getresponse() for connection in connections]
        codes = [json.loads(answer.read())["error"]["code"] for answer in answers if answer.status != 200]
    assert {answer.status for answer in answers} <= {200, 503}
    assert set(codes) == {"shutting_down"}
