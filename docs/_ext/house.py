"""Draws the packages of outcrop as layers, from the contract of import-linter in pyproject.toml."""

from __future__ import annotations

import ast
import tomllib
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from command_pages import write_if_changed
from sphinx.application import Sphinx

WIDTH, ROW, GAP = 760, 44, 6


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx."""
    app.connect("builder-inited", lambda app: draw(Path(app.srcdir)))
    return {"parallel_read_safe": True}


def draw(docs: Path) -> None:
    """Write `docs/_static/house.svg`."""
    root = docs.parent
    settings = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    (contract,) = settings["tool"]["importlinter"]["contracts"]
    rows = [[name.strip() for name in row.split("|")] for row in contract["layers"]]
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {len(rows) * (ROW + GAP)}" '
        'font-family="sans-serif" role="img" aria-label="Packages of outcrop, top to bottom">'
    ]
    for k, row in enumerate(rows):
        width = (WIDTH - GAP * (len(row) - 1)) / len(row)
        for i, name in enumerate(row):
            parts.append(_box(i * (width + GAP), k * (ROW + GAP), width, name, root, len(row) == 1))
    write_if_changed(docs / "_static" / "house.svg", "\n".join([*parts, "</svg>"]))


def _box(x: float, y: float, width: float, name: str, root: Path, described: bool) -> str:
    text = escape(_summary(root / "src" / "outcrop" / name)) if described else ""
    return (
        f'<rect x="{x:.0f}" y="{y}" width="{width:.0f}" height="{ROW}" rx="5" fill="#e7eef5" '
        f'stroke="#5b7c99"/><text x="{x + 12:.0f}" y="{y + 27}" font-size="15" font-weight="600" '
        f'fill="#16324a">{name}</text><text x="{x + 140:.0f}" y="{y + 27}" font-size="13" '
        f'fill="#16324a">{text}</text>'
    )


def _summary(module: Path) -> str:
    file = module / "__init__.py" if module.is_dir() else module.with_suffix(".py")
    text = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
    return text.splitlines()[0].rstrip(".") if text else ""
