"""Commands for all processes of torchrun, one after the other: to start them takes longest.

Each argument is one command line of outcrop. The first process writes what each ended with.
"""

from __future__ import annotations

import os
import sys

from tests.command_line import run

if __name__ == "__main__":
    for command in sys.argv[1:]:
        code = run(command)
        if os.environ["RANK"] == "0":
            print("exit code", code, flush=True)
