"""The errors of the reconstructions of an autoencoder."""

from __future__ import annotations

import numpy as np

from outcrop.errors import OutcropError
from outcrop.generative.samples import vectors
from outcrop.metrics.intervals import (
    Interval,
    interval_of_difference,
    ratio,
    resampled_means,
    support,
)

_CHUNK_VALUES = 1 << 23


def relative_error(
    images: np.ndarray,
    reconstructions: np.ndarray,
    groups: np.ndarray | None = None,
    draws: int = 2000,
    seed: int = 0,
) -> Interval:
    """The mean squared error of reconstructions, over the mean squared difference of two images.

    0 is perfect, and 1 no better than another image of the set. 0.5 is no better than the mean
    image, which a decoder without information from the encoder gives. The mean squared difference
    of two images is twice the sum of the variances, so no pairs have to be drawn. The 95 % interval
    is a bootstrap with a fixed mean image.

    Args:
        images, reconstructions: `N × ...`, pixels or features of any number type.
        groups: `N`, the spatial group of each image; None: all are independent.
        draws: number of bootstrap samples (see `outcrop.metrics.intervals`).
        seed: random seed of the bootstrap.

    Returns:
        0 or more; NaN if all images are equal.

    Raises:
        OutcropError: fewer than two images, different shapes, or values that are not finite.

    >>> images = np.array([[0.0], [2.0], [4.0]])  # mean squared difference 8
    >>> relative_error(images, images + 1).value
    0.125
    """
    _refuse_unpaired(images, reconstructions)
    images = vectors(images, "images", 2)
    reconstructions = vectors(reconstructions, "reconstructions", 2)
    N = len(images)
    mean = np.broadcast_to(images.mean(axis=0, dtype=np.float64), images.shape)
    spread = np.column_stack((_squares(images, reconstructions), _squares(images, mean)))
    spread[:, 1] *= 2 * N / (N - 1)
    error, apart = spread.mean(axis=0)
    drawn = resampled_means(spread, groups, draws, seed)
    value = float(ratio(error, apart))
    redrawn = ratio(drawn[:, 0], drawn[:, 1])
    return interval_of_difference(value, redrawn, support(groups, N), (0, np.inf))


def band_errors(images: np.ndarray, reconstructions: np.ndarray) -> np.ndarray:
    """The root mean squared error of each band.

    Args:
        images, reconstructions: `N × bands × height × width`, of any number type; pixels that are
            NaN in either are left out.

    Returns:
        float64, `bands`, in the units of the pixels; NaN for a band without data.

    Raises:
        OutcropError: no images, or different shapes.

    >>> images = np.zeros((2, 2, 1, 1))
    >>> band_errors(images, images + [[[3.0]], [[0.5]]])
    array([3. , 0.5])
    """
    _refuse_unpaired(images, reconstructions)
    bands = np.shape(images)[1]
    sums, counts = np.zeros(bands), np.zeros(bands)
    for one, other in _chunks(images, reconstructions):
        squares = np.square(np.subtract(one, other, dtype=np.float64))
        sums += np.nansum(squares, axis=(0, 2, 3))
        counts += np.count_nonzero(~np.isnan(squares), axis=(0, 2, 3))
    return np.sqrt(ratio(sums, counts))


def _squares(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """The squared distances between the rows of two arrays, float64, `N`."""
    return np.concatenate(
        [np.square(np.subtract(a, b, dtype=np.float64)).sum(axis=1) for a, b in _chunks(one, other)]
    )


def _chunks(one: np.ndarray, other: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    step = max(1, _CHUNK_VALUES // max(1, one[0].size))
    return [(one[k : k + step], other[k : k + step]) for k in range(0, len(one), step)]


def _refuse_unpaired(images: np.ndarray, reconstructions: np.ndarray) -> None:
    shapes = np.shape(images), np.shape(reconstructions)
    if shapes[0] != shapes[1] or not shapes[0] or not shapes[0][0]:
        raise OutcropError(
            "reconstructions",
            f"have shape {shapes[1]} where the images have {shapes[0]}; give one for each image",
        )
