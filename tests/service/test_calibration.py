"""Calibration of a fake device, whose bits and times the test decides."""

import logging

import numpy as np
import pytest

from latentd.models.outputs.base import Samples
from latentd.models.sampling import REFERENCE_BATCH_SIZE
from latentd.models.stage_input import StageInput
from latentd.service.engine import Calibration, OutOfMemoryError, calibrate, draw_calibration_rows
from tests.conftest import image_spec, points_spec


class Device:
    """Returns the latents plus `error(size)`. Passes of up to 32 rows take the same time."""

    def __init__(self, error: object = lambda size: 0.0, most: int = 10**6, position_counts: bool = False) -> None:
        self._error = error
        self._most = most
        self._position_counts = position_counts
        self.sizes: list[int] = []

    def __call__(self, rows: StageInput, size: int) -> tuple[Samples, float]:
        self.sizes.append(size)
        if size > self._most:
            raise OutOfMemoryError("full")
        samples = rows.inputs[:, :2] + np.float32(self._error(size))
        if self._position_counts:
            samples += np.arange(len(samples), dtype=np.float32)[:, None]
        return samples, 0.001 * max(size, 32)


def test_only_sizes_that_give_the_reference_bits_are_kept() -> None:
    found = calibrate(
        draw_calibration_rows(points_spec()),
        Device(lambda size: 1e-6 if size in (1, 2, 24) else 0.0),
        True,
        OutOfMemoryError,
    )
    assert found.mode == "bitwise"
    assert not {1, 2, 24} & set(found.sizes)
    assert {4, 8, REFERENCE_BATCH_SIZE, 32} <= set(found.sizes)


def test_only_the_reference_size_remains_if_no_other_size_agrees() -> None:
    found = calibrate(draw_calibration_rows(points_spec()), Device(lambda size: size * 1e-3), True, OutOfMemoryError)
    assert (found.mode, found.sizes) == ("bitwise", [REFERENCE_BATCH_SIZE])
    assert found.choose_size(1) == found.choose_size(100) == REFERENCE_BATCH_SIZE


def test_a_device_that_does_not_repeat_its_bits_gets_no_promise(caplog: pytest.LogCaptureFixture) -> None:
    found = calibrate(draw_calibration_rows(points_spec()), Device(position_counts=True), True, OutOfMemoryError)
    assert found.mode == "off"
    assert "not promised to be reproducible" in caplog.text


def test_without_the_promise_every_size_is_kept() -> None:
    found = calibrate(draw_calibration_rows(points_spec()), Device(lambda size: size * 1e-3), False, OutOfMemoryError)
    assert found.mode == "off"
    assert {1, 2, 3, 4, REFERENCE_BATCH_SIZE} <= set(found.sizes)


def test_sizes_grow_while_they_save_time() -> None:
    device = Device()
    found = calibrate(draw_calibration_rows(points_spec()), device, True, OutOfMemoryError)
    assert found.largest == 32
    assert max(device.sizes) == 64  # two larger sizes were tried


def test_the_devices_memory_bounds_the_sizes(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        found = calibrate(draw_calibration_rows(points_spec()), Device(most=24), True, OutOfMemoryError)
    assert found.largest == 24
    assert "does not fit" in caplog.text


def test_a_conditional_model_is_tried_with_all_its_classes() -> None:
    seen: list[StageInput] = []

    def run(rows: StageInput, size: int) -> tuple[Samples, float]:
        seen.append(rows)
        return rows.inputs[:, :2], 0.001

    calibrate(draw_calibration_rows(image_spec(conditional=True)), run, True, OutOfMemoryError)
    classes = np.concatenate([rows.condition for rows in seen if rows.condition is not None])
    assert classes.shape[1] == 3
    assert (classes.sum(axis=1) == 1).all()
    assert classes.any(axis=0).all()


def test_the_chosen_size_computes_the_waiting_rows_soonest() -> None:
    found = Calibration("bitwise", {4: 1.6, 8: 2.5, 12: 3.4, 16: 4.6})
    assert [found.choose_size(rows) for rows in (1, 4, 5, 8, 16, 17)] == [4, 4, 8, 8, 16, 12]
    assert found.choose_size(1000) in found.sizes
    assert found.limited_to(8) == Calibration("bitwise", {4: 1.6, 8: 2.5})
    assert found.limited_to(3) is None


def test_a_size_that_differs_in_one_row_by_the_sign_of_zero_is_rejected() -> None:
    marked: list[float] = []

    def run(rows: StageInput, size: int) -> tuple[Samples, float]:
        samples = np.zeros((len(rows), 2), dtype=np.float32)
        if size == 8:
            samples[rows.inputs[:, 0] == marked[0]] = -0.0
        elif size == REFERENCE_BATCH_SIZE:
            marked.append(float(rows.inputs[-1, 0]))
        return samples, 0.001

    assert 8 not in calibrate(draw_calibration_rows(points_spec()), run, True, OutOfMemoryError).sizes


def test_an_interrupted_pass_does_not_make_its_size_seem_slow() -> None:
    device = Device()

    def run(rows: StageInput, size: int) -> tuple[Samples, float]:
        samples, seconds = device(rows, size)
        return samples, 1.0 if size == 4 else seconds

    found = calibrate(draw_calibration_rows(points_spec()), run, True, OutOfMemoryError)
    assert found.seconds[4] <= found.seconds[6]
