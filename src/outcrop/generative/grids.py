"""Pictures beside each other, as one picture."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

_GAP = 2
_WHITE = 255


def grid(pictures: np.ndarray, columns: int, scale: int = 1) -> np.ndarray:
    """Pictures row by row, with white between them.

    Args:
        pictures: uint8, `N × height × width × 3`.
        columns: pictures in a row.
        scale: each pixel is drawn so many times wide and high.

    Returns:
        uint8, `height × width × 3`.
    """
    enlarged = pictures.repeat(scale, axis=1).repeat(scale, axis=2)
    n, height, width, _ = enlarged.shape
    rows = -(-n // columns)
    step = height + _GAP, width + _GAP
    whole = np.full((rows * step[0] - _GAP, columns * step[1] - _GAP, 3), _WHITE, dtype=np.uint8)
    for k, picture in enumerate(enlarged):
        top, left = k // columns * step[0], k % columns * step[1]
        whole[top : top + height, left : left + width] = picture
    return whole


def shown(pictures: np.ndarray, bands: Sequence[str]) -> np.ndarray:
    """Pictures in the bands that `shown_bands` names.

    Args:
        pictures: float, `N × bands × height × width`, in -1 to 1.
        bands: their names.

    Returns:
        uint8, `N × height × width × 3`.
    """
    stretched = np.clip((pictures[:, shown_bands(bands)] + 1) * 127.5, 0, 255)
    return np.moveaxis(np.rint(np.nan_to_num(stretched)).astype(np.uint8), 1, -1)


def shown_bands(bands: Sequence[str]) -> list[int]:
    """Which bands are shown as red, green and blue.

    Those of these names if all are there, else the first three; with fewer than three the first
    one, as grey.

    >>> shown_bands(["Blue", "Green", "Red", "NIR"]), shown_bands(["amplitude"])
    ([2, 1, 0], [0, 0, 0])
    """
    names = [name.lower() for name in bands]
    wanted = ("red", "green", "blue")
    if all(name in names for name in wanted):
        return [names.index(name) for name in wanted]
    return [0, 1, 2] if len(bands) >= len(wanted) else [0, 0, 0]
