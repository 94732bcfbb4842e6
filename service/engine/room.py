"""Room that clients share, of which no one of them can take all."""

from collections import Counter
from collections.abc import Hashable

_GREED = 7
"""However many clients fill the room, some of it stays free for who has none: the dynamic thresholds of Choudhury and
Hahne (Dynamic Queue Length Thresholds for Shared-Memory Packet Switches, 1998)."""


class Room:
    """A client that has some of it may have at most seven times what is left free.

    Not safe for threads: changed under its owner's lock. Who only looks may see what was so a moment ago.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.taken = 0
        self._held: Counter[Hashable] = Counter()

    def held(self, client: Hashable) -> int:
        """How much a client has."""
        return self._held[client]

    def excess(self, client: Hashable, more: int) -> int:
        """How much would have to be given back first, so that there is room for `more`; 0 or less: there is."""
        free = self.size - self.taken - more
        held = self._held[client]
        if client is None or not held:
            return -free
        greedy = held + more - _GREED * free
        return max(-free, -(-greedy // (_GREED + 1)))  # what the client itself gives back counts on both sides

    def take(self, client: Hashable, amount: int) -> None:
        """Whether or not there is room."""
        self.taken += amount
        self._held[client] += amount

    def leave(self, client: Hashable, amount: int) -> None:
        """Give back what was taken."""
        self.taken -= amount
        self._held[client] -= amount
        if not self._held[client]:
            del self._held[client]
