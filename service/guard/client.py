"""A client: a name in the tokens file, with limits and usage of its own."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from latentd.service.errors import invalid, too_busy


@dataclass(frozen=True)
class ClientLimits:
    """The limits beside a token in the tokens file. None: no limit. A burst without a rate is a ValueError."""

    rate: float | None = None
    """Samples per second, on average."""
    burst: float | None = None
    """Samples at once after a pause. Default: the samples of one second, at least 1."""
    in_flight: int | None = None
    """Samples of requests that are not answered yet."""

    def __post_init__(self) -> None:
        if self.rate is None and self.burst is not None:
            raise ValueError("burst= needs rate=")


class TokenBucket:
    """A token bucket that may go into debt: a full bucket grants any amount, and the next request waits longer."""

    def __init__(self, rate: float, burst: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.rate = rate
        self.burst = burst
        self._clock = clock
        self._level = burst
        self._updated = clock()

    def take(self, samples: int) -> float:
        """Take `samples` and return 0. If there are too few tokens, take none and return the seconds to wait."""
        now = self._clock()
        self._level = min(self.burst, self._level + (now - self._updated) * self.rate)
        self._updated = now
        missing = min(samples, self.burst) - self._level
        if missing > 1e-9:
            return missing / self.rate
        self._level -= samples
        return 0.0

    def give_back(self, samples: int) -> None:
        """Return tokens that were taken and not used."""
        self._level += samples


class Client:
    """One client. All its tokens share its limits."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.in_flight = 0
        self._limits = ClientLimits()
        self._bucket: TokenBucket | None = None

    def set_limits(self, limits: ClientLimits) -> None:
        """Apply `limits` from now on. The bucket keeps its level if rate and burst stay the same."""
        if (limits.rate, limits.burst) != (self._limits.rate, self._limits.burst):
            rate = limits.rate
            self._bucket = None if rate is None else TokenBucket(rate, limits.burst or max(1.0, rate))
        self._limits = limits

    def charge(self, samples: int, seconds_for: Callable[[int], float]) -> None:
        """Count `samples` as in flight, and against the rate.

        `seconds_for` estimates how long a number of samples takes. Raises ApiError 429 if there are too many samples
        now, and 400 if there are more than the client may ever have in flight.
        """
        most = self._limits.in_flight
        if most is not None and samples > most:
            raise invalid(None, f"this token may have at most {most} samples in flight; the request asks for {samples}")
        if most is not None and (excess := self.in_flight + samples - most) > 0:
            message = f"this token has {self.in_flight} samples in flight, of at most {most}; try again later"
            raise too_busy(message, seconds_for(excess), "too_many_in_flight")
        if self._bucket is not None and (wait := self._bucket.take(samples)):
            message = f"this token may have {self._bucket.rate:g} samples per second; try again later"
            raise too_busy(message, wait, "rate_limited")
        self.in_flight += samples

    def refund(self, samples: int) -> None:
        """Undo a charge against the rate."""
        if self._bucket is not None:
            self._bucket.give_back(samples)
