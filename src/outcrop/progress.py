"""Progress bars and log messages of long work.

Messages go to the logger `outcrop`: INFO for what is being done (`tell`), WARNING for what was
assumed or could be wrong (`warn`). In a library nothing is configured, so Python prints warnings
only. The command line prints all of them (`log_to_console`).

With `OUTCROP_PROGRESS=json` in the environment, bars and messages are JSON lines on standard error,
for programs that run the command line: `{"progress": 0.25, "text": "classifying"}` and
`{"level": "warning", "message": "..."}`.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from rich.console import Console

if TYPE_CHECKING:
    from rich.progress import Progress, ProgressColumn

T = TypeVar("T")

_LOG = logging.getLogger("outcrop")
_NOTHING = logging.CRITICAL + 1


def is_first_process() -> bool:
    """Whether this process is rank 0 of those that torchrun or `--devices` started, or alone.

    Other ranks print nothing.
    """
    return int(os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0"))) == 0


console = Console(stderr=True, quiet=not is_first_process())
if not is_first_process():
    _LOG.setLevel(_NOTHING)


def _as_json() -> bool:
    """Whether another program reads the progress."""
    return os.environ.get("OUTCROP_PROGRESS") == "json"


def _write_json(**content: object) -> None:
    if not console.quiet:
        sys.stderr.write(json.dumps(content) + "\n")
        sys.stderr.flush()


class _ConsoleHandler(logging.Handler):
    """Prints each record as one line above the progress bars; warnings begin with "note:"."""

    def __init__(self, worded: Callable[[str], str] | None) -> None:
        super().__init__()
        self._worded = worded

    @contextmanager
    def wording(self, worded: Callable[[str], str] | None) -> Iterator[None]:
        before = self._worded
        self._worded = worded or before
        try:
            yield
        finally:
            self._worded = before

    def emit(self, record: logging.LogRecord) -> None:
        line = record.getMessage()
        if self._worded is not None:
            line = self._worded(line)
        if _as_json():
            _write_json(level=record.levelname.lower(), message=line)
            return
        if record.levelno >= logging.WARNING:
            line = f"note: {line}"
        console.print(line, soft_wrap=True, highlight=False, markup=False)


@contextmanager
def log_to_console(worded: Callable[[str], str] | None = None) -> Iterator[None]:
    """Print the log of outcrop on standard error while the block runs.

    Args:
        worded: gives each message in the words of the program that shows it.
    """
    if outer := [each for each in _LOG.handlers if isinstance(each, _ConsoleHandler)]:
        with outer[0].wording(worded):
            yield
        return
    with _restored():
        _LOG.handlers = [*_LOG.handlers, _ConsoleHandler(worded)]
        _LOG.setLevel(logging.INFO if is_first_process() else _NOTHING)
        _LOG.propagate = False
        yield


@contextmanager
def _restored() -> Iterator[None]:
    """Restore the settings of the log and of the console at the end of the block."""
    quiet, handlers, level, propagate = console.quiet, _LOG.handlers, _LOG.level, _LOG.propagate
    try:
        yield
    finally:
        console.quiet, _LOG.handlers, _LOG.propagate = quiet, handlers, propagate
        _LOG.setLevel(level)


class _Collector(logging.Handler):
    def __init__(self, records: list[tuple[int, str]]) -> None:
        super().__init__()
        self._records = records

    def emit(self, record: logging.LogRecord) -> None:
        self._records.append((record.levelno, record.getMessage()))


@contextmanager
def collected_log() -> Iterator[list[tuple[int, str]]]:
    """Collect the log of outcrop, as levels and messages, and show nothing while the block runs.

    A process that works for another one sends the list there, which logs it (`log_again`).
    """
    records: list[tuple[int, str]] = []
    with _restored():
        console.quiet, _LOG.handlers, _LOG.propagate = True, [_Collector(records)], False
        _LOG.setLevel(logging.INFO)
        yield records


def log_again(records: Iterable[tuple[int, str]]) -> None:
    """Log what `collected_log` has collected."""
    for level, message in records:
        _LOG.log(level, message)


def track(items: Iterable[T], what: str, total: int | None = None) -> Iterator[T]:
    """Yield `items` while a progress bar shows their number and the time remaining.

    The bar is shown on a terminal only; nothing is written into a pipe or a file.
    """
    if _as_json():
        with follow(what, length(items, total) or 0) as advance:
            for item in items:
                yield item
                advance(1)
        return
    with progress_bar() as bar:
        yield from bar.track(items, total=total, description=what)


def length(items: Iterable[object], total: int | None) -> int | None:
    """The number of items, None if it is unknown; `total` if that is given."""
    return len(items) if total is None and isinstance(items, Sized) else total


def progress_bar(count: ProgressColumn | None = None) -> Progress:
    """A progress bar of rich on a terminal; `count` shows what is done, by default items."""
    from rich import progress

    return progress.Progress(
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        count or progress.MofNCompleteColumn(),
        progress.TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )


@contextmanager
def silence(wanted: bool = True) -> Iterator[None]:
    """Show no progress bars and log nothing while the block runs.

    Args:
        wanted: false changes nothing.
    """
    if not wanted:
        yield
        return
    with _restored():
        console.quiet = True
        _LOG.setLevel(_NOTHING)
        yield


@contextmanager
def follow(what: str, total: int, done: int = 0) -> Iterator[Callable[..., None]]:
    """A progress bar that the caller advances by steps, which may be fractions, with a note.

    A `line` is logged; on a terminal it appears above the bar.

    >>> with follow("training", total=10) as advance:
    ...     advance(0.5)
    ...     advance(0.5, note="loss 1.2")
    """
    if _as_json():
        yield _json_bar(what, total, done)
        return
    with progress_bar() as bar:
        task = bar.add_task(what, total=total, completed=done)

        def advance(step: float, note: str | None = None, line: str | None = None) -> None:
            if line is not None:
                _LOG.info(line)
            bar.update(task, advance=step, description=note and f"{what}: {note}")

        yield advance


def _json_bar(what: str, total: float, done: float) -> Callable[..., None]:
    """A function that writes a JSON line for each per cent that is done."""
    shown = -1.0

    def advance(step: float, note: str | None = None, line: str | None = None) -> None:
        nonlocal done, shown
        if line is not None:
            _LOG.info(line)
        done += step
        share = min(done / total, 1.0) if total else 0.0
        if share - shown >= 0.01 or (share == 1 and shown < 1):
            shown = share
            _write_json(progress=round(share, 3), text=f"{what}: {note}" if note else what)

    advance(0)
    return advance


def tell(line: str) -> None:
    """Log what is being done."""
    _LOG.info(line)


def warn(line: str) -> None:
    """Log what is assumed, or what may be wrong. The command line prints "note: " before it."""
    _LOG.warning(line)
