"""How much of a picture is lost on its way through an autoencoder."""

from __future__ import annotations

import numpy as np

from outcrop.errors import OutcropError
from outcrop.generative.vectors import vectors
from outcrop.metrics.intervals import (
    Interval,
    interval_of_difference,
    ratio,
    resampled_means,
    support,
)

_CHUNK_VALUES = 1 << 23


def relative_error(
    pictures: np.ndarray,
    reconstructions: np.ndarray,
    groups: np.ndarray | None = None,
    draws: int = 2000,
    seed: int = 0,
) -> Interval:
    """The mean squared distance of pictures to their reconstructions, over that to another picture.

    0 is perfect, and 1 no better than another picture of the set. 0.5 is no better than the mean of
    all pictures, which is what an encoder that tells nothing comes to. The mean squared distance of
    two different pictures is twice the sum of the variances, so that no pairs have to be drawn. The
    95 % interval is a bootstrap about the mean picture as it is.

    Args:
        pictures, reconstructions: number, `N × ...`, pixels or features.
        groups: `N`, the piece of ground of each picture; None when each stands for itself.
        draws: number of bootstrap samples (see `outcrop.metrics.intervals`).
        seed: of the bootstrap.

    Returns:
        0 or more; NaN where all pictures are the same.

    Raises:
        OutcropError: fewer than two pictures, different shapes, or values that are not finite.

    >>> pictures = np.array([[0.0], [2.0], [4.0]])  # 8 apart on average, squared
    >>> relative_error(pictures, pictures + 1).value
    0.125
    """
    _refuse_unpaired(pictures, reconstructions)
    pictures = vectors(pictures, "pictures", 2)
    reconstructions = vectors(reconstructions, "reconstructions", 2)
    N = len(pictures)
    middle = np.broadcast_to(pictures.mean(axis=0, dtype=np.float64), pictures.shape)
    spread = np.column_stack((_squares(pictures, reconstructions), _squares(pictures, middle)))
    spread[:, 1] *= 2 * N / (N - 1)
    error, apart = spread.mean(axis=0)
    drawn = resampled_means(spread, groups, draws, seed)
    value = float(ratio(error, apart))
    redrawn = ratio(drawn[:, 0], drawn[:, 1])
    return interval_of_difference(value, redrawn, support(groups, N), (0, np.inf))


def band_errors(pictures: np.ndarray, reconstructions: np.ndarray) -> np.ndarray:
    """The root of the mean squared error of each band.

    Args:
        pictures, reconstructions: number, `N × channels × height × width`; pixels that are NaN in
            either do not count.

    Returns:
        float64, `channels`, in the units of the pixels; NaN for a band without data.

    Raises:
        OutcropError: no pictures, or different shapes.

    >>> pictures = np.zeros((2, 2, 1, 1))
    >>> band_errors(pictures, pictures + [[[3.0]], [[0.5]]])
    array([3. , 0.5])
    """
    _refuse_unpaired(pictures, reconstructions)
    bands = np.shape(pictures)[1]
    sums, counts = np.zeros(bands), np.zeros(bands)
    for one, other in _chunks(pictures, reconstructions):
        squares = np.square(np.subtract(one, other, dtype=np.float64))
        sums += np.nansum(squares, axis=(0, 2, 3))
        counts += np.count_nonzero(~np.isnan(squares), axis=(0, 2, 3))
    return np.sqrt(ratio(sums, counts))


def _squares(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """The squared distance of each row of one to its row of the other, float64, `N`."""
    return np.concatenate(
        [np.square(np.subtract(a, b, dtype=np.float64)).sum(axis=1) for a, b in _chunks(one, other)]
    )


def _chunks(one: np.ndarray, other: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    step = max(1, _CHUNK_VALUES // max(1, one[0].size))
    return [(one[k : k + step], other[k : k + step]) for k in range(0, len(one), step)]


def _refuse_unpaired(pictures: np.ndarray, reconstructions: np.ndarray) -> None:
    shapes = np.shape(pictures), np.shape(reconstructions)
    if shapes[0] != shapes[1] or not shapes[0] or not shapes[0][0]:
        raise OutcropError(
            "reconstructions",
            f"of the shape {shapes[1]} for pictures of {shapes[0]}; give one for each picture",
        )
