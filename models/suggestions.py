"""Errors for unknown names: what was probably meant, and which names are known."""

from collections.abc import Collection, Iterable
from difflib import get_close_matches
from itertools import islice

_MAX_LENGTH = 64
_MAX_NAMES = 512
"""Limits of the time, because a service compares what clients send."""
_MAX_SUGGESTIONS = 3


def unknown(what: str, name: object, known: Collection[str]) -> str:
    """Return "unknown label 'dres' (did you mean Dress?); known are Dress, Bag" for the `what` "label"."""
    return f"unknown {what} {name!r}{did_you_mean(name, known)}; known are {', '.join(known)}"


def unknown_field(name: str, known: Collection[str]) -> str:
    """Return the same message for a field. The error names the field elsewhere."""
    return f"unknown field{did_you_mean(name, known)}; the fields are {', '.join(known)}"


def did_you_mean(name: object, known: Iterable[str]) -> str:
    """Return " (did you mean X?)" with the known names that resemble `name`; empty if there are none.

    It comes directly after the quoted name. The comparison ignores case. Names that are longer than 64 characters, and
    known names after the first 512, are not compared.
    """
    if not isinstance(name, str) or len(name) > _MAX_LENGTH:
        return ""
    by_folded: dict[str, str] = {}
    for each in islice(known, _MAX_NAMES):
        if len(each) <= _MAX_LENGTH:
            by_folded.setdefault(each.casefold(), each)
    close = get_close_matches(name.casefold(), by_folded, _MAX_SUGGESTIONS)
    return f" (did you mean {' or '.join(by_folded[each] for each in close)}?)" if close else ""
