"""How many cases are tried: a few, always the same ones, in `make test`; in `make fuzz` as many as FUZZ_CASES says."""

import os
from collections import Counter

from hypothesis import HealthCheck, Phase, settings

IN_ALL = int(os.environ.get("FUZZ_CASES", "0"))
"""0: the short run."""
TRIED: Counter[str] = Counter()
"""Cases by what was tried."""
NOTES: list[str] = []
"""What was measured meanwhile. The end of the long run tells both."""


def cases(short: int, share: float) -> settings:
    """Settings for so many cases, or for this share of all in the long run, which draws others each time."""
    return settings(
        max_examples=round(IN_ALL * share) or short,
        derandomize=not IN_ALL,
        database=None,
        deadline=None,
        print_blob=bool(IN_ALL),
        phases=[Phase.explicit, Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),  # servers and files are slow, and kept from one case to the next
    )
