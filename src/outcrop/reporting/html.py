"""Templates into pages that need nothing but themselves."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup, escape

from outcrop.extras import need
from outcrop.metrics.significance import written
from outcrop.reporting import findings
from outcrop.sources.features import dropped_text

_FOLDER = Path(__file__).parent


def render_page(template: str, *folders: Path, **content: Any) -> str:
    """A template as HTML, with the style sheet inside.

    Args:
        template: a file of this folder or of another one.
        folders: other folders whose templates are used.
        content: what the template names.
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
        "percent": findings.percent,
        "ends": findings.ends,
        "listed": findings.listed,
        "written": written,
        "coded": coded,
        "counted": dropped_text,
        "thousands": "{:,}".format,
        "file": lambda name: Path(str(name)).name,
        "rgb": lambda colour: "rgb({}, {}, {})".format(*colour),
        "plain": lambda value: f"{value:.4g}" if isinstance(value, float) else value,
        "known": lambda number: not np.isnan(number),
    }
    return environment.get_template(template).render(style=asset("style.css"), **content)


def asset(name: str, folder: Path = _FOLDER) -> Markup:
    """A file of this folder or of another one, as it stands."""
    return Markup((folder / name).read_text(encoding="utf-8"))


def coded(words: str) -> Markup:
    """Words in which what stands in backticks is set as code.

    >>> coded("run `outcrop split`, if n < 2")
    Markup('run <code>outcrop split</code>, if n &lt; 2')
    """
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(words))))
