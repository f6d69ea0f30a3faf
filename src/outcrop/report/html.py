"""A template of this package, filled: one HTML page with its style in it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

_HERE = Path(__file__).parent


def fill(template: str, filters: Mapping[str, Any], **content: Any) -> str:
    """The page as HTML; text is escaped, `Markup` is not.

    Args:
        template: a file of this package.
        filters: further ones for the template.
        content: its variables; `style` is the style sheet.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("outcrop.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "thousands": "{:,}".format,
        "file": lambda name: Path(str(name)).name,
        "rgb": lambda colour: "rgb({}, {}, {})".format(*colour),
        "plain": lambda value: f"{value:.4g}" if isinstance(value, float) else value,
        "known": lambda number: not np.isnan(number),
        **filters,
    }
    return environment.get_template(template).render(style=asset("style.css"), **content)


def asset(name: str) -> Markup:
    """A file of this package, as it stands."""
    return Markup((_HERE / name).read_text(encoding="utf-8"))
