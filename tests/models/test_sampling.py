import subprocess
import sys

import numpy as np
import pytest

from latentd.models.latents import seeds_to_latents
from latentd.models.sampling import StageInput, labels_to_weights
from tests.conftest import image_spec

SCRIPT = """
import threading
import numpy as np, torch
from latentd.models.families import build_generator
from latentd.models.outputs import PointsOutput
from latentd.models.sampling import StageInput, forward_pass
from tests.conftest import spec_of

torch.set_num_threads({threads})
torch.manual_seed(0)
generator = build_generator(spec_of("mlp", PointsOutput(dim=2), hidden=(2000, 2000))).eval()
rows = StageInput(np.random.RandomState(0).standard_normal((16, 8)).astype(np.float32), None)
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


def test_a_conditional_generator_needs_a_label_for_each_sample() -> None:
    spec = image_spec(conditional=True)
    latents, labels = seeds_to_latents(spec, [1, 2])
    assert np.array_equal(StageInput.from_labels(spec, latents, [2, 0]).condition, np.eye(3)[[2, 0]])
    for wrong, message in (([1, None], "needs a label"), ([1, 3], "no class 3"), ([-1, 1], "no class -1")):
        with pytest.raises(ValueError, match=message):
            StageInput.from_labels(spec, latents, wrong)
    assert StageInput.from_labels(spec, latents, labels).condition is not None
    assert StageInput.from_labels(image_spec(), latents, [None, None]).condition is None


def test_class_weights_may_be_mixed() -> None:
    weights = np.float32([0.25, 0.0, 0.75])
    assert labels_to_weights([1, weights], 3).tolist() == [[0.0, 1.0, 0.0], [0.25, 0.0, 0.75]]
