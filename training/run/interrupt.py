"""Ctrl-C and SIGTERM that wait for the end of a step, so that nothing that was learned is lost."""

import logging
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

logger = logging.getLogger(__name__)


@contextmanager
def exit_on_ctrl_c() -> Iterator[None]:
    """Within the block Ctrl-C ends the process at once, without a traceback. For the time in which libraries load.

    Changes nothing if Ctrl-C is ignored or has another handler already.
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
    """Yield a function that says whether Ctrl-C or SIGTERM came within the block. They have no other effect there.

    The function is always false outside the main thread, where Python does not allow signal handlers.
    """
    interrupted = threading.Event()

    def note(number: int, frame: FrameType | None) -> None:
        del number, frame
        if not interrupted.is_set():
            interrupted.set()
            logger.warning("stopping after this step (Ctrl-\\ ends at once and keeps nothing)")

    if threading.current_thread() is not threading.main_thread():
        yield interrupted.is_set
        return
    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield interrupted.is_set
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
