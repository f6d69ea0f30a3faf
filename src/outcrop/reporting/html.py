"""Numbers, figures and templates as HTML."""

from __future__ import annotations

import io
import re
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup, escape

from outcrop.extras import need
from outcrop.fonts import legible
from outcrop.metrics.intervals import Interval
from outcrop.metrics.significance import written
from outcrop.sources.features import dropped_text

_FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Tile:
    """A headline number: its name, its value, and a note."""

    name: str
    value: str
    note: str


def percent(value: float, digits: int = 1) -> str:
    """A fraction in per cent.

    >>> percent(float("nan")), percent(0.7831) == "78.3\N{NO-BREAK SPACE}%"
    ('–', True)
    """
    return "–" if np.isnan(value) else f"{100 * value:.{digits}f}\N{NO-BREAK SPACE}%"


def ends(one: Interval, sign: str = "") -> str:
    """The ends of an interval in per cent.

    >>> ends(Interval(0.8, 0.75, 0.85)), ends(Interval(0.1, -0.05, 0.2), "+")
    ('[75.0, 85.0]', '[-5.0, +20.0]')
    """
    if np.isnan(one.value):
        return ""
    if np.isnan(one.low):
        return "[unknown]"
    return f"[{100 * one.low:{sign}.1f}, {100 * one.high:{sign}.1f}]"


def listed(words: Sequence[str]) -> str:
    """Join words with commas and "and".

    >>> listed(["rice"]), listed(["rice", "water", "mud"])
    ('rice', 'rice, water and mud')
    """
    if len(words) < 2:
        return "".join(words)
    return f"{', '.join(words[:-1])} and {words[-1]}"


def render_page(template: str, *folders: Path, **content: Any) -> str:
    """Render a template as one HTML page that contains its style sheet.

    Args:
        template: file name in this package or in one of `folders`.
        folders: further folders with templates.
        content: variables of the template.
    """
    need("jinja2", "report")
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader([*folders, _FOLDER]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "percent": percent,
        "ends": ends,
        "listed": listed,
        "written": written,
        "coded": coded,
        "counted": dropped_text,
        "thousands": "{:,}".format,
        "file": lambda name: Path(str(name)).name,
        "rgb": lambda colour: "rgb({}, {}, {})".format(*colour),
        "plain": plain,
        "known": lambda number: not np.isnan(number),
    }
    return environment.get_template(template).render(style=asset("style.css"), **content)


def plain(value: Any) -> str:
    """The value of a setting; the values of a list are those of several folds.

    >>> plain(0.0014705882352941176), plain(["balanced", None])
    ('0.001471', 'balanced / none')
    """
    if isinstance(value, list):
        return " / ".join(map(plain, value))
    if value is None:
        return "none"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def asset(name: str, folder: Path = _FOLDER) -> Markup:
    """Read a text file of this package, or of another folder, without escaping."""
    return Markup((folder / name).read_text(encoding="utf-8"))


def coded(words: str) -> Markup:
    """Escape a text and set the parts in backticks as code.

    >>> coded("run `outcrop split`, if n < 2")
    Markup('run <code>outcrop split</code>, if n &lt; 2')
    """
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(words))))


INK, FAINT, EDGE = "#1d2a35", "#e2e7ec", "#9aa6b1"
SPATIAL, RANDOM, TRAINING = "#1b5e8c", "#c06a1b", "#8a97a3"
# Colours of charts that follow the style sheet of the page, which has other ones for dark screens.
_VARIABLES = {
    INK: "--ink", FAINT: "--rule", EDGE: "--edge",
    SPATIAL: "--spatial", RANDOM: "--random", TRAINING: "--pale",
}  # fmt: skip
_PIXELS_PER_INCH = 96
STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "outcrop",
    "text.parse_math": False,
    "font.size": 10,
    "axes.edgecolor": EDGE,
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
    """Create a Matplotlib figure in the style of the page; its layout is computed at the end.

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


def _variable(colour: str) -> str:
    return f"var({_VARIABLES[colour]})" if colour in _VARIABLES else colour


def svg(figure: Any, words: str) -> Markup:
    """The figure as an SVG element whose identifiers are unique on the page.

    Args:
        words: description for screen readers.
    """
    from matplotlib import rc_context

    buffer = io.StringIO()
    with rc_context(STYLE), legible(figure):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    text = buffer.getvalue()
    svg = text[text.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'(\sid="|url\(#|href="#)', rf"\g<1>c{zlib.crc32(svg.encode()):x}-", svg)
    svg = re.sub("#[0-9a-f]{6}", lambda hit: _variable(hit[0]), svg)
    pixels = round(figure.get_figwidth() * _PIXELS_PER_INCH)
    opening = Markup('<svg role="img" aria-label="{}" style="max-width: {}px"').format(
        words, pixels
    )
    return Markup(svg.replace("<svg", opening, 1))
