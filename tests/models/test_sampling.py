import subprocess
import sys

import pytest

SCRIPT = """
import threading
import numpy as np, torch
from latentd.models.families import build_generator
from latentd.models.outputs.points import PointsOutput
from latentd.models.sampling import forward_pass
from latentd.models.stage_input import StageInput
from tests.conftest import spec_of

torch.set_num_threads({threads})
torch.manual_seed(0)
generator = build_generator(spec_of("mlp", PointsOutput(dim=2), hidden=(2000, 2000))).eval()
rows = StageInput(np.random.RandomState(0).standard_normal((16, 8)).astype(np.float32))
found = []
for _ in range(3):
    thread = threading.Thread(target=lambda: found.append(forward_pass(generator, rows, 16).tobytes()))
    thread.start()
    thread.join()
found.append(forward_pass(generator, rows, 16).tobytes())
print(len(set(found)))
"""


@pytest.mark.parametrize("threads", [1, 2])
def test_a_new_thread_computes_the_same_bits(threads: int) -> None:
    """In a fresh process, because only the first passes of a process differ."""
    script = SCRIPT.format(threads=threads)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300, check=True)
    assert done.stdout.strip() == "1"
