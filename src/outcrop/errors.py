"""The exceptions that are meant for the user's eyes."""

from __future__ import annotations


class OutcropError(ValueError):
    """Something the user can put right: where it is, what is wrong, and what to do.

    It is a `ValueError`, which programs expect of a bad argument. The command line prints it as one
    line and leaves with exit code 2.

    Args:
        where: the file, option or class that is at fault.
        what: the cause, and after a semicolon the remedy.

    >>> print(OutcropError("scene.tif", "band 3 is all nodata; pass --bands 1,2,4"))
    scene.tif: band 3 is all nodata; pass --bands 1,2,4
    """

    def __init__(self, where: object, what: str) -> None:
        super().__init__(f"{where}: {what}")
        self._parts = str(where), what

    def __reduce__(self) -> tuple[type, tuple[str, str]]:
        # Workers of a cluster send it home.
        return type(self), self._parts


class Stopped(Exception):  # noqa: N818
    """The system asked this process to end, and what was done is safe.

    The command line prints it as one line and leaves with exit code 143.
    """
