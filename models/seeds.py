"""Random streams of seeds.

They are NumPy's legacy `RandomState`, which NumPy has frozen (NEP 19) and StyleGAN's tools use too, so a seed names the
same latent in every version of latentd.
"""

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

MAX_SEED = 2**32 - 1

_streams = threading.local()


def random_state(seed: int) -> "np.random.RandomState":
    """Return `RandomState(seed)`. The next call in the same thread seeds the same object again.

    That takes a thirtieth of the time of a new object. Raises ValueError unless 0 ≤ seed < 2**32.
    """
    if not 0 <= seed <= MAX_SEED:
        raise ValueError(f"a seed is an integer from 0 to {MAX_SEED}, not {seed}")
    if not hasattr(_streams, "stream"):
        import numpy as np  # commands need MAX_SEED before they need arrays

        _streams.stream = np.random.RandomState()
    stream: np.random.RandomState = _streams.stream
    stream.seed(seed)
    return stream
