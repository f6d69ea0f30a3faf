"""Pictures in rows with words beside and beneath them, as one picture."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from outcrop.extras import need
from outcrop.fonts import legible

_INK = "#27343f"
_WHITE = 255
_WIDE = 96
_GAP, _MARGIN = 4, 10
_LINE, _LETTER = 16, 7.5
_DPI = 100
_POINTS = 9

Word = tuple[float, float, str, str]
"""Where it stands, x and y in pixels from the upper left; "left" or "center"; the text."""


@dataclass(frozen=True)
class Row:
    """One row of pictures.

    Attributes:
        pictures: uint8, `N × height × width × 3`.
        name: what stands before it.
        captions: what stands beneath each picture; fewer than pictures leave the rest bare.
    """

    pictures: np.ndarray
    name: str = ""
    captions: tuple[str, ...] = ()


@dataclass(frozen=True)
class Sheet:
    """Rows of pictures of one size under a title.

    Small pictures are enlarged, each pixel to a square, to about 96 pixels.
    """

    rows: tuple[Row, ...]
    title: str = ""

    def write(self, path: Path) -> None:
        """Write a PNG file, in which each pixel of the pictures is a square of one colour."""
        need("matplotlib", "report")
        from matplotlib import rc_context
        from matplotlib.figure import Figure

        canvas, words = self._laid_out()
        height, width, _ = canvas.shape
        style = {"text.parse_math": False, "font.size": _POINTS, "text.color": _INK}
        with rc_context(style):
            figure = Figure((width / _DPI, height / _DPI), dpi=_DPI)
            figure.figimage(canvas)
            for x, y, where, text in words:
                figure.text(x / width, 1 - y / height, text, ha=where, va="center")
            with legible(figure):
                figure.savefig(path, format="png", metadata={"Software": None})

    def _laid_out(self) -> tuple[np.ndarray, list[Word]]:
        """All pictures on white, and the words."""
        scale = enlargement(self.rows[0].pictures.shape[1])
        side, across = (scale * n for n in self.rows[0].pictures.shape[1:3])
        before = max(len(row.name) for row in self.rows) * _LETTER
        left = _MARGIN + (round(before) + _MARGIN if before else 0)
        top = _MARGIN + (_LINE + _GAP if self.title else 0)
        widest = max(len(row.pictures) for row in self.rows)
        right = max(left + widest * (across + _GAP), _MARGIN + len(self.title) * _LETTER)
        heights = [side + (_LINE if row.captions else 0) + _GAP for row in self.rows]
        shape = top + sum(heights) + _MARGIN, round(right) + _MARGIN, 3
        canvas = np.full(shape, _WHITE, dtype=np.uint8)
        words: list[tuple[float, float, str, str]] = [
            (_MARGIN, _MARGIN + _LINE / 2, "left", self.title)
        ]
        for row, height in zip(self.rows, heights, strict=True):
            words.append((_MARGIN, top + side / 2, "left", row.name))
            enlarged = row.pictures.repeat(scale, axis=1).repeat(scale, axis=2)
            for k, picture in enumerate(enlarged):
                start = left + k * (across + _GAP)
                canvas[top : top + side, start : start + across] = picture
                if k < len(row.captions):
                    beneath = start + across / 2, top + side + _LINE / 2
                    words.append((*beneath, "center", row.captions[k]))
            top += height
        return canvas, words


def enlargement(size: int) -> int:
    """How many times each pixel of a picture of so many is drawn.

    >>> enlargement(32), enlargement(64), enlargement(128)
    (3, 1, 1)
    """
    return max(1, _WIDE // size)
