"""The command line: one typed function per command."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    0 when all is well, or when SIGTERM has ended a training that can go on; what the command
    returns, if it returns a number (`outcrop audit`: 1 if something is wrong); 2 when the user can
    put something right (one line on standard error says what); 130 after Ctrl-C.
    """
    from outcrop import __doc__ as description
    from outcrop import __version__
    from outcrop.cli.commands import COMMANDS
    from outcrop.cli.parser import parse
    from outcrop.errors import OutcropError, Stopped

    words = sys.argv[1:] if arguments is None else list(arguments)
    settings: dict[str, Any] = {}
    try:
        command, settings = parse(COMMANDS, words, __version__, description or "")
        return command(**settings) or 0
    except OutcropError as error:
        sys.stderr.write(f"outcrop: {' '.join(str(error).split())}\n")
        return 2
    except Stopped as stopped:
        sys.stderr.write(f"outcrop: {stopped}\n")
    except KeyboardInterrupt:
        remedy = (
            "the same command with --resume goes on"
            if "resume" in settings
            else "nothing was written"
        )
        sys.stderr.write(f"outcrop: stopped; {remedy}\n")
        return 130
    return 0
