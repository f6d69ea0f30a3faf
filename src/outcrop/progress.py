"""Progress on standard error, with an estimate of the time that is left."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

T = TypeVar("T")


def speaks() -> bool:
    """Whether this process is the first of those that torchrun or `--devices` has started.

    The others are silent. A process that was started alone speaks.
    """
    return int(os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0"))) == 0


console = Console(stderr=True, quiet=not speaks())


_gathered: list[list[str]] = []


def tell(line: str) -> None:
    """Print one line on standard error, however long."""
    if _gathered:
        _gathered[-1].append(line)
    else:
        console.print(line, soft_wrap=True, highlight=False, markup=False)


@contextmanager
def gathered() -> Iterator[list[str]]:
    """Keep what is told while the block runs, and show nothing.

    For work in another process, which sends the lines home.
    """
    lines: list[str] = []
    _gathered.append(lines)
    try:
        with silence():
            yield lines
    finally:
        _gathered.pop()


def track(items: Iterable[T], what: str, total: int | None = None) -> Iterator[T]:
    """Yield `items` while a bar shows how many are done and how long the rest will take.

    The bar is shown on a terminal only; into a pipe or a log nothing is written.
    """
    with _bar() as bar:
        yield from bar.track(items, total=total, description=what)


def _bar() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )


@contextmanager
def silence(wanted: bool = True) -> Iterator[None]:
    """Show and say nothing while the block runs."""
    before, console.quiet = console.quiet, console.quiet or wanted
    try:
        yield
    finally:
        console.quiet = before


@contextmanager
def follow(what: str, total: int, done: int = 0) -> Iterator[Callable[..., None]]:
    """A bar that the caller moves: by a step, which may be a fraction, and with a new note.

    A `line` is printed above the bar and stays, into a pipe or a log too.

    >>> with follow("training", total=10) as advance:
    ...     advance(0.5)
    ...     advance(0.5, note="loss 1.2")
    """
    with _bar() as bar:
        task = bar.add_task(what, total=total, completed=done)

        def advance(step: float, note: str | None = None, line: str | None = None) -> None:
            if line is not None:
                bar.console.print(line, highlight=False, soft_wrap=True)
            bar.update(task, advance=step, description=note and f"{what}: {note}")

        yield advance
