"""Colours that label files give to their classes: QGIS styles, colour tables, attribute tables.

Sources: `QgsPalettedRasterRenderer` and `QgsCategorizedSymbolRenderer` of QGIS, whose style lies
beside a file as `NAME.qml` or in the table `layer_styles` of a GeoPackage;
`GDALRasterAttributeTable` of GDAL.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from outcrop.frames import Colour

_USAGES = ("6", "7", "8")  # Red, green and blue in attribute tables (GDAL's GFU_...).
_FILLS = ("color", "line_color")


def raster_colours(path: str, dataset: Any, table: ElementTree.Element | None) -> dict[int, Colour]:
    """The colour of each value of a raster, from its style, attribute table or colour table."""
    style = _style_beside(path)
    found = _paletted(style) if style is not None else {}
    return found or _from_table(table) or _colour_table(dataset)


def vector_colours(path: str, layer: str | None, column: str) -> dict[str, Colour]:
    """The colour of each value of a column, from the categorized style of a vector file."""
    style = _style_beside(path)
    found = {} if style is None else _categorized(style, column)
    if not found and Path(path).suffix.lower() == ".gpkg":
        for stored in _stored_styles(path, layer):
            found = found or _categorized(stored, column)
    return found


def _style_beside(path: str) -> ElementTree.Element | None:
    # What GDAL opens by this name may be no path at all.
    try:
        return ElementTree.fromstring(Path(path).with_suffix(".qml").read_bytes())
    except (ElementTree.ParseError, OSError, ValueError):
        return None


def _stored_styles(path: str, layer: str | None) -> list[ElementTree.Element]:
    """Styles in a GeoPackage: the default style of the layer first."""
    import pyogrio

    if "layer_styles" not in pyogrio.list_layers(path)[:, 0]:
        return []
    frame = pyogrio.read_dataframe(path, layer="layer_styles", read_geometry=False)
    if not {"f_table_name", "styleQML", "useAsDefault"} <= set(frame.columns):
        return []
    if layer is not None:
        frame = frame[frame["f_table_name"] == layer]
    styles = []
    for text in frame.sort_values("useAsDefault", ascending=False, kind="stable")["styleQML"]:
        try:
            styles.append(ElementTree.fromstring(text))
        except (ElementTree.ParseError, TypeError):
            continue
    return styles


def _paletted(style: ElementTree.Element) -> dict[int, Colour]:
    found = {}
    for entry in style.iterfind(".//rasterrenderer[@type='paletted']/colorPalette/paletteEntry"):
        colour, value = _hexadecimal(entry.get("color", "")), _whole(entry.get("value", ""))
        if colour is not None and value is not None:
            found[value] = colour
    return found


def _categorized(style: ElementTree.Element, column: str) -> dict[str, Colour]:
    renderer = style.find(".//renderer-v2[@type='categorizedSymbol']")
    if renderer is None or renderer.get("attr", "").strip('"') != column:
        return {}
    symbols: Mapping[str, ElementTree.Element] = {
        symbol.get("name", ""): symbol for symbol in renderer.iterfind("symbols/symbol")
    }
    found = {}
    for category in renderer.iterfind("categories/category"):
        symbol = symbols.get(category.get("symbol", ""))
        colour = None if symbol is None else _fill(symbol)
        if colour is not None and category.get("value"):
            found[category.get("value", "")] = colour
    return found


def _fill(symbol: ElementTree.Element) -> Colour | None:
    """The colour of a fill, marker or line symbol, as QGIS of any version writes it."""
    options: dict[str, str] = {}
    for item in symbol.iter("prop"):
        options.setdefault(item.get("k", ""), item.get("v", ""))
    for item in symbol.iter("Option"):
        options.setdefault(item.get("name", ""), item.get("value", ""))
    for name in _FILLS:
        if hit := re.match(r"(\d{1,3}),(\d{1,3}),(\d{1,3})(,|$)", options.get(name, "")):
            return _colour(*map(int, hit.groups()[:3]))
    return None


def _from_table(table: ElementTree.Element | None) -> dict[int, Colour]:
    if table is None:
        return {}
    usages = [one.findtext("Usage") or "" for one in table.findall("FieldDefn")]
    if not set(_USAGES) <= set(usages):
        return {}
    at = [usages.index(usage) for usage in _USAGES]
    valued = next((usages.index(usage) for usage in ("5", "3") if usage in usages), None)
    found = {}
    for number, row in enumerate(table.findall("Row")):
        cells = [cell.text or "" for cell in row.findall("F")]
        try:
            value = number if valued is None else int(float(cells[valued]))
            colour = _colour(*(int(float(cells[i])) for i in at))
        except (ValueError, IndexError):
            continue
        if colour is not None:
            found[value] = colour
    return found


def _colour_table(dataset: Any) -> dict[int, Colour]:
    try:
        table = dataset.colormap(1)
    except ValueError:
        return {}
    return {value: (red, green, blue) for value, (red, green, blue, _) in table.items()}


def _hexadecimal(text: str) -> Colour | None:
    hit = re.fullmatch(r"#([0-9a-fA-F]{2})([0-9a-fA-F]{2})([0-9a-fA-F]{2})", text.strip())
    return None if hit is None else _colour(*(int(part, 16) for part in hit.groups()))


def _whole(text: str) -> int | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return int(number) if number.is_integer() else None


def _colour(red: int, green: int, blue: int) -> Colour | None:
    return (red, green, blue) if max(red, green, blue) <= 255 else None
