"""Damaged safetensors files: with flipped bytes, cut short, and with other headers and cards.

A safetensors file is eight bytes with the length of its header, the header as JSON, and the numbers.
"""

import json
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from latentd.models.card import CARD_KEY, VERSION_KEY

_LENGTH = 8
_NUMBERS = st.sampled_from(
    [
        0,
        1,
        -1,
        2,
        7,
        255,
        65536,
        65537,
        4096,
        2**31,
        2**32,
        2**53,
        2**63,
        2**64 - 1,
        2**64,
        10**30,
        10**4000,
        0.5,
        1e300,
    ]
)
_WIDE = "\uffffWIDE"
"""Stands for a list of 100,000 numbers until the text is made, so that no mutation is spent inside it."""
_ATOMS = st.one_of(
    _NUMBERS,
    _NUMBERS,
    st.none() | st.booleans(),
    st.sampled_from([float("nan"), float("inf"), "", "\ud800", "\x00", "mlp", "dcgan", "linear", "os.system", "F16"]),
    st.sampled_from(["BF16", "F64", "I8", "BOOL", "F8_E4M3", "points", "image", "classes", "z", "w", "x" * 100_000]),
    st.text(max_size=20),
    st.lists(_NUMBERS | st.text(max_size=3), max_size=5),
    st.dictionaries(st.text(max_size=5), _NUMBERS, max_size=3),
    st.sampled_from([_WIDE, "[" * 3000]),
)
_NEW_KEYS = st.sampled_from(["w", "names", "dim", "hidden", "kind", "__class__", "extra", "channels"]) | st.text(
    max_size=8
)


def _containers(value: Any) -> Iterator[Any]:
    if isinstance(value, dict | list):
        if value:
            yield value
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _containers(inner)


def _leaves(value: Any) -> Iterator[tuple[Any, Any]]:
    """Return every container with each of its keys, so that each part of the value is mutated equally often."""
    for container in _containers(value):
        for key in container if isinstance(container, dict) else range(len(container)):
            yield container, key


def _change(draw: st.DrawFn, value: Any) -> None:
    """Replace, remove, repeat or add one part of a value."""
    places = list(_leaves(value))
    if not places:
        return
    container, key = places[draw(st.integers(0, len(places) - 1))]
    how = draw(st.sampled_from(["other", "other", "other", "near", "gone", "new", "swap"]))
    if how == "gone":
        del container[key]
    elif how == "new" and isinstance(container, dict):
        container[draw(_NEW_KEYS)] = deepcopy(draw(_ATOMS))
    elif how == "near" and isinstance(container[key], int | float):
        container[key] += draw(st.sampled_from([1, -1, 4, -4, 28]))
    elif how == "swap":
        other, place = places[draw(st.integers(0, len(places) - 1))]
        container[key], other[place] = deepcopy(other[place]), deepcopy(container[key])  # none holds itself
    else:
        container[key] = deepcopy(draw(_ATOMS))  # what is sampled would be changed for all later cases


def _text(value: Any) -> str:
    return json.dumps(value).replace(json.dumps(_WIDE), json.dumps([0] * 100_000))


@st.composite
def _other_header(draw: st.DrawFn, path: Path) -> bytes:
    """Draw a file with another card, or other tensors, in readable JSON."""
    file = path.read_bytes()
    length = int.from_bytes(file[:_LENGTH], "little")
    header, numbers = json.loads(file[_LENGTH : _LENGTH + length]), file[_LENGTH + length :]
    facts = header["__metadata__"]
    if draw(st.booleans()):
        facts.pop(VERSION_KEY, None)
    where = draw(st.sampled_from(["card", "card", "text", "tensors", "facts"]))
    if where == "card":
        card = json.loads(facts[CARD_KEY])
        for _ in range(draw(st.integers(1, 3))):
            _change(draw, card["spec"] if "spec" in card and draw(st.integers(0, 3)) else card)
        facts[CARD_KEY] = _text(card)
    elif where == "text":
        text = facts[CARD_KEY]
        at = draw(st.integers(0, len(text)))
        cut = draw(st.integers(0, 20))
        new = draw(st.sampled_from(["", "[" * 10_000, "NaN", "1e999", "9" * 5000, "\\ud800", '"', "\x00"]) | st.text())
        facts[CARD_KEY] = text[:at] + new + text[at + cut :]
    elif where == "tensors":
        tensors = {name: entry for name, entry in header.items() if name != "__metadata__"}
        if draw(st.booleans()):
            tensors[draw(st.sampled_from(sorted(tensors)))]["shape"].reverse()  # as many numbers, in another shape
        else:
            _change(draw, tensors)
        header = {"__metadata__": facts} | tensors
    else:
        _change(draw, facts if draw(st.booleans()) else header)
    text_of_header = _text(header).encode()
    return len(text_of_header).to_bytes(_LENGTH, "little") + text_of_header + numbers


@st.composite
def _other_bytes(draw: st.DrawFn, path: Path) -> bytes:
    """Draw a file with flipped bytes, cut short, longer, or with another length of the header."""
    file = path.read_bytes()
    mutant = bytearray(file)
    length = int.from_bytes(file[:_LENGTH], "little")
    for _ in range(draw(st.integers(1, 4))):
        how = draw(st.sampled_from(["flip", "flip", "cut", "more", "length"]))
        if how == "length":
            claimed = draw(
                st.sampled_from([0, 1, 8, length - 1, length + 1, len(file), 2**32, 10**8, 2**63, 2**64 - 1])
            )
            mutant[:_LENGTH] = claimed.to_bytes(_LENGTH, "little")
        elif how == "cut":
            del mutant[draw(st.integers(0, len(mutant))) :]
        elif how == "more":
            mutant += draw(st.binary(max_size=64))
        elif mutant:
            end = draw(st.sampled_from([_LENGTH, _LENGTH + length, len(mutant)]))
            at = draw(st.integers(0, min(end, len(mutant)) - 1))
            mutant[at] ^= draw(st.integers(1, 255))
    return bytes(mutant)


def mutants(file: Path) -> st.SearchStrategy[bytes]:
    """Draw a mutant of one file."""
    return st.one_of(_other_header(file), _other_header(file), _other_bytes(file), st.binary(max_size=64))
