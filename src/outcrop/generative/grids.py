"""Images as pictures: in colour, side by side in a grid, or in labelled rows on a sheet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from outcrop.extras import need
from outcrop.fonts import legible
from outcrop.sources.stretch import ways_to_show

_GAP = 2
_WHITE = 255
# Of a sheet: minimum width of an image, gap and margin, line height and letter width, in pixels.
_WIDE = 96
_SHEET_GAP, _MARGIN = 4, 10
_LINE, _LETTER = 16, 7.5
_DPI = 100
_POINTS = 9
_INK = "#27343f"

Word = tuple[float, float, str, str]
"""Position x and y in pixels from the upper left; "left" or "center"; the text."""


def to_rgb(images: np.ndarray, bands: Sequence[str]) -> np.ndarray:
    """Pictures of images in true colour, or the colours of `ways_to_show`.

    Args:
        images: float, `N × bands × height × width`, from -1 to 1.
        bands: names of the bands.

    Returns:
        uint8, `N × height × width × 3`.
    """
    stretched = np.clip((images[:, list(ways_to_show(bands)[0][0])] + 1) * 127.5, 0, 255)
    return np.moveaxis(np.rint(np.nan_to_num(stretched)).astype(np.uint8), 1, -1)


def grid(pictures: np.ndarray, columns: int, scale: int = 1) -> np.ndarray:
    """A grid of pictures, row by row, with white gaps.

    Args:
        pictures: uint8, `N × height × width × 3`.
        columns: number of pictures in a row.
        scale: width and height of a pixel in the grid.

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


@dataclass(frozen=True)
class Row:
    """One row of a sheet.

    Attributes:
        pictures: uint8, `N × height × width × 3`.
        name: text to the left of the row.
        captions: texts below the pictures, for all of them or the first ones.
    """

    pictures: np.ndarray
    name: str = ""
    captions: tuple[str, ...] = ()


@dataclass(frozen=True)
class Sheet:
    """Rows of pictures of one size under a title; small ones are enlarged to about 96 pixels."""

    rows: tuple[Row, ...]
    title: str = ""

    def write(self, path: Path) -> None:
        """Write a PNG file in which each pixel of a picture is a square of one colour."""
        need("matplotlib", "report")
        from matplotlib import rc_context
        from matplotlib.figure import Figure

        canvas, words = self._layout()
        height, width, _ = canvas.shape
        style = {"text.parse_math": False, "font.size": _POINTS, "text.color": _INK}
        with rc_context(style):
            figure = Figure((width / _DPI, height / _DPI), dpi=_DPI)
            figure.figimage(canvas)
            for x, y, where, text in words:
                figure.text(x / width, 1 - y / height, text, ha=where, va="center")
            with legible(figure):
                figure.savefig(path, format="png", metadata={"Software": None})

    def _layout(self) -> tuple[np.ndarray, list[Word]]:
        """The pictures on white, and the texts."""
        scale = max(1, _WIDE // self.rows[0].pictures.shape[1])
        side, across = (scale * n for n in self.rows[0].pictures.shape[1:3])
        before = max(len(row.name) for row in self.rows) * _LETTER
        left = _MARGIN + (round(before) + _MARGIN if before else 0)
        top = _MARGIN + (_LINE + _SHEET_GAP if self.title else 0)
        widest = max(len(row.pictures) for row in self.rows)
        right = max(left + widest * (across + _SHEET_GAP), _MARGIN + len(self.title) * _LETTER)
        heights = [side + (_LINE if row.captions else 0) + _SHEET_GAP for row in self.rows]
        shape = top + sum(heights) + _MARGIN, round(right) + _MARGIN, 3
        canvas = np.full(shape, _WHITE, dtype=np.uint8)
        words: list[Word] = [(_MARGIN, _MARGIN + _LINE / 2, "left", self.title)]
        for row, height in zip(self.rows, heights, strict=True):
            words.append((_MARGIN, top + side / 2, "left", row.name))
            enlarged = row.pictures.repeat(scale, axis=1).repeat(scale, axis=2)
            for k, picture in enumerate(enlarged):
                start = left + k * (across + _SHEET_GAP)
                canvas[top : top + side, start : start + across] = picture
                if k < len(row.captions):
                    below = start + across / 2, top + side + _LINE / 2
                    words.append((*below, "center", row.captions[k]))
            top += height
        return canvas, words
