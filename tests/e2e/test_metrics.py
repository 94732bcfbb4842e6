"""/metrics of a real server: the numbers are right, the series are bounded, and the names follow Prometheus."""

import http.client
import json
import shutil
import socket
import subprocess
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from prometheus_client.parser import text_string_to_metric_families

from latentd.models.checkpoint import Checkpoint, write_checkpoint
from tests.conftest import eventually
from tests.e2e.conftest import ROOT, Server, serving
from tests.e2e.test_engine import ask_for_many

SHIPPED = ROOT / "models" / "checkpoints"
Series = tuple[str, tuple[tuple[str, str], ...]]


def scrape(server: Server) -> dict[Series, float]:
    text = server.call("/metrics").body.decode()
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


class Growth:
    """How much metrics have grown since this object was made."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._before = scrape(server)

    def of(self, name: str, **labels: str) -> float:
        series = (f"latentd_{name}", tuple(sorted(labels.items())))
        return scrape(self._server).get(series, 0) - self._before.get(series, 0)


def test_a_known_load_is_counted(server: Server) -> None:
    growth = Growth(server)
    for seed in range(5):
        assert server.generate(model="ring-gan", num_samples=3, seed=seed).status == 200
    eventually(lambda: growth.of("requests_total", endpoint="/generate", model="ring-gan", status="2xx") == 5)
    assert growth.of("request_seconds_count", endpoint="/generate") == 5
    assert 0 < growth.of("request_seconds_sum", endpoint="/generate") < 60
    assert growth.of("samples_total", model="ring-gan") == 15
    assert growth.of("batch_samples_sum") == 15
    batches = growth.of("batch_samples_count")
    assert 5 <= batches <= 15  # a request may be divided among the cores
    assert growth.of("forward_seconds_count", model="ring-gan", stage="synthesis") == batches
    assert growth.of("encode_seconds_count") == growth.of("queue_wait_seconds_count") == batches
    assert growth.of("copy_seconds_count") == 0
    assert 0 < growth.of("batch_fill_ratio_sum") <= batches
    now = scrape(server)
    assert now["latentd_queued_samples", ()] == 0
    assert 0 < now["latentd_device_memory_bytes", ()] < now["latentd_device_memory_capacity_bytes", ()]
    (build,) = (dict(labels) for name, labels in now if name == "latentd_build_info")
    assert set(build) == {"version", "python", "torch", "bentoml", "device"}


def test_refused_requests_are_counted_by_reason(server: Server) -> None:
    growth = Growth(server)
    assert server.generate(num_samples=0).status == 400
    assert server.generate(model="nope").status == 404
    assert growth.of("rejections_total", reason="invalid_request") == 1
    assert growth.of("rejections_total", reason="unknown_model") == 1
    assert growth.of("requests_total", endpoint="/generate", model="", status="4xx") == 2


def test_a_request_whose_client_leaves(server: Server) -> None:
    growth = Growth(server)
    others = ask_for_many(server, 8)
    address = urlsplit(server.url)
    body = json.dumps({"num_samples": 256, "seed": 0, "format": "webp"}).encode()
    head = b"POST /generate HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(body)
    with socket.create_connection((address.hostname, address.port), timeout=300) as leaving:
        leaving.sendall(head + body)
        assert server.generate(seed=1).status == 200  # it is accepted later, and one sample overtakes many
    eventually(lambda: growth.of("abandoned_samples_total") > 0)
    assert {connection.getresponse().status for connection in others} == {200}
    assert growth.of("abandoned_samples_total") <= 256
    assert growth.of("requests_total", endpoint="/generate", model="fashion-dcgan", status="4xx") == 1
    assert growth.of("rejections_total", reason="timeout") == 0


def test_an_abandoned_stream_is_counted(server: Server) -> None:
    growth = Growth(server)
    address = urlsplit(server.url)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=300)
    body = json.dumps({"keyframes": [{"seed": 1}, {"seed": 2}], "steps": 1000, "format": "webp"})
    connection.request("POST", "/interpolate", body, {"Accept": "text/event-stream"})
    answer = connection.getresponse()
    assert answer.status == 200
    answer.read(100)
    answer.close()
    connection.close()
    eventually(lambda: growth.of("abandoned_samples_total") > 0)
    assert growth.of("abandoned_samples_total") <= 1001


def test_requests_refused_unread_are_counted(tmp_path: Path) -> None:
    with serving(tmp_path, LATENTD_MODELS=str(SHIPPED), LATENTD_MAX_REQUESTS="1") as other:
        growth = Growth(other)

        def ask(seed: int) -> int:
            return other.generate(num_samples=256, seed=seed, format="webp").status

        with ThreadPoolExecutor(8) as pool:
            statuses = list(pool.map(ask, range(16)))
        refused = statuses.count(429)
        assert set(statuses) == {200, 429}
        assert growth.of("rejections_total", reason="too_many_requests") == refused
        eventually(lambda: growth.of("request_seconds_count", endpoint="/generate") == 16)
        assert growth.of("requests_total", endpoint="/generate", model="", status="4xx") == refused
        assert growth.of("samples_total", model="fashion-dcgan") == 256 * (16 - refused)


def test_series_follow_the_models(tmp_path: Path) -> None:
    folder = tmp_path / "models"
    folder.mkdir()
    shipped = Checkpoint.read(SHIPPED / "ring-gan.safetensors")
    file = folder / "ring-gan.safetensors"
    shutil.copy(SHIPPED / "ring-gan.safetensors", file)
    with serving(tmp_path / "home", LATENTD_MODELS=str(folder), LATENTD_MODEL_MEMORY="1") as other:
        growth = Growth(other)
        changed = {name: tensor * 1.01 for name, tensor in shipped.tensors.items()}
        write_checkpoint(file, shipped.card, changed)
        eventually(lambda: growth.of("model_swaps_total") == 1)
        assert growth.of("model_loads_total") == 1
        (folder / "bad.safetensors").write_bytes(b"no checkpoint")
        eventually(lambda: growth.of("model_load_failures_total") == 1)
        for turn in range(3):  # a name that changes again and again
            assert other.generate(seed=turn).status == 200
            renamed = folder / f"renamed-{turn}.safetensors"
            file.rename(renamed)
            file = renamed
            eventually(lambda name=file.stem: other.call(f"/models/{name}").status == 200)
        names = {dict(labels)["model"] for _, labels in scrape(other) if "model" in dict(labels)}
        assert names <= {"", file.stem}
        infos = [dict(labels) for name, labels in scrape(other) if name == "latentd_model_info"]
        assert [each["model"] for each in infos] == [file.stem]
        shutil.copy(SHIPPED / "ring-gan.safetensors", folder / "second.safetensors")
        eventually(lambda: growth.of("model_evictions_total") == 1)


def test_unknown_paths_methods_and_models_add_no_series(server: Server) -> None:
    methods = ("GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "PROPFIND", "BREW")
    folders = ("/", "/static_content/", "/models/", "/generate/", "/livez/", "/metrics/", "/docs.json/", "/a/b/")
    upgrades = ({}, {"connection": "Upgrade", "upgrade": "h2c"}, {"connection": "Upgrade", "upgrade": "websocket"})

    def flood(rounds: int) -> None:
        for number in range(rounds):
            path, method = folders[number % len(folders)] + uuid.uuid4().hex, methods[number % len(methods)]
            address = urlsplit(server.url)
            connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=300)
            connection.request(method, path, headers=upgrades[number % len(upgrades)])
            assert connection.getresponse().status >= 400
            connection.close()
            assert server.generate(model=uuid.uuid4().hex).status == 404

    flood(72)  # every combination
    before = set(scrape(server))
    flood(500)
    assert set(scrape(server)) == before
    assert not [labels for _, labels in before if "/static_content" in dict(labels).get("endpoint", "")]


def test_bentomls_pages_still_work(server: Server) -> None:
    assert b"<html" in server.call("/").body
    assert server.call("/static_content/swagger-ui.css").status == 200
    assert server.call("/livez", method="DELETE").error == (405, "method_not_allowed", None)
    assert server.call("/static_content/nothing").error == (404, "not_found", None)


def test_names_and_units_follow_prometheus(server: Server) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed: apt-get install prometheus")
    text = server.call("/metrics").body.decode()
    ours = "".join(line + "\n" for line in text.splitlines() if "bentoml_" not in line.partition("{")[0])
    assert "latentd_requests_total" in ours
    done = subprocess.run([promtool, "check", "metrics"], input=ours, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
