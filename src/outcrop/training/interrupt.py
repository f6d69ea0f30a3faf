"""A request to end that waits until the work is safe."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from outcrop.errors import Stopped


class Request:
    """Whether somebody has asked this process to end, by Ctrl-C or by SIGTERM.

    Schedulers send SIGTERM some seconds before they kill.
    """

    def __init__(self) -> None:
        self.signal: int | None = None

    def __bool__(self) -> bool:
        return self.signal is not None

    def obey(self, what: str) -> None:
        """End the work, now that `what` is safe.

        Raises:
            KeyboardInterrupt: it was Ctrl-C.
            Stopped: it was SIGTERM.
        """
        if self.signal == signal.SIGINT:
            raise KeyboardInterrupt
        raise Stopped(f"{what}; the same command with --resume goes on")


@contextmanager
def requests() -> Iterator[Request]:
    """Hold back Ctrl-C and SIGTERM while the block runs; a second Ctrl-C ends it at once.

    Only the main thread can do that; in others both act as always.
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
