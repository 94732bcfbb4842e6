"""Alarms of the collapse detector, on readings made by hand and in a run that is broken on purpose."""

import json
import logging
import re
from pathlib import Path

import pytest

from latentd.training.adversarial.hints import collapse_hints
from latentd.training.algorithms.gan import GanRecipe
from latentd.training.recipes.load import load_recipe
from latentd.training.run.collapse_detector import Alarm, CollapseDetector
from latentd.training.run.collapse_probe import ProbeReading
from latentd.training.run.directory import read_metrics
from tests.training.runs import run_config, train

HEALTHY = ProbeReading(diversity=0.9, distance=0.02, movement=0.05, discriminator_auc=0.7)
SETTING = re.compile(r"[\w.]+=(?:\[.*?\]|[\w.]+)")
COLLAPSED = {
    "modes lost": ProbeReading(diversity=0.2, distance=0.02, movement=0.05, discriminator_auc=0.8),
    "discriminator won": ProbeReading(diversity=0.1, distance=0.6, movement=0.02, discriminator_auc=1.0),
    "frozen generator": ProbeReading(diversity=0.1, distance=0.4, movement=0.0, discriminator_auc=0.9),
    "far from the data": ProbeReading(diversity=1.0, distance=0.9, movement=0.05, discriminator_auc=0.9),
    "oscillation": ProbeReading(diversity=0.2, distance=0.1, movement=1.5, discriminator_auc=0.9),
}


def hints_of(recipe: str, *settings: str) -> dict[str, str]:
    loaded = load_recipe(recipe, settings)[1]
    assert isinstance(loaded, GanRecipe)
    return collapse_hints(loaded)


def alarms_of(readings: list[ProbeReading], steps: int = 1000) -> list[tuple[int, Alarm]]:
    """Show the detector readings at equal intervals until the last step. Return its alarms with their steps."""
    detector = CollapseDetector(steps, hints_of("fashion-lsgan"))
    at = [steps * (number + 1) // len(readings) for number in range(len(readings))]
    answers = [(step, detector.observe(step, reading)) for step, reading in zip(at, readings, strict=True)]
    return [(step, alarm) for step, alarm in answers if alarm]


@pytest.mark.parametrize("kind", COLLAPSED)
def test_each_kind_of_collapse_raises_one_alarm_with_a_hint(kind: str) -> None:
    alarms = alarms_of([COLLAPSED[kind]] * 20)
    assert [alarm.kind for _, alarm in alarms] == [kind]
    step, alarm = alarms[0]
    assert step <= 450  # there are no alarms in the first two fifths
    assert "try to" in alarm.message
    assert f"{COLLAPSED[kind].diversity:.0%} of the data's clusters" in alarm.message


def test_an_algorithm_without_hints_is_not_watched() -> None:
    detector = CollapseDetector(1000, {})
    assert [detector.observe(step, COLLAPSED["modes lost"]) for step in range(800, 810)] == [None] * 10


def test_healthy_readings_raise_no_alarm() -> None:
    assert alarms_of([HEALTHY] * 40) == []


def test_few_modes_at_the_beginning_raise_no_alarm() -> None:
    assert alarms_of([COLLAPSED["modes lost"]] * 5 + [HEALTHY] * 35) == []


def test_a_single_bad_reading_raises_no_alarm() -> None:
    assert alarms_of([HEALTHY] * 20 + [COLLAPSED["oscillation"]] + [HEALTHY] * 19) == []


def test_a_late_collapse_raises_an_alarm() -> None:
    alarms = alarms_of([HEALTHY] * 30 + [COLLAPSED["modes lost"]] * 10)
    assert [alarm.kind for _, alarm in alarms] == ["modes lost"]
    assert alarms[0][0] > 750


def test_algorithms_without_a_discriminator_raise_no_alarm() -> None:
    assert alarms_of([ProbeReading(diversity=0.1, distance=0.6, movement=0.02, discriminator_auc=None)] * 20) == []


def test_a_second_collapse_raises_another_alarm() -> None:
    alarms = alarms_of([COLLAPSED["modes lost"]] * 20 + [HEALTHY] * 10 + [COLLAPSED["modes lost"]] * 10)
    assert [alarm.kind for _, alarm in alarms] == ["modes lost"] * 2


@pytest.mark.parametrize("recipe", ["fashion-lsgan", "fashion-dcgan", "ring-gan", "image-folder-dcgan"])
def test_hints_name_settings_that_exist_and_are_not_in_force(recipe: str) -> None:
    """A recipe accepts all settings that a hint names, and with them, the hint does not name them again."""
    hints = hints_of(recipe)
    named = [(kind, setting) for kind, hint in hints.items() for setting in SETTING.findall(hint)]
    assert len(named) >= 2
    for kind, setting in named:
        assert setting not in SETTING.findall(hints_of(recipe, setting, "batch_size=64")[kind])


def test_hints_say_what_numbers_are_in_force() -> None:
    hint = hints_of("fashion-dcgan", "penalties.r1.weight=0.3", "discriminator_lr=3e-4")["discriminator won"]
    assert "raise penalties.r1.weight, now 0.3" in hint
    assert "lower discriminator_lr (now 0.0003)" in hint


@pytest.mark.parametrize(
    ("distance", "words"), [(-0.14, "lie 14% nearer to it than"), (0.3, "lie 30% farther from it")]
)
def test_an_alarm_says_where_samples_lie(distance: float, words: str) -> None:
    reading = ProbeReading(diversity=0.2, distance=distance, movement=0.05, discriminator_auc=0.8)
    assert words in alarms_of([reading] * 20)[0][1].message


def test_a_broken_run_raises_an_alarm_while_it_runs(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    broken = (
        "noise.until=0.0001",
        "penalties={}",
        "objective=minimax",
        "discriminator_lr=0.01",
        "discriminator_steps=4",
    )
    with caplog.at_level(logging.WARNING):
        metrics = train(run_config("ring-gan", tmp_path, "steps=600", "batch_size=64", *broken)).card.metrics
    assert metrics["modes"] < 4
    alarms = [(line["step"], line["alarm"]) for line in read_metrics(tmp_path) if "alarm" in line]
    assert alarms
    step, alarm = alarms[0]
    assert step < 600
    assert f"step {step}: {alarm['message']}" in caplog.text
    assert json.dumps(alarm["message"])[1:40] in (tmp_path / "report.html").read_text()
