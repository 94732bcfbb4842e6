"""Directions that were planted in a generator are found again; those of the weights are what numpy says by hand."""

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
from latentd.models.outputs import ImageOutput
from latentd.training.directions.dataset import Studied
from latentd.training.directions.find import find_directions
from latentd.training.directions.fit import fit, judging
from latentd.training.directions.measures import MEASURES, Pictures
from latentd.training.directions.unlabelled import closed_form, components
from tests import two_stage
from tests.conftest import image_spec, points_spec, spec_of

Write = Callable[..., Checkpoint]
SIDE = 28
PLANTED = {"brightness": 0, "width": 1, "height": 2}
"""Which number of the latent each changes."""


class Boxes(Generator):
    """Draws a grey box on black: its light, width and height each follow one number of z."""

    def __init__(self, conditional: bool = False) -> None:
        super().__init__(image_spec(conditional=conditional))
        self.unused = torch.nn.Linear(1, 1)

    def forward(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        larger = 0.0 if condition is None else condition[:, 1] * 2.0  # a class of larger boxes
        across = torch.arange(SIDE) - SIDE / 2 + 0.5
        light = (0.6 + 0.08 * z[:, 0]).clamp(0.3, 1.0)
        columns = (7.0 + larger + z[:, 1, None].T - across.abs()[:, None]).sigmoid().T  # [N, SIDE]
        rows = (7.0 + larger + z[:, 2, None].T - across.abs()[:, None]).sigmoid().T
        return 2.0 * (light[:, None, None] * rows[:, :, None] * columns[:, None, :])[:, None] - 1.0


@pytest.mark.parametrize("conditional", [False, True])
@pytest.mark.parametrize("name", PLANTED)
def test_what_was_planted_is_found(name: str, conditional: bool) -> None:
    studied = Studied.of(Boxes(conditional), range(512))
    (measure,) = (each for each in MEASURES if each.name == name)
    pictures = Pictures(studied.samples)
    assert pictures.has_dark_ground
    found = fit(studied, measure.of(pictures))
    assert found.unit[PLANTED[name]] > 0.9
    assert found.r_squared > 0.9


def test_what_is_held_is_taken_out() -> None:
    studied = Studied.of(Boxes(), range(512))
    z = studied.places
    both = z[:, 0] + z[:, 1]
    assert fit(studied, both).unit[:2] == pytest.approx([0.5**0.5] * 2, abs=0.01)
    assert np.abs(fit(studied, both, [z[:, 0]]).unit[1]) > 0.99


@pytest.mark.parametrize("conditional", [False, True])
def test_a_score_is_of_latents_that_were_not_fitted(conditional: bool) -> None:
    studied = Studied.of(Boxes(conditional), range(128))
    noise = np.random.RandomState(0).standard_normal(128)
    found = fit(studied, noise)
    assert found.r_squared < 0.2
    other = noise.copy()
    other[-32:] += 1e6
    assert np.array_equal(fit(studied, other).unit, found.unit)
    assert len(judging(studied)) == 32


@pytest.mark.parametrize("spec", [image_spec(), image_spec(conditional=True), points_spec()])
def test_closed_form_is_what_numpy_says(write: Write, spec: object) -> None:
    generator = write(spec).build()
    first = next(module for module in generator.modules() if isinstance(module, torch.nn.Linear))
    _, stretches, vectors = np.linalg.svd(first.weight.numpy().astype(np.float64))
    found = closed_form(Studied.of(generator, range(32)), 3)
    for index, each in enumerate(found):
        assert abs(each.unit @ vectors[index]) == pytest.approx(1.0, abs=1e-9)
        assert each.share == pytest.approx(stretches[index] ** 2 / (stretches**2).sum())
        assert each.unit[np.abs(each.unit).argmax()] > 0
    assert [each.share for each in found] == sorted((each.share for each in found), reverse=True)


def test_closed_form_of_two_stages_is_of_all_layers_that_see_w() -> None:
    generator = two_stage.TinyStyled(two_stage.spec(conditional=True), None)  # type: ignore[arg-type]
    weights = np.concatenate([layer.weight.detach().numpy() for layer in generator.layers]).astype(np.float64)
    _, _, vectors = np.linalg.svd(weights)
    (found,) = closed_form(Studied.of(generator, range(32)), 1)
    assert abs(found.unit @ vectors[0]) == pytest.approx(1.0, abs=1e-6)


def test_components_find_the_number_that_an_early_layer_listens_to(write: Write) -> None:
    generator = write(points_spec()).build()
    first = next(module for module in generator.modules() if isinstance(module, torch.nn.Linear))
    first.weight[:] *= 0.01
    first.weight[:, 3] *= 10000.0
    found, *others = components(Studied.of(generator, range(512)), 3)
    assert found.unit[3] > 0.98
    assert found.share > 0.5 > others[0].share


def test_components_of_two_stages_are_of_w() -> None:
    generator = two_stage.TinyStyled(two_stage.spec(), None)  # type: ignore[arg-type]
    studied = Studied.of(generator, range(256))
    found = components(studied, 2)
    variances, vectors = np.linalg.eigh(np.cov(studied.places.T))
    assert abs(found[0].unit @ vectors[:, -1]) == pytest.approx(1.0, abs=1e-9)
    assert found[0].share == pytest.approx(variances[-1] / variances.sum())
    assert studied.deviation(found[0].unit) == pytest.approx(variances[-1] ** 0.5, rel=0.01)


def test_finding_twice_gives_the_same_file(write: Write, tmp_path: Path) -> None:
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


def test_uniform_latents_go_by_their_own_deviation(write: Write) -> None:
    checkpoint = write(spec_of("mlp", points_spec().output, distribution="uniform", hidden=(16,)))
    found = find_directions(checkpoint, 256, 0)
    assert all(each.preview is None for each in found.card.directions)
    for vector in found.vectors.values():
        assert np.linalg.norm(vector) == pytest.approx(3**-0.5, abs=1e-5)


def test_colours_are_drawn_in_strips(write: Write) -> None:
    checkpoint = write(spec_of("dcgan", ImageOutput(channels=3, height=64, width=64), width=8))
    (first, *_) = find_directions(checkpoint, 256, 0).card.directions
    with Image.open(io.BytesIO(base64.b64decode(first.preview or ""))) as strip:
        assert (strip.mode, strip.size) == ("RGB", (7 * 64, 64))
