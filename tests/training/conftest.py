import pytest
import torch


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Several threads of one small network wait for each other wherever the machine has other work to do."""
    torch.set_num_threads(1)
