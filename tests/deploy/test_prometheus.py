"""A real Prometheus scrapes a real service under load, with the shipped rules and configuration."""

import json
import math
import re
import signal
import subprocess
import threading
import urllib.parse
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import eventually, free_port
from tests.deploy.expressions import RULES, Expression, of_autoscaler, of_panels, of_rules, of_variables, rules
from tests.deploy.tools import installed
from tests.e2e.conftest import ROOT, Server, serving

ONLY_ON_A_GPU = "Copy from the GPU, 99th percentile"


@dataclass(frozen=True)
class Prometheus:
    url: str

    def ask(self, path: str, **parameters: str) -> Any:
        query = urllib.parse.urlencode(parameters)
        with urllib.request.urlopen(f"{self.url}/api/v1/{path}?{query}", timeout=300) as answer:
            return json.load(answer)["data"]

    def values(self, promql: str) -> list[float]:
        """Return the value of each series, without those that are NaN."""
        found = [float(series["value"][1]) for series in self.ask("query", query=promql)["result"]]
        return [value for value in found if not math.isnan(value)]


@contextmanager
def scraping(program: str, folder: Path, target: str) -> Iterator[Prometheus]:
    """Run Prometheus with the configuration in deploy/. It scrapes `target` every second; its data are in `folder`."""
    config = yaml.safe_load((RULES / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    config["rule_files"] = [str(RULES / file) for file in config["rule_files"]]
    config["scrape_configs"][0]["static_configs"] = [
        {"targets": [target], "labels": {"namespace": "latentd"}}  # as in Kubernetes
    ]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    address = f"127.0.0.1:{free_port()}"
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(
            [
                program,
                f"--config.file={folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address={address}",
            ],
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    prometheus = Prometheus(f"http://{address}")
    try:
        eventually(lambda: is_up(prometheus), "the service is not scraped")
        yield prometheus
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=300)
        finally:
            process.kill()


def is_up(prometheus: Prometheus) -> bool:
    try:
        return prometheus.values('up{job="latentd"}') == [1]
    except OSError:  # not listening yet
        return False


@contextmanager
def load(server: Server) -> Iterator[None]:
    """Send requests until the block ends: to two models, an invalid one, and one that misses its own deadline."""
    ended = threading.Event()

    def ask() -> None:
        many = json.dumps({"num_samples": 256, "seed": 0, "format": "webp"}).encode()
        while not ended.wait(0.05):
            assert server.generate(model="fashion-dcgan", num_samples=8, seed=1).status == 200
            assert server.generate(model="ring-gan", num_samples=2, seed=1).status == 200
            assert server.generate(num_samples=0).status == 400
            assert server.call("/generate", many, x_request_timeout="0.005").status == 504
            assert server.call("/nothing").status == 404

    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(ask)
        try:
            yield
        finally:
            ended.set()
        asking.result()


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """A Prometheus that scrapes a service under load."""
    program = installed("prometheus")
    folder = tmp_path_factory.mktemp("prometheus")
    with (
        serving(folder / "bentoml", LATENTD_MODELS=str(ROOT / "models" / "checkpoints")) as server,
        scraping(program, folder, server.url.removeprefix("http://")) as running,
        load(server),
    ):
        yield running


@pytest.mark.parametrize("asked", [pytest.param(each, id=f"{each.where}-{i}") for i, each in enumerate(of_panels())])
def test_every_panel_has_data(prometheus: Prometheus, asked: Expression) -> None:
    if asked.where == ONLY_ON_A_GPU:
        assert prometheus.ask("query", query=asked.promql)["result"]  # NaN, because nothing was copied
    else:
        eventually(lambda: bool(prometheus.values(asked.promql)), f"no data: {asked.promql}")


@pytest.mark.parametrize("asked", [pytest.param(each, id=each.where) for each in of_autoscaler()])
def test_the_autoscaler_gets_one_number(prometheus: Prometheus, asked: Expression) -> None:
    eventually(lambda: prometheus.values(asked.promql) != [], f"no data: {asked.promql}")
    (number,) = prometheus.values(asked.promql)
    assert 0 <= number < 4096
    nobody = asked.promql.replace('namespace="latentd"', 'namespace="nobody"')
    assert prometheus.ask("query", query=nobody)["result"] == []  # with 0, KEDA would remove pods


def test_rates_match_the_load(prometheus: Prometheus) -> None:
    def ratio_of(name: str) -> float:
        return (prometheus.values(f"job:latentd_{name}:ratio_rate5m") or [math.nan])[0]

    eventually(lambda: 0.1 < ratio_of("own_deadlines") < 0.4, "not a quarter misses its own deadline")
    eventually(lambda: 0 <= ratio_of("errors") < 0.02, "deadlines that requests set spend the error budget")
    assert ratio_of("refused") == 0


@pytest.mark.parametrize("name", [rule["record"] for rule in rules("recording.yml")])
def test_every_recording_rule_records(prometheus: Prometheus, name: str) -> None:
    eventually(lambda: bool(prometheus.values(name)), f"{name} has no number")


def test_named_metrics_exist_and_all_metrics_are_documented(prometheus: Prometheus) -> None:
    exist = {name for name in prometheus.ask("label/__name__/values") if name.startswith("latentd_")}
    named = set().union(*(each.metrics for each in (*of_rules(), *of_panels(), *of_variables(), *of_autoscaler())))
    assert named <= exist
    assert len(named) > 25
    table = re.findall(r"^\| `(latentd_\w+)` ", (ROOT / "docs" / "operations.md").read_text(), re.MULTILINE)
    assert {re.sub("_(bucket|sum|count)$", "", name) for name in exist} == set(table)


def test_every_rule_can_be_computed(prometheus: Prometheus) -> None:
    def computed() -> list[Any]:
        return [rule for group in prometheus.ask("rules")["groups"] for rule in group["rules"]]

    eventually(lambda: all(rule["health"] != "unknown" for rule in computed()), "some rules were not tried")
    assert [(rule["name"], rule["lastError"]) for rule in computed() if rule["health"] != "ok"] == []
    assert len(computed()) == len(list(of_rules()))
