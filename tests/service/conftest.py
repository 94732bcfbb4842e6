"""Fixtures of the tests whose model is a fake."""

import pytest

from tests.service.fakes import Breakable


@pytest.fixture
def runner() -> Breakable:
    """Passes that end at once."""
    runner = Breakable()
    runner.release()
    return runner
