"""How many cases are tried: in `make test` a few that are always the same, in `make fuzz` FUZZ_CASES."""

import os
from collections import Counter

from hypothesis import HealthCheck, Phase, settings

IN_ALL = int(os.environ.get("FUZZ_CASES", "0"))
"""Cases of the long run; 0 in the short one."""
TRIED: Counter[str] = Counter()
"""Numbers of cases, by kind."""
NOTES: list[str] = []
"""Measurements. The long run prints them and the numbers at its end."""


def cases(short: int, share: float) -> settings:
    """Return settings for `short` cases, or in the long run for a `share` of all cases, which differ each time."""
    return settings(
        max_examples=round(IN_ALL * share) or short,
        derandomize=not IN_ALL,
        database=None,
        deadline=None,
        print_blob=bool(IN_ALL),
        phases=[Phase.explicit, Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),  # servers and files are slow, and shared by all cases
    )
