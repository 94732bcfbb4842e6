import numpy as np
import pytest

from latentd.models.latents import MAX_SEED, seed_to_latent, seeds_to_latents, truncate
from latentd.models.outputs import PointsOutput
from latentd.models.spec import LatentInput
from tests.conftest import image_spec, points_spec, spec_of


def test_normal_latent_is_numpys_frozen_stream() -> None:
    expected = np.random.RandomState(7).standard_normal(8).astype(np.float32)
    assert np.array_equal(seed_to_latent(points_spec(), 7).latent, expected)
    # NumPy's first standard normal of seed 7, as everyone else draws it
    assert seed_to_latent(points_spec(), 7).latent[0] == np.float32(1.690525703800356)


def test_uniform_latent_is_numpys_frozen_stream() -> None:
    spec = spec_of("mlp", PointsOutput(dim=2), distribution="uniform", hidden=(16,))
    latent = seed_to_latent(spec, 3).latent
    assert np.array_equal(latent, np.random.RandomState(3).uniform(-1, 1, 8).astype(np.float32))


def test_class_of_a_seed_is_drawn_after_the_latent() -> None:
    stream = np.random.RandomState(11)
    stream.standard_normal(8)
    assert seed_to_latent(image_spec(conditional=True), 11).label == stream.randint(3)
    assert seed_to_latent(image_spec(), 11).label is None


def test_rows_do_not_depend_on_each_other() -> None:
    spec = image_spec(conditional=True)
    latents, labels = seeds_to_latents(spec, [5, 0, MAX_SEED])
    for row, seed in enumerate([5, 0, MAX_SEED]):
        assert np.array_equal(latents[row], seed_to_latent(spec, seed).latent)
        assert labels[row] == seed_to_latent(spec, seed).label


def test_an_odd_number_of_normals_leaves_no_state_behind() -> None:
    odd = spec_of("mlp", PointsOutput(dim=2), hidden=(16,)).model_copy(update={"input": LatentInput(dim=3)})
    seed_to_latent(odd, 1)  # normals are drawn in pairs
    assert np.array_equal(seed_to_latent(odd, 5).latent, np.random.RandomState(5).standard_normal(3).astype(np.float32))


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_seeds_out_of_range_are_refused(seed: int) -> None:
    with pytest.raises(ValueError, match="4294967295"):
        seed_to_latent(points_spec(), seed)


def test_truncation_scales_toward_the_origin() -> None:
    latents, _ = seeds_to_latents(points_spec(), [1, 2])
    assert np.array_equal(truncate(latents, 1.0), latents)
    assert np.allclose(truncate(latents, 0.5), latents / 2)
