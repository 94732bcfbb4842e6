"""What to say of a name that is not known: what was probably meant, and what there is."""

from collections.abc import Collection, Iterable
from difflib import get_close_matches
from itertools import islice

_LONGEST = 64
_MOST = 512
"""Limits the time: services compare what clients send."""
_MAX_SUGGESTIONS = 3


def unknown(what: str, name: object, known: Collection[str]) -> str:
    """Return "unknown label 'dres' (did you mean Dress?); known are Dress, Bag" for the `what` "label"."""
    return f"unknown {what} {name!r}{did_you_mean(name, known)}; known are {', '.join(known)}"


def unknown_field(name: str, known: Collection[str]) -> str:
    """Return the same for a field that an error has named already."""
    return f"unknown field{did_you_mean(name, known)}; the fields are {', '.join(known)}"


def did_you_mean(name: object, known: Iterable[str]) -> str:
    """Return " (did you mean X?)" with the known names that resemble `name`; empty if there are none.

    It stands directly after the quoted name. Upper and lower case are the same. Names that are longer than 64
    characters, and known names after the first 512, are not compared.
    """
    if not isinstance(name, str) or len(name) > _LONGEST:
        return ""
    by_folded: dict[str, str] = {}
    for each in islice(known, _MOST):
        if len(each) <= _LONGEST:
            by_folded.setdefault(each.casefold(), each)
    close = get_close_matches(name.casefold(), by_folded, _MAX_SUGGESTIONS)
    return f" (did you mean {' or '.join(by_folded[each] for each in close)}?)" if close else ""
