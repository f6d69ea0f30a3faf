"""Matplotlib figures as inline SVG, in the style of the page."""

from __future__ import annotations

import io
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from markupsafe import Markup

from outcrop.extras import need
from outcrop.fonts import legible

INK, FAINT = "#27343f", "#dfe5ea"
_PIXELS_PER_INCH = 96
STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "outcrop",
    "text.parse_math": False,
    "font.size": 10,
    "axes.edgecolor": "#9aa6b1",
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": FAINT,
    "xtick.color": INK,
    "ytick.color": INK,
    "text.color": INK,
    "lines.linewidth": 1.8,
    "legend.frameon": False,
    "legend.fontsize": 9,
}


@contextmanager
def chart(title: str, inches: tuple[float, float]) -> Iterator[tuple[Any, Any]]:
    """A matplotlib figure and its axes in the page's style, laid out when the block ends.

    Args:
        inches: width and height.
    """
    need("matplotlib", "report")
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(STYLE):
        figure = Figure(inches, layout="constrained")
        axes = figure.add_subplot()
        axes.set_title(title)
        yield figure, axes
        with legible(figure):
            figure.draw_without_rendering()


def svg(figure: Any, words: str) -> Markup:
    """The figure as an SVG element that shares no identifier with another on the page.

    Args:
        words: what is seen, for readers who cannot.
    """
    from matplotlib import rc_context

    buffer = io.StringIO()
    with rc_context(STYLE), legible(figure):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    text = buffer.getvalue()
    svg = text[text.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'(\sid="|url\(#|href="#)', rf"\g<1>c{zlib.crc32(svg.encode()):x}-", svg)
    pixels = round(figure.get_figwidth() * _PIXELS_PER_INCH)
    opening = Markup('<svg role="img" aria-label="{}" style="max-width: {}px"').format(
        words, pixels
    )
    return Markup(svg.replace("<svg", opening, 1))
