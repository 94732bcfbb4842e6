"""Requests and files that are wrong: the error says what, and the service goes on."""

import json
import os
import socket
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest
import torch

from tests.conftest import eventually
from tests.e2e.conftest import ROOT, Server, serving

GOOD_LATENT = [0.0] * 64
CONDITIONAL = {"model": "fashion-dcgan-conditional"}


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        ({"model": "nope"}, 404, "model"),
        ({"model": ""}, 404, "model"),
        ({"model": 7}, 400, "model"),
        ({"num_sample": 1}, 400, "num_sample"),
        ({"num_samples": 0}, 400, "num_samples"),
        ({"num_samples": -3}, 400, "num_samples"),
        ({"num_samples": 257}, 400, "num_samples"),
        ({"num_samples": "a"}, 400, "num_samples"),
        ({"num_samples": "3"}, 400, "num_samples"),
        ({"num_samples": 1.5}, 400, "num_samples"),
        ({"num_samples": True}, 400, "num_samples"),
        ({"num_samples": 10**400}, 400, "num_samples"),
        ({"seed": -1}, 400, "seed"),
        ({"seed": 2**32}, 400, "seed"),
        ({"seed": 2**32 - 1, "num_samples": 2}, 400, "seed"),
        ({"seeds": []}, 400, "seeds"),
        ({"seeds": [1, -1]}, 400, "seeds"),
        ({"seeds": [1] * 257}, 400, "seeds"),
        ({"seeds": [1], "num_samples": 1}, 400, "num_samples"),
        ({"seeds": [1], "seed": 1}, 400, "seed"),
        ({"latents": [[1.0, 2.0]]}, 400, "latents"),
        ({"latents": [GOOD_LATENT, []]}, 400, "latents"),
        ({"latents": []}, 400, "latents"),
        ({"latents": [["a"] * 64]}, 400, "latents"),
        ({"latents": [[1e300] * 64]}, 400, "latents"),
        ({"latents": [[float("nan")] * 64]}, 400, "latents"),
        ({"latents": [[float("inf")] * 64]}, 400, "latents"),
        ({"latents": [GOOD_LATENT], "seed": 1}, 400, "seed"),
        ({"latents": [GOOD_LATENT] * 257}, 400, "latents"),
        ({"label": "Dress"}, 400, "label"),
        (CONDITIONAL | {"label": "Hat"}, 400, "label"),
        (CONDITIONAL | {"label": 10}, 400, "label"),
        (CONDITIONAL | {"label": -1}, 400, "label"),
        (CONDITIONAL | {"label": True}, 400, "label"),
        (CONDITIONAL | {"label": 1.5}, 400, "label"),
        (CONDITIONAL | {"label": ["Dress", True], "num_samples": 2}, 400, "label"),
        (CONDITIONAL | {"label": []}, 400, "label"),
        ({"model": "ring-gan", "latents": [[3e38, -3e38]]}, 400, "latents"),
        (CONDITIONAL | {"label": ["Dress"], "num_samples": 2}, 400, "label"),
        (CONDITIONAL | {"latents": [GOOD_LATENT]}, 400, "label"),
        ({"truncation": 0}, 400, "truncation"),
        ({"truncation": 1.01}, 400, "truncation"),
        ({"truncation": float("nan")}, 400, "truncation"),
        ({"format": "gif"}, 400, "format"),
        ({"format": "json"}, 400, "format"),
        ({"model": "ring-gan", "format": "png"}, 400, "format"),
        ({"model": "ring-gan", "layout": "grid"}, 400, "layout"),
        ({"layout": "spiral"}, 400, "layout"),
        ([], 400, None),
        (None, 400, None),
    ],
)
def test_an_error_names_the_wrong_field(server: Server, body: object, status: int, field: str | None) -> None:
    answer = server.call("/generate", json.dumps(body).encode(), content_type="application/json")
    assert (answer.error[0], answer.error[2]) == (status, field)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"not json",
        b'{"seed": 1',
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"num_samples": 1e99}',
        b'{"seed": 1} {"seed": 2}',
    ],
)
def test_a_body_that_is_not_json_is_refused(server: Server, body: bytes) -> None:
    assert server.call("/generate", body, method="POST").error[:2] == (400, "invalid_request")


def test_an_accept_header_that_cannot_be_met_is_refused(server: Server) -> None:
    assert server.generate("text/html").error == (406, "not_acceptable", None)
    assert server.generate("image/png", format="webp").error == (406, "not_acceptable", None)
    assert server.generate("image/png", model="ring-gan").error == (406, "not_acceptable", None)
    assert server.generate("image/png", num_samples=2, layout="separate").error == (400, "invalid_request", "layout")


def test_unknown_paths_and_methods_have_the_same_error_body(server: Server) -> None:
    assert server.call("/nope").error == (404, "not_found", None)
    assert server.call("/nope", b"{}").error == (404, "not_found", None)
    refused = server.call("/generate")
    assert refused.error == (405, "method_not_allowed", None)
    assert refused.headers["allow"] == "POST"
    assert server.call("/models", b"{}").error == (405, "method_not_allowed", None)
    assert server.call("/livez", b"{}").error == (405, "method_not_allowed", None)


@pytest.mark.parametrize(
    "body",
    [
        {"label": [[]] * 500_000},
        {"seeds": [-1] * 500_000},
        {"latents": [[None]] * 300_000},
        {"latents": [[None] * 300_000]},
        {str(number): number for number in range(200_000)},
    ],
    ids=["label", "seeds", "latents", "latent", "unknown"],
)
def test_many_mistakes_in_one_body_cost_no_more_than_one(server: Server, body: dict) -> None:
    before = resident_bytes(server.pid)
    answer = server.call("/generate", json.dumps(body).encode())
    assert answer.status == 400
    assert len(answer.body) < 1000
    assert resident_bytes(server.pid) - before < 300 * 2**20


def test_an_error_quotes_no_long_text(server: Server) -> None:
    long = "x" * 1_000_000
    for body in ({long: 1}, {"model": long}, CONDITIONAL | {"label": long}, {"format": long}, {"layout": long}):
        answer = server.call("/generate", json.dumps(body).encode())
        assert answer.status in (400, 404)
        assert len(answer.body) < 3000


def resident_bytes(pid: int) -> int:
    """Return the resident memory of a server and its children."""
    process = psutil.Process(pid)
    return sum(each.memory_info().rss for each in [process, *process.children(recursive=True)])


def test_a_clients_mistake_causes_no_traceback(server: Server) -> None:
    server.generate(num_samples=0)
    address = urlsplit(server.url)
    with socket.create_connection((address.hostname, address.port)) as left_early:
        head = b"POST /generate HTTP/1.1\r\nHost: a\r\nX-Request-Id: left-early\r\nContent-Length: 100\r\n\r\n"
        left_early.sendall(head + b"{")
    eventually(lambda: "left-early" in server.log.read_text())
    assert "Traceback" not in server.log.read_text()


def test_the_service_still_answers(server: Server) -> None:
    assert server.generate(num_samples=1, seed=1).status == 200


def test_invalid_files_are_reported_and_the_others_served(tmp_path: Path, server: Server) -> None:
    shipped = ROOT / "models" / "checkpoints"
    folder = tmp_path / "models"
    folder.mkdir()
    ring = (shipped / "ring-gan.safetensors").read_bytes()
    (folder / "good.safetensors").write_bytes(ring)
    (folder / "torn.safetensors").write_bytes(ring[:-100])
    (folder / "pickled.safetensors").write_bytes(b"\x80\x04\x95\x0b\x00")
    (folder / "no@name.safetensors").write_bytes(ring)
    (folder / "empty.safetensors").write_bytes(b"")
    (folder / "notes.txt").write_text("not a model")
    os.mkfifo(folder / "pipe.safetensors")
    (folder / os.fsdecode(b"\xff.safetensors")).write_bytes(ring)
    missing = tmp_path / "missing"
    with serving(tmp_path / "home", LATENTD_MODELS=f"{folder}:{missing}") as other:
        listed = other.call("/models").json
        assert [model["name"] for model in listed["models"]] == ["good"]
        assert listed["default"] == "good"
        failures = {failure["file"]: failure["error"] for failure in listed["failures"]}
        assert set(failures) == {
            "torn.safetensors",
            "pickled.safetensors",
            "no@name.safetensors",
            "empty.safetensors",
            "pipe.safetensors",
            "\\udcff.safetensors",
            "missing",
        }
        assert "never reads pickles" in failures["pickled.safetensors"]
        log = other.log.read_text()
        assert all(name in log for name in failures if not name.startswith("\\"))
        mine = other.generate(model="good", seed=1).json["samples"]
    assert mine == server.generate(model="ring-gan", seed=1).json["samples"]


@pytest.mark.parametrize(("variable", "value"), [("LATENTD_MAX_SAMPLES", "many"), ("LATENTD_DEVICE", "cuda")])
def test_an_invalid_setting_ends_the_start_and_is_named(variable: str, value: str, tmp_path: Path) -> None:
    if variable == "LATENTD_DEVICE" and torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    with (
        pytest.raises(AssertionError, match=f"latentd cannot start: {variable}: "),
        serving(tmp_path, **{variable: value}),
    ):
        pass


def test_a_service_without_models_is_alive_but_not_ready(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with serving(tmp_path / "home", probe="/livez", LATENTD_MODELS=str(tmp_path / "empty")) as other:
        assert other.call("/readyz").error == (503, "service_unavailable", None)
        assert other.generate(seed=1).error == (404, "unknown_model", "model")
        assert "no model is served" in other.log.read_text()
