"""Checks of the Python API's arguments. Every failure is a ValueError that names the argument."""

import operator
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from latentd.models.seeds import MAX_SEED
from latentd.models.suggestions import did_you_mean


def integer(name: str, value: Any) -> int:
    """Return `value` as an int, NumPy integers included."""
    try:
        if isinstance(value, bool):
            raise TypeError
        return operator.index(value)
    except TypeError:
        raise ValueError(f"{name} is an integer, not {value!r}") from None


def seed_list(seeds: Any) -> list[int]:
    """Return one seed or several as a list of ints, at least one."""
    try:
        values = [seeds] if hasattr(seeds, "__index__") and not getattr(seeds, "ndim", 0) else list(seeds)
    except TypeError:
        raise ValueError(f"seeds is an integer or several of them, not {seeds!r}") from None
    checked = [integer("a seed", value) for value in values]
    if not checked:
        raise ValueError("give at least one seed")
    for value in checked:
        seed(value)
    return checked


def seed(value: Any) -> int:
    """Return a seed, 0 to 2**32-1."""
    checked = integer("a seed", value)
    if not 0 <= checked <= MAX_SEED:
        raise ValueError(f"a seed is an integer from 0 to {MAX_SEED}, not {checked}")
    return checked


def label_list(labels: Any, count: int) -> list[Any]:
    """Return a label for each of `count` seeds, from one label for all or a sequence."""
    if isinstance(labels, str | Mapping) or not isinstance(labels, Iterable):
        return [_label(labels)] * count
    given = [_label(label) for label in labels]
    if len(given) != count:
        raise ValueError(f"{len(given)} labels for {count} seeds; give one, or one for each seed")
    return given


def _label(value: Any) -> Any:
    return value if isinstance(value, str | Mapping) else integer("a label by index", value)


def one_of(name: str, value: Any, known: Collection[str]) -> None:
    """Raise ValueError unless `value` is one of `known`."""
    if value not in known:
        raise ValueError(f"{name} is one of {', '.join(known)}, not {value!r}{did_you_mean(value, known)}")
