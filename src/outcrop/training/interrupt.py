"""Ctrl-C and SIGTERM that take effect after the next checkpoint."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from outcrop.errors import Stopped


class Request:
    """A pending Ctrl-C or SIGTERM of this process.

    Schedulers send SIGTERM some seconds before they kill a process.
    """

    def __init__(self) -> None:
        self.signal: int | None = None

    def __bool__(self) -> bool:
        return self.signal is not None

    def obey(self, what: str) -> None:
        """End the training after a checkpoint.

        Args:
            what: the state that was saved, for the message.

        Raises:
            KeyboardInterrupt: it was Ctrl-C.
            Stopped: it was SIGTERM.
        """
        if self.signal == signal.SIGINT:
            raise KeyboardInterrupt
        raise Stopped(f"{what}; the same command with `resume=True` goes on")


@contextmanager
def requests() -> Iterator[Request]:
    """Defer Ctrl-C and SIGTERM while the block runs; a second Ctrl-C ends it at once.

    Signals can be deferred in the main thread only.
    """
    request = Request()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return

    def remember(number: int, frame: FrameType | None) -> None:
        request.signal = number
        signal.signal(signal.SIGINT, signal.default_int_handler)

    before = {number: signal.signal(number, remember) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
