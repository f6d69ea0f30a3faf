"""Colours of classes: conventional colours for common names, distinct colours for others."""

from __future__ import annotations

from collections.abc import Sequence

Colour = tuple[int, int, int]

_EXPECTED: tuple[tuple[str, str], ...] = (
    ("water", "#2b6cb0"),
    ("aquaculture", "#63c5da"),
    ("pond", "#63c5da"),
    ("mudflat", "#b08968"),
    ("sediment", "#c9a66b"),
    ("sand", "#e6d29c"),
    ("mangrove", "#1b7f4d"),
    ("forest", "#1e6b34"),
    ("rice", "#b5d33d"),
    ("agricult", "#e3c64a"),
    ("crop", "#e3c64a"),
    ("herb", "#9bcb6c"),
    ("grass", "#9bcb6c"),
    ("shrub", "#7a9a4e"),
    ("built", "#d1495b"),
    ("urban", "#d1495b"),
    ("developed", "#d1495b"),
    ("bare", "#c8b08c"),
    ("snow", "#eef3f7"),
    ("cloud", "#dddddd"),
)
# The colours of Okabe and Ito, which colour-blind readers can distinguish, then other hues.
_DISTINCT = (
    *("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9", "#f0e442", "#7f7f7f"),
    *("#8c564b", "#9467bd", "#17becf", "#bcbd22", "#1f3b73", "#a6761d", "#66a61e", "#e7298a"),
)


def colours(classes: Sequence[str]) -> list[Colour]:
    """A colour, as red, green and blue from 0 to 255, for each class; all are different.

    >>> colours(["water", "something else"])
    [(43, 108, 176), (0, 114, 178)]
    """
    chosen: list[str] = []
    for name in classes:
        expected = (colour for word, colour in _EXPECTED if word in name.lower())
        candidates = [*expected, *_DISTINCT]
        chosen.append(next((c for c in candidates if c not in chosen), _spare(len(chosen))))
    return [(int(c[1:3], 16), int(c[3:5], 16), int(c[5:7], 16)) for c in chosen]


def _spare(number: int) -> str:
    """More colours, at multiples of the golden angle on the hue circle."""
    import colorsys

    rgb = colorsys.hsv_to_rgb(number * 0.381966 % 1, 0.55 + 0.3 * (number % 2), 0.85)
    return "#" + "".join(f"{round(255 * channel):02x}" for channel in rgb)
