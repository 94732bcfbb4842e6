"""Conditions: which class a label names."""

import pytest

from latentd.models.conditions.classes import ClassCondition


def test_an_exact_name_comes_before_one_in_another_case() -> None:
    condition = ClassCondition(names=("bag", "Bag", "Dress"))
    assert [condition.index(label) for label in ("bag", "Bag", "DRESS", 2)] == [0, 1, 2, 2]
    with pytest.raises(ValueError, match=r"unknown label 'BAG' \(did you mean "):
        condition.index("BAG")
    assert condition == ClassCondition(names=("bag", "Bag", "Dress"))
    assert condition.model_dump() == {"kind": "classes", "names": ("bag", "Bag", "Dress")}
