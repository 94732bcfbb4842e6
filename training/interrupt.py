"""Ctrl-C that waits for the end of a step, so that nothing is kept half-updated and nothing that was learnt is lost."""

import logging
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

logger = logging.getLogger(__name__)


@contextmanager
def noted_interrupts() -> Iterator[Callable[[], bool]]:
    """Within the block, Ctrl-C does no more than to turn the yielded function true, and to say so once.

    Outside the main thread, where Python lets nobody handle signals, it is never true.
    """
    asked = threading.Event()

    def note(number: int, frame: FrameType | None) -> None:
        del number, frame
        if not asked.is_set():
            logger.warning("stopping after this step (Ctrl-\\ ends at once and keeps nothing)")
        asked.set()

    if threading.current_thread() is not threading.main_thread():
        yield asked.is_set
        return
    before = signal.signal(signal.SIGINT, note)
    try:
        yield asked.is_set
    finally:
        signal.signal(signal.SIGINT, before)
