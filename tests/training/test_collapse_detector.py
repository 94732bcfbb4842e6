"""What the alarm says of vitals that tell of a collapse, and of those that do not; and of a run that is broken."""

import json
import logging
import re
from pathlib import Path

import pytest

from latentd.training.collapse_detector import CollapseDetector, Finding
from latentd.training.collapse_probe import ProbeReading
from latentd.training.directory import read_metrics
from latentd.training.recipe import load_recipe
from tests.training.runs import run_of, train

HEALTHY = ProbeReading(diversity=0.9, distance=0.02, movement=0.05, certainty=0.7)
SICK = {
    "modes lost": ProbeReading(diversity=0.2, distance=0.02, movement=0.05, certainty=0.8),
    "discriminator won": ProbeReading(diversity=0.1, distance=0.6, movement=0.02, certainty=1.0),
    "frozen generator": ProbeReading(diversity=0.1, distance=0.4, movement=0.0, certainty=0.9),
    "far from the data": ProbeReading(diversity=1.0, distance=0.9, movement=0.05, certainty=0.9),
    "oscillation": ProbeReading(diversity=0.2, distance=0.1, movement=1.5, certainty=0.9),
}


def heard(looks: list[ProbeReading], steps: int = 1000) -> list[tuple[int, Finding]]:
    """Looks at equal distances until the last step."""
    alarm = CollapseDetector(steps)
    at = [steps * (number + 1) // len(looks) for number in range(len(looks))]
    found = [(step, alarm.observe(step, vitals)) for step, vitals in zip(at, looks, strict=True)]
    return [(step, finding) for step, finding in found if finding]


@pytest.mark.parametrize("kind", SICK)
def test_each_kind_is_told_once_with_what_to_try(kind: str) -> None:
    findings = heard([SICK[kind]] * 20)
    assert [finding.kind for _, finding in findings] == [kind]
    step, finding = findings[0]
    assert step <= 450  # two fifths of the run are grace
    assert "try to" in finding.message
    assert f"{SICK[kind].diversity:.0%} of the data's clusters" in finding.message


def test_health_is_silent() -> None:
    assert heard([HEALTHY] * 40) == []


def test_every_generator_may_begin_with_few_modes() -> None:
    assert heard([SICK["modes lost"]] * 5 + [HEALTHY] * 35) == []


def test_one_bad_look_is_no_collapse() -> None:
    assert heard([HEALTHY] * 20 + [SICK["oscillation"]] + [HEALTHY] * 19) == []


def test_a_collapse_that_comes_late_is_told() -> None:
    findings = heard([HEALTHY] * 30 + [SICK["modes lost"]] * 10)
    assert [finding.kind for _, finding in findings] == ["modes lost"]
    assert findings[0][0] > 750


def test_a_run_without_discriminator_is_given_no_advice_for_one() -> None:
    assert heard([ProbeReading(diversity=0.1, distance=0.6, movement=0.02, certainty=None)] * 20) == []


def test_a_second_collapse_is_told_too() -> None:
    findings = heard([SICK["modes lost"]] * 20 + [HEALTHY] * 10 + [SICK["modes lost"]] * 10)
    assert [finding.kind for _, finding in findings] == ["modes lost"] * 2


@pytest.mark.parametrize("kind", SICK)
def test_what_it_says_to_try_can_be_set(kind: str) -> None:
    """Every setting in the message is one that a recipe takes."""
    message = heard([SICK[kind]] * 20)[0][1].message
    named = re.findall(r"[\w.]+=(?:\[.*?\]|[\w.]+)", message)
    assert named or kind == "far from the data"
    load_recipe("fashion-dcgan", [*named, "batch_size=64"])


def test_a_broken_run_is_told_while_it_goes_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    broken = (
        "noise.until=0.0001",
        "penalties={}",
        "objective=minimax",
        "discriminator_lr=0.01",
        "discriminator_steps=4",
    )
    with caplog.at_level(logging.WARNING):
        metrics = train(run_of("ring-gan", tmp_path, "steps=600", "batch_size=64", *broken)).card.metrics
    assert metrics["modes"] < 4
    alarms = [(moment["step"], moment["alarm"]) for moment in read_metrics(tmp_path) if "alarm" in moment]
    assert alarms
    assert alarms[0][0] < 600
    assert f"step {alarms[0][0]}: {alarms[0][1]['message']}" in caplog.text
    report = (tmp_path / "report.html").read_text()
    assert json.dumps(alarms[0][1]["message"])[1:40] in report
