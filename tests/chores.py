"""Work for other processes, in a module that they import in no time."""

from __future__ import annotations

import os
import signal

from outcrop.errors import OutcropError


def die(shared, item):
    if item == shared:
        os.kill(os.getpid(), signal.SIGKILL)
    return os.environ["OMP_NUM_THREADS"], item


def fail(shared, item):
    raise OutcropError("here", "it is wrong; put it right")
