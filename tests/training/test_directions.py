"""The search for directions: planted ones are found, and those of weights agree with NumPy."""

import base64
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from latentd.models.checkpoint import Checkpoint
from latentd.models.directions import Directions
from latentd.models.family import Generator
from latentd.models.outputs.image import ImageOutput
from latentd.training.directions.dataset import LatentDataset
from latentd.training.directions.find import find_directions
from latentd.training.directions.fit import fit, held_out
from latentd.training.directions.measures import MEASURES, ObjectImages
from latentd.training.directions.unsupervised import closed_form, principal_components
from tests import two_stage
from tests.conftest import image_spec, points_spec, spec_of

Write = Callable[..., Checkpoint]
SIDE = 28
PLANTED = {"brightness": 0, "width": 1, "height": 2}
"""The index of the latent's component that changes the property."""


class Boxes(Generator):
    """Draws a grey box on black. Its brightness, width and height each depend on one component of z."""

    def __init__(self, conditional: bool = False) -> None:
        super().__init__(image_spec(conditional=conditional))
        self.unused = torch.nn.Linear(1, 1)

    def forward(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        larger = 0.0 if condition is None else condition[:, 1] * 2.0  # boxes of class 1 are larger
        across = torch.arange(SIDE) - SIDE / 2 + 0.5
        light = (0.6 + 0.08 * z[:, 0]).clamp(0.3, 1.0)
        columns = (7.0 + larger + z[:, 1, None].T - across.abs()[:, None]).sigmoid().T  # [N, SIDE]
        rows = (7.0 + larger + z[:, 2, None].T - across.abs()[:, None]).sigmoid().T
        return 2.0 * (light[:, None, None] * rows[:, :, None] * columns[:, None, :])[:, None] - 1.0


@pytest.mark.parametrize("conditional", [False, True])
@pytest.mark.parametrize("name", PLANTED)
def test_planted_directions_are_found(name: str, conditional: bool) -> None:
    dataset = LatentDataset.from_seeds(Boxes(conditional), range(512))
    (measure,) = (each for each in MEASURES if each.name == name)
    images = ObjectImages(dataset.samples)
    assert images.have_black_background
    found = fit(dataset, measure.measure(images))
    assert found.unit[PLANTED[name]] > 0.9
    assert found.r_squared > 0.9


def test_controls_are_removed_from_the_direction() -> None:
    dataset = LatentDataset.from_seeds(Boxes(), range(512))
    z = dataset.latents
    both = z[:, 0] + z[:, 1]
    assert fit(dataset, both).unit[:2] == pytest.approx([0.5**0.5] * 2, abs=0.01)
    assert np.abs(fit(dataset, both, [z[:, 0]]).unit[1]) > 0.99


@pytest.mark.parametrize("conditional", [False, True])
def test_the_score_uses_held_out_latents_only(conditional: bool) -> None:
    dataset = LatentDataset.from_seeds(Boxes(conditional), range(128))
    noise = np.random.RandomState(0).standard_normal(128)
    found = fit(dataset, noise)
    assert found.r_squared < 0.2
    other = noise.copy()
    other[-32:] += 1e6
    assert np.array_equal(fit(dataset, other).unit, found.unit)
    assert len(held_out(dataset)) == 32


@pytest.mark.parametrize("spec", [image_spec(), image_spec(conditional=True), points_spec()])
def test_closed_form_agrees_with_numpy(write: Write, spec: object) -> None:
    generator = write(spec).build()
    first = next(module for module in generator.modules() if isinstance(module, torch.nn.Linear))
    _, stretches, vectors = np.linalg.svd(first.weight.numpy().astype(np.float64))
    found = closed_form(LatentDataset.from_seeds(generator, range(32)), 3)
    for index, each in enumerate(found):
        assert abs(each.unit @ vectors[index]) == pytest.approx(1.0, abs=1e-9)
        assert each.explained == pytest.approx(stretches[index] ** 2 / (stretches**2).sum())
        assert each.unit[np.abs(each.unit).argmax()] > 0
    assert [each.explained for each in found] == sorted((each.explained for each in found), reverse=True)


def test_closed_form_of_two_stages_uses_all_layers_that_take_w() -> None:
    generator = two_stage.TinyStyled(two_stage.spec(conditional=True), None)  # type: ignore[arg-type]
    weights = np.concatenate([layer.weight.detach().numpy() for layer in generator.layers]).astype(np.float64)
    _, _, vectors = np.linalg.svd(weights)
    (found,) = closed_form(LatentDataset.from_seeds(generator, range(32)), 1)
    assert abs(found.unit @ vectors[0]) == pytest.approx(1.0, abs=1e-6)


def test_principal_components_find_the_most_amplified_component_of_z(write: Write) -> None:
    generator = write(points_spec()).build()
    first = next(module for module in generator.modules() if isinstance(module, torch.nn.Linear))
    first.weight[:] *= 0.01
    first.weight[:, 3] *= 10000.0
    found, *others = principal_components(LatentDataset.from_seeds(generator, range(512)), 3)
    assert found.unit[3] > 0.98
    assert found.explained > 0.5 > others[0].explained


def test_principal_components_of_two_stages_are_of_w() -> None:
    generator = two_stage.TinyStyled(two_stage.spec(), None)  # type: ignore[arg-type]
    dataset = LatentDataset.from_seeds(generator, range(256))
    found = principal_components(dataset, 2)
    variances, vectors = np.linalg.eigh(np.cov(dataset.latents.T))
    assert abs(found[0].unit @ vectors[:, -1]) == pytest.approx(1.0, abs=1e-9)
    assert found[0].explained == pytest.approx(variances[-1] / variances.sum())
    assert dataset.std_along(found[0].unit) == pytest.approx(variances[-1] ** 0.5, rel=0.01)


def test_a_second_search_finds_the_same_directions(write: Write, tmp_path: Path) -> None:
    checkpoint = write(image_spec())
    path = tmp_path / "model.safetensors"
    found = find_directions(checkpoint, 256, 0)
    found.write(path)
    again = find_directions(Checkpoint.read(path), 256, 0)
    assert Directions.read(path, checkpoint.version, checkpoint.card.spec).version == again.version
    for each in found.card.directions:
        assert np.linalg.norm(found.vectors[each.name]) == pytest.approx(1.0, abs=1e-5)
        with Image.open(io.BytesIO(base64.b64decode(each.preview or ""))) as strip:
            assert strip.size == (7 * SIDE, 3 * SIDE)


def test_directions_of_uniform_latents_have_their_standard_deviation(write: Write) -> None:
    checkpoint = write(spec_of("mlp", points_spec().output, distribution="uniform", hidden=(16,)))
    found = find_directions(checkpoint, 256, 0)
    assert all(each.preview is None for each in found.card.directions)
    for vector in found.vectors.values():
        assert np.linalg.norm(vector) == pytest.approx(3**-0.5, abs=1e-5)


def test_previews_of_colour_images(write: Write) -> None:
    checkpoint = write(spec_of("dcgan", ImageOutput(channels=3, height=64, width=64), width=8))
    (first, *_) = find_directions(checkpoint, 256, 0).card.directions
    with Image.open(io.BytesIO(base64.b64decode(first.preview or ""))) as strip:
        assert (strip.mode, strip.size) == ("RGB", (7 * 64, 64))
