"""Interpolation, means and neighbors: properties, and cases worked out by hand."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from latentd.models.interpolation import (
    KeyframePath,
    NoDirectionError,
    ease,
    lerp,
    neighbor,
    normalized_magnitudes,
    slerp,
    spherical_mean,
    weighted_mean,
)

numbers = st.floats(-100, 100, width=32)
vectors = hnp.arrays(np.float32, 8, elements=numbers)
pairs = st.tuples(vectors, vectors)
times = st.floats(0, 1)
weights = st.lists(
    st.floats(-1e300, 1e300).filter(lambda value: abs(value) > 1e-6 or value == 0), min_size=3, max_size=3
)


def length(vector: np.ndarray) -> float:
    return float(np.linalg.norm(vector.astype(np.float64)))


def degrees_between(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a.astype(np.float64) / length(a), b.astype(np.float64) / length(b)
    return math.degrees(2 * math.atan2(np.linalg.norm(a - b), np.linalg.norm(a + b)))


@given(pairs)
def test_curves_begin_and_end_exactly_at_their_ends(pair: tuple[np.ndarray, np.ndarray]) -> None:
    a, b = pair
    for curve in (lerp, slerp):
        assert curve(a, b)(0.0).tobytes() == a.tobytes()
        assert curve(a, b)(1.0).tobytes() == b.tobytes()


@given(pairs, times)
def test_slerp_is_finite_and_its_length_changes_linearly(pair: tuple[np.ndarray, np.ndarray], t: float) -> None:
    a, b = pair
    point = slerp(a, b)(t)
    assert np.isfinite(point).all()
    if length(a) > 0 and length(b) > 0:
        assert length(point) == pytest.approx((1 - t) * length(a) + t * length(b), rel=1e-5, abs=1e-30)


@given(pairs, times)
def test_slerp_turns_at_constant_speed(pair: tuple[np.ndarray, np.ndarray], t: float) -> None:
    a, b = pair
    assume(length(a) > 1e-3 and length(b) > 1e-3)
    whole = degrees_between(a, b)
    assert degrees_between(a, slerp(a, b)(t)) == pytest.approx(t * whole, abs=1e-2)
    assert degrees_between(slerp(a, b)(t), b) == pytest.approx((1 - t) * whole, abs=1e-2)


@given(vectors, times, st.floats(2**-10, 2**10, width=32))
def test_slerp_of_parallel_vectors_keeps_their_direction(a: np.ndarray, t: float, factor: float) -> None:
    assume(length(a) > 1e-3)
    b = (a * np.float32(factor)).astype(np.float32)
    assume(length(b) > 1e-3)
    assert degrees_between(a, slerp(a, b)(t)) == pytest.approx(0, abs=1e-2)


@given(vectors, times)
def test_slerp_of_opposite_vectors_is_a_half_turn(a: np.ndarray, t: float) -> None:
    assume(length(a) > 1e-3)
    point = slerp(a, -a)(t)
    assert length(point) == pytest.approx(length(a), rel=1e-5)
    assert degrees_between(a, point) == pytest.approx(180 * t, abs=1e-2)


def test_slerp_without_an_angle_is_lerp() -> None:
    zero, one = np.zeros(4, np.float32), np.ones(4, np.float32)
    assert slerp(zero, one)(0.25).tolist() == [0.25] * 4
    assert slerp(one, zero)(0.25).tolist() == [0.75] * 4
    assert slerp(zero, zero)(0.5).tolist() == [0.0] * 4
    assert slerp(np.float32([1]), np.float32([-1]))(0.25).tolist() == [0.5]


def test_slerp_by_hand() -> None:
    halfway = slerp(np.float32([1, 0]), np.float32([0, 3]))(0.5)
    assert halfway == pytest.approx([math.sqrt(2), math.sqrt(2)], rel=1e-6)


def test_easing() -> None:
    assert [ease(t, "linear") for t in (0.0, 0.25, 1.0)] == [0.0, 0.25, 1.0]
    assert [ease(t, "smooth") for t in (0.0, 0.25, 0.5, 1.0)] == [0.0, 0.15625, 0.5, 1.0]


@given(st.integers(2, 6), st.integers(2, 9), st.booleans())
def test_paths_show_each_keyframe_once(keyframes: int, steps: int, loop: bool) -> None:
    path = KeyframePath(keyframes, steps, loop)
    assert len(path) == (keyframes * (steps - 1) if loop else (keyframes - 1) * (steps - 1) + 1)
    points = np.eye(keyframes, dtype=np.float32)
    frames = path.interpolate(points, "slerp")
    assert len(frames) == len(path)
    shown = [path.keyframe_at(frame) for frame in range(len(path))]
    assert [keyframe for keyframe in shown if keyframe is not None] == list(range(keyframes))
    for frame, keyframe in zip(frames, shown, strict=True):
        if keyframe is not None:
            assert frame.tobytes() == points[keyframe].tobytes()
    assert all(one.tobytes() != next_one.tobytes() for one, next_one in pairwise(frames))
    if loop:
        assert frames[-1].tobytes() != frames[0].tobytes()  # nor where it begins again


def test_paths_of_w_are_straight_in_each_layer() -> None:
    frames = KeyframePath(2, 3).interpolate(np.float32([[[0, 0], [2, 2]], [[4, 0], [2, 0]]]), "lerp")
    assert frames[1].tolist() == [[2, 0], [2, 1]]


@given(hnp.arrays(np.float32, (3, 8), elements=numbers), weights)
def test_spherical_means_have_the_mean_length(latents: np.ndarray, given_weights: list[float]) -> None:
    assume(any(given_weights))
    try:
        mixed = spherical_mean(latents, given_weights)
    except NoDirectionError:
        return
    assert np.isfinite(mixed).all()
    shares = normalized_magnitudes(given_weights)
    assert shares.sum() == pytest.approx(1.0, rel=1e-5)
    assert length(mixed) == pytest.approx(float(shares @ np.linalg.norm(latents, axis=1)), rel=1e-4, abs=1e-4)


@given(hnp.arrays(np.float32, (3, 8), elements=numbers), st.integers(0, 2), st.floats(1e-3, 1e3))
def test_a_mean_of_one_latent_is_that_latent(latents: np.ndarray, index: int, weight: float) -> None:
    alone = [weight if each == index else 0.0 for each in range(3)]
    assert spherical_mean(latents, alone).tobytes() == latents[index].tobytes()
    assert weighted_mean(latents, alone).tobytes() == latents[index].tobytes()


def test_means_by_hand() -> None:
    latents = np.float32([[2, 0], [0, 4]])
    assert spherical_mean(latents, [1, 1]) == pytest.approx([3 / math.sqrt(2)] * 2, rel=1e-6)
    assert spherical_mean(latents, [-1, 0]).tolist() == [-2, 0]
    assert weighted_mean(latents, [3, 1]).tolist() == [1.5, 1]
    with pytest.raises(NoDirectionError, match="cancel"):
        spherical_mean(np.float32([[1, 0], [-5, 0]]), [1, 1])
    with pytest.raises(NoDirectionError, match="add up to zero"):
        weighted_mean(latents, [1, -1])


@given(vectors, st.floats(0, 180), st.integers(0, 2**32 - 1))
def test_neighbors_lie_at_the_angle(center: np.ndarray, degrees: float, seed: int) -> None:
    assume(length(center) > 1e-3)
    found = neighbor(center, degrees, seed)
    assert length(found) == pytest.approx(length(center), rel=1e-5)
    assert degrees_between(center, found) == pytest.approx(degrees, abs=1e-2)
    assert found.tobytes() == neighbor(center, degrees, seed).tobytes()


def test_neighbors_depend_on_the_seed_and_need_a_direction() -> None:
    center = np.ones(8, np.float32)
    assert neighbor(center, 30, 1).tobytes() != neighbor(center, 30, 2).tobytes()
    assert neighbor(center, 0, 1).tobytes() == center.tobytes()
    for nowhere in (np.zeros(8, np.float32), np.ones(1, np.float32)):
        with pytest.raises(NoDirectionError):
            neighbor(nowhere, 30, 1)
