"""What the holder of a token may use: samples a second, and samples in flight."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus

from latentd.service.errors import invalid, too_busy


@dataclass(frozen=True)
class Limits:
    """None: as many as one likes. ValueError where they make no sense together."""

    rate: float | None = None
    """Samples a second, in the long run."""
    burst: float | None = None
    """Samples at once after a pause; default: those of one second, at least one."""
    in_flight: int | None = None
    """Samples asked for and not yet answered."""

    def __post_init__(self) -> None:
        if self.rate is None and self.burst is not None:
            raise ValueError("burst= needs rate=")


class Bucket:
    """A token bucket that may go into debt: whoever finds it full gets all they ask for, and waits the longer after."""

    def __init__(self, rate: float, burst: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.rate = rate
        self.burst = burst
        self._clock = clock
        self._level = burst
        self._seen = clock()

    def take(self, samples: int) -> float:
        """Takes them and returns 0; or takes nothing and returns the seconds until they can be taken."""
        now = self._clock()
        self._level = min(self.burst, self._level + (now - self._seen) * self.rate)
        self._seen = now
        missing = min(samples, self.burst) - self._level
        if missing > 1e-9:
            return missing / self.rate
        self._level -= samples
        return 0.0

    def give_back(self, samples: int) -> None:
        """What was taken and not used."""
        self._level += samples


class Account:
    """What goes on under one name, whichever of its tokens is shown."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.in_flight = 0
        self._limits = Limits()
        self._bucket: Bucket | None = None

    def limit(self, limits: Limits) -> None:
        """These are the limits from now on. A bucket stays as empty as it is where its limits do."""
        if (limits.rate, limits.burst) != (self._limits.rate, self._limits.burst):
            rate = limits.rate
            self._bucket = None if rate is None else Bucket(rate, limits.burst or max(1.0, rate))
        self._limits = limits

    def take(self, samples: int, seconds_for: Callable[[int], float]) -> None:
        """ApiError 429 where that is too many by now, 400 where it always is; `seconds_for` so many to be computed."""
        most = self._limits.in_flight
        if most is not None and samples > most:
            raise invalid(None, f"this token may have {most} samples in flight, and {samples} are more than that")
        if most is not None and (excess := self.in_flight + samples - most) > 0:
            message = f"this token has {self.in_flight} samples in flight, of at most {most}; try again later"
            raise too_busy(message, seconds_for(excess), "too_many_in_flight")
        if self._bucket is not None and (wait := self._bucket.take(samples)):
            message = f"this token may have {self._bucket.rate:g} samples a second; try again later"
            raise too_busy(message, wait, "rate_limited")
        self.in_flight += samples

    def give_back(self, samples: int) -> None:
        """Samples that the service could not compute are not charged."""
        if self._bucket is not None:
            self._bucket.give_back(samples)


class RequestCharge:
    """One request of an account, from when its token was found good to the end of the answer."""

    def __init__(self, account: Account) -> None:
        self.account = account
        self._samples = 0

    def charge(self, samples: int, seconds_for: Callable[[int], float]) -> None:
        """As `Account.take`; in flight until the visit ends."""
        self.account.take(samples, seconds_for)
        self._samples = samples

    def end(self, status: int) -> None:
        """Nothing of it is in flight any more. Samples are given back where the answer says that we did not do them.

        Not with a 400: the samples of a latent that gives nothing finite have been computed by then.
        """
        self.account.in_flight -= self._samples
        if status == HTTPStatus.TOO_MANY_REQUESTS or (
            status >= HTTPStatus.INTERNAL_SERVER_ERROR and status != HTTPStatus.GATEWAY_TIMEOUT
        ):
            self.account.give_back(self._samples)
