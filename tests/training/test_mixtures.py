"""Mixtures against what the literature says of them."""

from pathlib import Path

import numpy as np
import pytest

from training.data import Mixture
from training.data.source import DataError, DataSource


def mixture(name: str) -> DataSource:
    return Mixture(name=name).load(None, lambda _: None)


@pytest.mark.parametrize(("name", "modes"), [("gaussian", 1), ("ring", 8), ("grid", 25)])
def test_a_mixture_judges_itself_as_the_theory_says(name: str, modes: int) -> None:
    source = mixture(name)
    draws = source.draw(2500, 0)
    figures = source.judge(lambda count: next(draws)[0][:count].numpy())
    assert figures["modes"] == modes
    assert figures["high_quality"] == pytest.approx(1 - np.exp(-4.5), abs=0.01)  # 0.989: within 3σ in two dimensions


def test_collapse_is_seen() -> None:
    one_point = np.tile(np.array([[1.0, 0.0]], dtype=np.float32), (2500, 1))
    assert mixture("ring").judge(lambda _: one_point) == {"modes": 1.0, "high_quality": 1.0}
    # nineteen samples do not make a mode
    one_point[:19] = [0.0, 1.0]
    assert mixture("ring").judge(lambda _: one_point)["modes"] == 1.0
    one_point[19] = [0.0, 1.0]
    assert mixture("ring").judge(lambda _: one_point)["modes"] == 2.0


def test_mixtures_are_where_the_literature_has_them() -> None:
    ring, _ = next(mixture("ring").draw(20000, 0))
    assert ring.norm(dim=1).mean().item() == pytest.approx(1.0, abs=1e-3)
    grid, _ = next(mixture("grid").draw(20000, 0))
    assert sorted({round(value) for value in grid.flatten().tolist()}) == [-4, -2, 0, 2, 4]
    with pytest.raises(DataError, match="leave --data away"):
        Mixture(name="ring").load(Path(), lambda _: None)
