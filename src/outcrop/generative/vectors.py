"""Pictures, or their features, as rows of numbers that can be compared."""

from __future__ import annotations

import numpy as np

from outcrop.errors import OutcropError


def vectors(pictures: np.ndarray, which: str, least: int = 1) -> np.ndarray:
    """Pictures flattened to rows.

    Args:
        pictures: any number, `N × ...`.
        which: what they are, for errors.
        least: how many there have to be.

    Returns:
        `N × F`, float32 where that holds all values of the type, else float64.

    Raises:
        OutcropError: too few pictures, nothing in them, or values that are not finite.
    """
    pictures = np.asarray(pictures)
    if pictures.ndim < 2 or len(pictures) < least or not pictures[:1].size:
        raise OutcropError(
            which, f"have the shape {pictures.shape}; give {least} or more, each with values"
        )
    rows = pictures.reshape(len(pictures), -1)
    rows = rows.astype(np.result_type(rows.dtype, np.float32), copy=False)
    if not np.isfinite(rows).all():
        raise OutcropError(
            which, "are not all finite; leave out those without data, or look for what diverged"
        )
    return rows


def refuse_unlike(one: np.ndarray, other: np.ndarray, which: str) -> None:
    """Raise an OutcropError where the rows of two sets have other numbers of values."""
    if one.shape[1] != other.shape[1]:
        raise OutcropError(
            which,
            f"have {one.shape[1]} and {other.shape[1]} values each; compare pictures of one size, "
            f"or features of one network",
        )
