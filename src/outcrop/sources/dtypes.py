"""The dtypes in which pixels and samples are read."""

from __future__ import annotations

import numpy as np

from outcrop.errors import OutcropError

EXACT_IN_FLOAT = 1 << 24
"""The largest integer up to which float32 has all integers."""

DTYPES = ("uint8", "uint16", "int16", "float32")


def read_dtype(stored: np.dtype) -> np.dtype:
    """The dtype in which pixels or samples of a stored dtype are returned.

    The dtypes in `DTYPES` are kept, in native byte order. Every other dtype becomes float32.

    >>> read_dtype(np.dtype(">i2")), read_dtype(np.dtype("int32"))
    (dtype('int16'), dtype('float32'))
    """
    native = stored.newbyteorder("=")
    return native if native.name in DTYPES else np.dtype("float32")


def check_exact(
    where: object, what: str, values: np.ndarray, valid: np.ndarray | None, remedy: str
) -> None:
    """Check that integers are the same numbers in float32.

    Args:
        where, what: the file, and the band in it with a space after it or "", for the error.
        values: stored numbers; other dtypes than integers of 32 and 64 bits are not checked.
        valid: where they are data, of the same shape; None for everywhere.
        remedy: what to do, for the error.

    Raises:
        OutcropError: an integer is beyond 2 ** 24, so that float32 may round it.

    >>> check_exact("a.npy", "", np.array([2**24, -5]), None, "divide first")
    >>> check_exact("a.npy", "", np.array([2**24 + 1]), None, "divide first")
    Traceback (most recent call last):
        ...
    outcrop.errors.OutcropError: a.npy: has integers up to 16777217, and integers above 16777216 \
would be rounded; divide first
    """
    if values.dtype.kind not in "iu" or values.dtype.itemsize < 4 or not values.size:
        return
    where_valid = True if valid is None else valid
    highest = int(values.max(where=where_valid, initial=0))
    lowest = int(values.min(where=where_valid, initial=0))
    largest = max(highest, -lowest)
    if largest > EXACT_IN_FLOAT:
        raise OutcropError(
            where,
            f"{what}has integers up to {largest}, and integers above {EXACT_IN_FLOAT} would be "
            f"rounded; {remedy}",
        )
