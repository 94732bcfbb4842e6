"""When the autoscaler adds and removes pods: promtool computes the values that KEDA would get."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.deploy.expressions import of_autoscaler
from tests.deploy.manifests import NAMES, Manifests, manifests
from tests.deploy.tools import installed

QUERIES = {each.where: each.promql for each in of_autoscaler()}
PODS = ("a", "b")


@pytest.fixture(params=NAMES)
def given(request: pytest.FixtureRequest) -> Manifests:
    return manifests(request.param)


def trigger_values(folder: Path, **series: str) -> dict[str, float | None]:
    """Return the value of each trigger after four minutes. `series`: the values of each of two pods, one each 15 s."""
    recorded = {name: f"asked:{name.replace('-', '_')}" for name in QUERIES}
    group = [{"record": recorded[name], "expr": promql} for name, promql in QUERIES.items()]
    (folder / "rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "asked", "rules": group}]}))
    of_pods = [
        {"series": f'{name}{{job="latentd",namespace="latentd",instance="{pod}"}}', "values": values}
        for name, values in series.items()
        for pod in PODS
    ]
    wrong = [{"labels": "asked", "value": -1}]  # promtool prints the value that it found instead
    asked = [{"expr": record, "eval_time": "4m", "exp_samples": wrong} for record in recorded.values()]
    test = {"interval": "15s", "input_series": of_pods, "promql_expr_test": asked}
    (folder / "test.yml").write_text(yaml.safe_dump({"rule_files": ["rules.yml"], "tests": [test]}))
    command = [installed("promtool"), "test", "rules", "test.yml"]
    said = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    found = dict(re.findall(r"got:.*?(asked:\w+)\S* (\S+)", said.stdout + said.stderr))
    assert "error" not in said.stderr.lower(), said.stderr
    return {name: float(found[record]) if record in found else None for name, record in recorded.items()}


def test_triggers_are_zero_without_requests(tmp_path: Path) -> None:
    idle = trigger_values(
        tmp_path,
        latentd_queued_samples="0x16",
        latentd_queue_wait_seconds_sum="0x16",
        latentd_queue_wait_seconds_count="0x16",
    )
    assert idle == dict.fromkeys(QUERIES, 0)


def test_triggers_count_the_load_of_full_pods(tmp_path: Path) -> None:
    full = trigger_values(
        tmp_path,
        latentd_queued_samples="3000x16",
        latentd_queue_wait_seconds_sum="0+150x16",  # a second a batch
        latentd_queue_wait_seconds_count="0+150x16",
        latentd_forward_seconds_sum="0+13.5x16",
    )
    assert full == pytest.approx({"queued-samples": 6000, "queue-wait": 1, "busy": 1.8})


def test_triggers_have_no_value_without_metrics(tmp_path: Path) -> None:
    assert trigger_values(tmp_path) == dict.fromkeys(QUERIES)


def test_a_missing_value_does_not_count_as_idle(given: Manifests) -> None:
    scaler = given.one("ScaledObject")["spec"]
    asked = [trigger for trigger in scaler["triggers"] if trigger["type"] == "prometheus"]
    assert {trigger["metadata"]["ignoreNullValues"] for trigger in asked} == {"false"}
    assert "fallback" not in scaler
    assert 1 < scaler["minReplicaCount"] < scaler["maxReplicaCount"]


def test_each_trigger_has_its_metric_type(given: Manifests) -> None:
    compared = {trigger["name"]: trigger["metricType"] for trigger in given.triggers}
    busy = {"cpu": {"busy": "Utilization"}, "gpu": {"busy": "AverageValue"}}.get(given.name[:3], {})
    assert compared == {"queued-samples": "AverageValue", "queue-wait": "Value"} | busy
    for trigger in given.triggers:
        assert all(isinstance(value, str) for value in trigger["metadata"].values())  # or KEDA's schema refuses it


def test_triggers_query_the_namespace_of_the_pods(given: Manifests) -> None:
    namespace = given.one("Deployment")["metadata"].get("namespace", "latentd")
    for trigger in given.triggers:
        asked = trigger["metadata"].get("query", "")
        assert set(re.findall(r'namespace="([^"]*)"', asked)) == ({namespace} if asked else set())
        assert asked.count("latentd_") == asked.count(f'{{job="latentd",namespace="{namespace}"}}')


def test_scaling_down_is_slower_than_scaling_up(given: Manifests) -> None:
    behavior = given.one("ScaledObject")["spec"]["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    (up,), (down,) = (behavior[each]["policies"] for each in ("scaleUp", "scaleDown"))
    assert up == {"type": "Percent", "value": 100, "periodSeconds": 60}
    assert down["type"] == "Pods"
    assert down["periodSeconds"] >= 300 >= behavior["scaleUp"].get("stabilizationWindowSeconds", 0)
