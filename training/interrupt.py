"""Ctrl-C and SIGTERM that wait for the end of a step, so that what was learnt is kept, and nothing half-updated."""

import logging
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

logger = logging.getLogger(__name__)


@contextmanager
def exit_on_ctrl_c() -> Iterator[None]:
    """Within the block Ctrl-C ends the process at once and without a word: nothing has begun, libraries load.

    Where it is ignored, or somebody else has taken it over, it stays so.
    """
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@contextmanager
def catch_interrupts() -> Iterator[Callable[[], bool]]:
    """Within the block, both do no more than to turn the yielded function true, and to say so once.

    Outside the main thread, where Python lets nobody handle signals, it is never true.
    """
    asked = threading.Event()

    def note(number: int, frame: FrameType | None) -> None:
        del number, frame
        if not asked.is_set():
            asked.set()
            logger.warning("stopping after this step (Ctrl-\\ ends at once and keeps nothing)")

    if threading.current_thread() is not threading.main_thread():
        yield asked.is_set
        return
    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked.is_set
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
