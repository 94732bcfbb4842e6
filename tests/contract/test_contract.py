"""The service and the command line keep what tests/contract/names.json and samples.json record.

Recorded at commit 778f070. What is new may be added; what is recorded stays.
"""

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from tests.contract.answers import Recorded, unpacked
from tests.contract.cases import EXACT, SHIPPED
from tests.contract.names import names
from tests.contract.record import NAMES, SAMPLES, contract_server, encoders, key_of, observe
from tests.e2e.conftest import Server

RECORDED_NAMES: dict[str, Any] = json.loads(NAMES.read_text(encoding="utf-8"))
RECORDED_SAMPLES: dict[str, Any] = json.loads(SAMPLES.read_text(encoding="utf-8"))
# Numbers of shipped networks differ in their last bits between CPUs: by far less than these.
PIXEL_TOLERANCE, POINT_TOLERANCE = 2, 1e-4
# x264 may encode the same frames differently, which shows as noise.
FILM_TOLERANCE = 16


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with contract_server(tmp_path_factory.mktemp("contract")) as running:
        yield running


@pytest.fixture(scope="module")
def answers(server: Server) -> dict[str, Recorded]:
    return observe(server, EXACT | SHIPPED)


@pytest.fixture(scope="module")
def current_names(server: Server, answers: dict[str, Recorded]) -> dict[str, Any]:
    return names(server)


def missing(recorded: Any, current: Any, path: str = "") -> list[str]:
    """Return the paths of what is recorded and has changed or is gone. Objects and lists may have new members."""
    if isinstance(recorded, dict) and isinstance(current, dict):
        gone = [f"{path}/{name}" for name in recorded.keys() - current.keys()]
        return gone + [
            line
            for name in recorded.keys() & current.keys()
            for line in missing(recorded[name], current[name], f"{path}/{name}")
        ]
    if isinstance(recorded, list) and isinstance(current, list):
        return [f"{path}/{each}" for each in recorded if each not in current]
    return [] if recorded == current else [f"{path}: was {recorded!r}, is {current!r}"]


def test_missing_finds_every_kind_of_change() -> None:
    recorded = {"a": {"b": [1, 2]}, "c": None}
    assert missing(recorded, {"a": {"b": [3, 2, 1]}, "c": None, "d": 4}) == []
    assert missing(recorded, {"a": {"b": [1]}, "c": None}) == ["/a/b/2"]
    assert missing(recorded, {"a": {}}) == ["/c", "/a/b"]
    assert missing(recorded, {"a": {"b": [1, 2]}, "c": ""}) == ["/c: was None, is ''"]


@pytest.mark.parametrize("section", RECORDED_NAMES)
def test_names_stay(current_names: dict[str, Any], section: str) -> None:
    assert missing(RECORDED_NAMES[section], current_names[section]) == []


def test_every_case_is_recorded() -> None:
    assert RECORDED_SAMPLES.keys() == EXACT.keys() | SHIPPED.keys()


@pytest.mark.parametrize("case", EXACT)
def test_exact_samples_are_the_same_on_every_machine(answers: dict[str, Recorded], case: str) -> None:
    """Slerp and neighbors go through sin and cos in float64, whose last bit is lost in the float32 of a latent."""
    assert answers[case].says == RECORDED_SAMPLES[case]["says"]


@pytest.mark.parametrize("case", [name for name, recorded in RECORDED_SAMPLES.items() if "values" in recorded])
def test_other_samples_are_nearly_the_same_on_every_machine(answers: dict[str, Recorded], case: str) -> None:
    recorded = RECORDED_SAMPLES[case]["values"]
    for values, before in zip(answers[case].values, recorded, strict=True):
        tolerance = PIXEL_TOLERANCE if values.dtype == np.uint8 else POINT_TOLERANCE
        if case.endswith("mp4"):
            tolerance = FILM_TOLERANCE
        assert np.abs(values.astype(float) - unpacked(before, values).astype(float)).max() <= tolerance


@pytest.mark.parametrize("case", EXACT | SHIPPED)
def test_bytes_stay(server: Server, answers: dict[str, Recorded], case: str) -> None:
    key = key_of(case, answers[case], encoders(server))
    known = RECORDED_SAMPLES[case]["bytes"]
    if key not in known:
        pytest.skip(f"no bytes are recorded for {key}; the decoded samples were compared instead")
    assert answers[case].digest == known[key]
