"""The files of the dashboard and the rules: complete, documented, and each alert tried."""

import re
import subprocess
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import yaml

from tests.deploy.expressions import DASHBOARD, DEPLOY, PANELS, RULES, of_panels, of_rules, rules
from tests.deploy.tools import installed

CASES = sorted((RULES / "tests").glob("*.yml"))
ROWS = ["Traffic", "Latency", "Saturation", "Errors", "Batching efficiency", "Models", "Device"]


def promtool(*arguments: str | Path) -> None:
    done = subprocess.run([installed("promtool"), *arguments], cwd=RULES, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_promtool_accepts_configuration_and_rules() -> None:
    promtool("check", "config", "prometheus.yml")
    promtool("check", "rules", "--lint-fatal", "recording.yml", "alerts.yml")


def test_alerts_fire_when_they_should() -> None:
    promtool("test", "rules", *CASES)


def test_every_alert_is_tested_firing_and_silent() -> None:
    checks = [
        (check["alertname"], bool(check["exp_alerts"]))
        for file in CASES
        for case in yaml.safe_load(file.read_text())["tests"]
        for check in case["alert_rule_test"]
    ]
    assert set(checks) == {(rule["alert"], fires) for rule in rules("alerts.yml") for fires in (True, False)}


def test_every_alert_says_what_to_do() -> None:
    headings = re.findall(r"^#+ (.+)$", (DEPLOY.parent / "docs" / "operations.md").read_text(), re.MULTILINE)
    for rule in rules("alerts.yml"):
        assert rule["labels"]["severity"] in ("page", "ticket")
        assert rule["annotations"]["summary"]
        assert rule["annotations"]["runbook"] == f"docs/operations.md#{rule['alert'].lower()}"
        assert rule["alert"] in headings


def test_recording_rules_exist_and_are_used() -> None:
    recorded = [rule["record"] for rule in rules("recording.yml")]
    assert len(set(recorded)) == len(recorded)
    assert set().union(*(each.recorded for each in (*of_rules(), *of_panels()))) == set(recorded)


def test_panels_fit_the_grid_and_do_not_overlap() -> None:
    panels: list[dict[str, Any]] = DASHBOARD["panels"]
    assert [panel["title"] for panel in panels if panel["type"] == "row"] == ROWS
    assert len({panel["id"] for panel in panels}) == len(panels)
    for panel in panels:
        place = panel["gridPos"]
        assert place["x"] >= 0
        assert place["x"] + place["w"] <= 24
    for one, other in combinations((panel["gridPos"] for panel in panels), 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        above = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert beside or above


def test_every_panel_has_a_unit_and_says_what_to_do() -> None:
    for panel in PANELS:
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        assert len(panel["description"]) > 40, panel["title"]
        names = [target["refId"] for target in panel["targets"]]
        assert len(set(names)) == len(names) > 0


def test_every_query_uses_the_chosen_prometheus() -> None:
    variables = {variable["name"] for variable in DASHBOARD["templating"]["list"]}
    assert variables == {"datasource", "instance", "model"}

    def sources(part: Any) -> Iterator[Any]:
        for key, value in part.items() if isinstance(part, dict) else enumerate(part) if isinstance(part, list) else ():
            if key == "datasource":
                yield value
            yield from sources(value)

    found = list(sources(DASHBOARD))
    assert len(found) > 2 * len(PANELS)
    assert all(source == {"type": "prometheus", "uid": "${datasource}"} for source in found)


def test_panels_follow_the_chosen_instances() -> None:
    for panel in PANELS:
        for target in panel["targets"]:
            for metric, selector in re.findall(r"((?:\w+:)?latentd_\w+(?::\w+)?)(\{[^}]*\})?", target["expr"]):
                assert metric.startswith("job:") or 'instance=~"$instance"' in selector, target["expr"]
