"""The queries that the dashboard, the rules and the autoscaler send to Prometheus."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

DEPLOY = Path(__file__).parents[2] / "deploy"
RULES = DEPLOY / "prometheus"
KUBERNETES = DEPLOY / "kubernetes"
DASHBOARD: dict[str, Any] = json.loads((DEPLOY / "grafana" / "latentd.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]

_RECORDED = re.compile(r"\b\w+:latentd_\w+:\w+")
_OURS = re.compile(r"(?<![\w:])latentd_\w+(?![\w:])")


@dataclass(frozen=True)
class Expression:
    """A PromQL expression and the name of the panel, rule or trigger that has it."""

    where: str
    promql: str

    @property
    def recorded(self) -> set[str]:
        """The recording rules that it names."""
        return set(_RECORDED.findall(self.promql))

    @property
    def metrics(self) -> set[str]:
        """The service's metrics that it names."""
        return set(_OURS.findall(self.promql))


def rules(file: str) -> list[dict[str, Any]]:
    groups = yaml.safe_load((RULES / file).read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def of_panels() -> Iterator[Expression]:
    """Yield the queries of the dashboard, for all instances and models, with rates over ten seconds."""
    for panel in PANELS:
        for target in panel["targets"]:
            promql = target["expr"].replace("$__rate_interval", "10s")
            yield Expression(panel["title"], promql.replace("$instance", ".*").replace("$model", ".*"))


def of_variables() -> Iterator[Expression]:
    for variable in DASHBOARD["templating"]["list"]:
        if variable["type"] == "query":
            yield Expression(variable["name"], variable["query"]["query"])


def of_rules() -> Iterator[Expression]:
    for file in ("recording.yml", "alerts.yml"):
        for rule in rules(file):
            yield Expression(rule.get("alert") or rule["record"], rule["expr"])


def of_autoscaler() -> Iterator[Expression]:
    """Yield the queries that KEDA sends, on CPUs and on GPUs."""
    scaler = yaml.safe_load((KUBERNETES / "components" / "autoscaling" / "scaler.yaml").read_text())
    added = [each["value"] for overlay in ("cpu", "gpu") for each in _patch(overlay)]
    for trigger in (*scaler["spec"]["triggers"], *added):
        if trigger["type"] == "prometheus":
            yield Expression(trigger["name"], trigger["metadata"]["query"])


def _patch(overlay: str) -> list[dict[str, Any]]:
    patch: list[dict[str, Any]] = yaml.safe_load((KUBERNETES / overlay / "scaling.yaml").read_text())
    return patch
