"""Errors are plain values, cheap to import."""

import subprocess
import sys

import pytest

from latentd.service.errors import ApiError, ErrorAnswer, invalid, too_busy

HEAVY = ("torch", "av", "opentelemetry", "starlette", "bentoml", "numpy")


@pytest.mark.parametrize("module", ["latentd.service.errors", "latentd.service.context"])
def test_specs_and_errors_load_no_heavy_library(module: str) -> None:
    check = f"import sys, {module}; print([name for name in {HEAVY} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_an_error_has_one_body() -> None:
    body = ErrorAnswer.of(invalid("seed", "it is negative")).model_dump()
    assert body == {"error": {"code": "invalid_request", "message": "it is negative", "field": "seed"}}


def test_long_quotes_of_the_request_are_cut() -> None:
    problem = ApiError(400, "invalid_request", "x" * 10_000, "y" * 10_000)
    assert (problem.message, problem.field) == ("x" * 2000, "y" * 100)


@pytest.mark.parametrize(("seconds", "header"), [(0.0, "1"), (1.2, "2"), (60.0, "60")])
def test_retry_after_is_whole_seconds_and_at_least_one(seconds: float, header: str) -> None:
    assert too_busy("full", seconds).headers == {"Retry-After": header}
