"""Tests of what happens on a GPU. They are skipped where there is none.

LATENTD_TEST_DEVICE=cpu runs those of them that also make sense on a CPU, as a test of the tests.
"""

import os

import pytest
import torch

from latentd.models.hardware import configure_device

WANTED = os.environ.get("LATENTD_TEST_DEVICE", "cuda")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("gpu") is None:
            continue
        needs_cuda = WANTED == "cuda" or "cuda" in getattr(item, "fixturenames", ())
        if needs_cuda and not torch.cuda.is_available():
            item.add_marker(pytest.mark.skip(reason="there is no CUDA device on this machine"))


@pytest.fixture(scope="session")
def device() -> torch.device:
    """The device that the tests are about: the GPU, or the CPU if only the tests are tested."""
    return torch.device(WANTED)


@pytest.fixture(scope="session")
def cuda() -> torch.device:
    """The GPU, for tests that make no sense without one."""
    device = torch.device("cuda")
    configure_device(device)
    return device
