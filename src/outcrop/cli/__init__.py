"""The command line: one typed function per command."""

from __future__ import annotations

import os
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from outcrop.cli.group import Command

DEBUG = "OUTCROP_DEBUG"
"""Environment variable: with 1, an unexpected exception is shown with its traceback."""


class _Terminated(BaseException):
    """SIGTERM. It is no `Exception`, so that `except Exception` does not catch it."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    0 when all is well; what the command returns, if it returns a number (`outcrop audit`: 1 if
    something is wrong); 2 when the command could not do its work (one line on standard error says
    why); 130 after Ctrl-C and 143 after SIGTERM, as shells and schedulers expect of a process
    that a signal has ended. A training writes a checkpoint first; nothing is left half-written.

    An exception that nobody foresaw is one line too, which names it and the place in outcrop where
    it came up, so that a damaged file never ends in a page of Python. With `OUTCROP_DEBUG=1` in the
    environment it is not caught.
    """
    from outcrop.errors import OutcropError, Stopped

    command: Command | None = None
    settings: dict[str, Any] = {}

    def worded(text: object) -> str:
        from outcrop.cli.translate import as_options

        return as_options(str(text), command)

    try:
        with _ended_by_sigterm(), _without_warnings():
            from outcrop import __doc__ as description
            from outcrop import __version__
            from outcrop.cli.commands import COMMANDS, RENAMED
            from outcrop.cli.parser import parse
            from outcrop.progress import log_to_console

            with log_to_console(worded):
                words = sys.argv[1:] if arguments is None else list(arguments)
                words = _renamed(words, RENAMED)
                command, settings = parse(COMMANDS, words, __version__, description or "", RENAMED)
                return command(**settings) or 0
    except OutcropError as error:
        sys.stderr.write(f"outcrop: {' '.join(worded(error).split())}\n")
        return 2
    except Stopped as stopped:
        sys.stderr.write(f"outcrop: {worded(stopped)}\n")
        return 128 + signal.SIGTERM
    except (KeyboardInterrupt, _Terminated) as end:
        # Zarr makes coroutines; one that the signal came before would be a warning at the end.
        warnings.filterwarnings("ignore", "coroutine .* was never awaited", RuntimeWarning)
        _say_stopped(settings)
        return 128 + (signal.SIGINT if isinstance(end, KeyboardInterrupt) else signal.SIGTERM)
    except Exception as error:
        if os.environ.get(DEBUG, "0") != "0":
            raise
        sys.stderr.write(f"outcrop: {_unexpected(error)}\n")
        return 2


def _renamed(words: list[str], renamed: dict[str, str]) -> list[str]:
    """The words with the new names of commands and options, and a note for each old name."""
    from outcrop.progress import warn

    for old, new in renamed.items():
        name, *option = old.split()
        given = {word.partition("=")[0] for word in words}
        if words[:1] == [name] and given.issuperset(option):
            warn(f"outcrop {old} is now outcrop {new}; the old name goes with the next version")
            words = _with_new_name(words, new.split(), option)
    return words


def _with_new_name(words: list[str], new: list[str], option: list[str]) -> list[str]:
    """The words with another command, or with another option if `new` ends in one."""
    if not new[-1].startswith("--"):
        return [*new, *words[1:]]
    (old,) = option
    names = (word.partition("=") for word in words[1:])
    renamed = [(new[-1] if name == old else name) + mark + rest for name, mark, rest in names]
    return [*new[:-1], *renamed]


@contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """Let SIGTERM end the block like Ctrl-C, so that it can clean up; a second SIGTERM kills.

    Only the main thread can do that, and only where nobody else handles the signal.
    """
    if (
        threading.current_thread() is not threading.main_thread()
        or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
    ):
        yield
        return

    def end(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        raise _Terminated

    signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


@contextmanager
def _without_warnings() -> Iterator[None]:
    """Hide warnings of libraries, which are meant for programmers.

    With `OUTCROP_DEBUG=1`, `python -W` or PYTHONWARNINGS they are shown.
    """
    with warnings.catch_warnings():
        if not sys.warnoptions and os.environ.get(DEBUG, "0") == "0":
            warnings.simplefilter("ignore")
        yield


def _say_stopped(settings: dict[str, Any]) -> None:
    from outcrop.progress import is_first_process

    if is_first_process():
        remedy = (
            "the same command with --resume goes on"
            if "resume" in settings
            else "nothing was written"
        )
        sys.stderr.write(f"outcrop: stopped; {remedy}\n")


def _unexpected(error: Exception) -> str:
    """One line about an unexpected exception."""
    if isinstance(error, MemoryError):
        return "there is not enough memory; take less data at once"
    ours = Path(__file__).parent.parent
    frames = traceback.extract_tb(error.__traceback__)
    places = [frame for frame in frames if ours in Path(frame.filename).parents]
    last = places[-1]
    return (
        f"unexpected {type(error).__name__} ({' '.join(str(error).split())[:200]}) at "
        f"{Path(last.filename).relative_to(ours)}:{last.lineno}; a file may be damaged, or outcrop "
        f"is wrong: {DEBUG}=1 shows the traceback, please report it"
    )
