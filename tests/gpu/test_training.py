"""Checkpoints that were trained on one kind of device, on the other."""

from pathlib import Path

import numpy as np
import pytest
import torch

import latentd
from benchmarks.data import zip_of_images
from latentd.models.checkpoint import Checkpoint
from latentd.models.hardware import configure_device
from latentd.models.latents import seeds_to_rows
from latentd.models.outputs.base import Samples
from latentd.models.outputs.image import to_pixels
from latentd.models.sampling import generate_rows

pytestmark = pytest.mark.gpu

SMALL = {
    "steps": 10,
    "batch_size": 8,
    "data.resolution": 32,
    "generator.config.width": 8,
    "discriminator.config.width": 8,
}
LARGEST_DIFFERENCE = 2
"""Of 255, between the pixels of two kinds of device."""


@pytest.mark.parametrize("trained_on_gpu", [True, False])
def test_a_checkpoint_gives_the_same_pictures_on_both_kinds_of_device(
    tmp_path: Path, device: torch.device, trained_on_gpu: bool
) -> None:
    trained_on = device.type if trained_on_gpu else "cpu"
    images = zip_of_images(tmp_path, 40)
    run = latentd.train("image-folder-dcgan", images, out=tmp_path / "run", device=trained_on, **SMALL)
    assert run.is_complete
    checkpoint = Checkpoint.read(run.checkpoint)
    here, there = (to_pixels(samples_on(checkpoint, each)).astype(int) for each in (device, torch.device("cpu")))
    assert here.std() > 1
    assert np.abs(here - there).max() <= LARGEST_DIFFERENCE


def samples_on(checkpoint: Checkpoint, device: torch.device) -> Samples:
    configure_device(device)  # training has chosen faster kernels that round more
    generator = checkpoint.build(device)
    return generate_rows(generator, seeds_to_rows(generator.spec, range(64)))
