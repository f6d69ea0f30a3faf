"""Exceptions with messages for users."""

from __future__ import annotations


class OutcropError(ValueError):
    """An error that the user can correct: where it is, its cause, and the remedy.

    It is a `ValueError`, which programs expect of a bad argument. The command line prints it as one
    line and leaves with exit code 2.

    Arguments and functions of outcrop stand in backticks, with the values to pass. The command line
    replaces them by options and commands, here by `--bands 1,2,4` (`outcrop.cli.translate`).

    Args:
        where: the file, argument or class that is at fault.
        what: the cause, and after a semicolon the remedy.

    >>> print(OutcropError("scene.tif", "band 3 is all nodata; pass `bands=[1, 2, 4]`"))
    scene.tif: band 3 is all nodata; pass `bands=[1, 2, 4]`
    """

    def __init__(self, where: object, what: str) -> None:
        super().__init__(f"{where}: {what}")
        self._parts = str(where), what

    def __reduce__(self) -> tuple[type, tuple[str, str]]:
        # Workers of a cluster send it home.
        return type(self), self._parts


class Stopped(Exception):  # noqa: N818
    """The system ended this process (SIGTERM) after its results were saved.

    The command line prints it as one line and leaves with exit code 143.
    """
