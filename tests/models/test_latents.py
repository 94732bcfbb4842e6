import numpy as np
import pytest

from latentd.models.inputs.latent import LatentInput
from latentd.models.latents import seed_to_row, seeds_to_rows, truncate
from latentd.models.outputs.points import PointsOutput
from latentd.models.seeds import MAX_SEED
from tests.conftest import image_spec, points_spec, spec_of


def test_normal_latent_is_numpys_frozen_stream() -> None:
    expected = np.random.RandomState(7).standard_normal(8).astype(np.float32)
    assert np.array_equal(seed_to_row(points_spec(), 7).input, expected)
    # NumPy's first standard normal of seed 7, as everyone else draws it
    assert seed_to_row(points_spec(), 7).input[0] == np.float32(1.690525703800356)


def test_uniform_latent_is_numpys_frozen_stream() -> None:
    spec = spec_of("mlp", PointsOutput(dim=2), distribution="uniform", hidden=(16,))
    latent = seed_to_row(spec, 3).input
    assert np.array_equal(latent, np.random.RandomState(3).uniform(-1, 1, 8).astype(np.float32))


def test_class_of_a_seed_is_drawn_after_the_latent() -> None:
    stream = np.random.RandomState(11)
    stream.standard_normal(8)
    assert np.array_equal(seed_to_row(image_spec(conditional=True), 11).condition, np.eye(3)[stream.randint(3)])
    assert seed_to_row(image_spec(), 11).condition.size == 0


def test_rows_do_not_depend_on_each_other() -> None:
    spec = image_spec(conditional=True)
    rows = seeds_to_rows(spec, [5, 0, MAX_SEED])
    assert rows.condition is not None
    for row, seed in enumerate([5, 0, MAX_SEED]):
        assert np.array_equal(rows.inputs[row], seed_to_row(spec, seed).input)
        assert np.array_equal(rows.condition[row], seed_to_row(spec, seed).condition)
    assert seeds_to_rows(image_spec(), [1]).condition is None


def test_an_odd_number_of_normals_leaves_no_state_behind() -> None:
    odd = spec_of("mlp", PointsOutput(dim=2), hidden=(16,)).model_copy(update={"input": LatentInput(dim=3)})
    seed_to_row(odd, 1)  # normals are drawn in pairs
    assert np.array_equal(seed_to_row(odd, 5).input, np.random.RandomState(5).standard_normal(3).astype(np.float32))


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_seeds_out_of_range_are_refused(seed: int) -> None:
    with pytest.raises(ValueError, match="4294967295"):
        seed_to_row(points_spec(), seed)


def test_truncation_scales_toward_the_origin() -> None:
    latents = seeds_to_rows(points_spec(), [1, 2]).inputs
    assert np.array_equal(truncate(latents, 1.0), latents)
    assert np.allclose(truncate(latents, 0.5), latents / 2)
