"""Styles and attribute tables of maps: the XML that QGIS and GDAL read beside a raster.

QGIS (since 3.18) loads `NAME.qml` with `NAME.tif`; GDAL reads `NAME.tif.aux.xml`. A style sets the
colours of a map. The attribute table has names and colours for programs that read no style.

Sources: `QgsPalettedRasterRenderer`, `QgsColorRampShader` and `QgsCategorizedSymbolRenderer` of
QGIS; "GDAL PAM" and `GDALRasterAttributeTable` of GDAL.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from xml.etree import ElementTree as Xml

from outcrop.frames import Colour
from outcrop.mapping.layers import NODATA, Ramp

# Columns of the attribute table: name, type and usage, with the numbers of GDAL.
_INTEGER, _REAL, _STRING = "0", "1", "2"
_COLUMNS = (
    ("Value", _INTEGER, "5"),
    ("Count", _REAL, "1"),  # Numbers of pixels may exceed GDAL's integers, which end at 2^31.
    ("Class_Name", _STRING, "2"),
    ("Red", _INTEGER, "6"),
    ("Green", _INTEGER, "7"),
    ("Blue", _INTEGER, "8"),
    ("Alpha", _INTEGER, "9"),
)
_NOT_IN_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def class_style(classes: Sequence[str], colours: Sequence[Colour]) -> str:
    """The QGIS style of a class map: one entry for each class; other values are not drawn.

    Args:
        classes: class names; the first has the value 1.
        colours: red, green and blue of each class, from 0 to 255.
    """
    renderer = _raster_renderer("paletted")
    palette = Xml.SubElement(renderer, "colorPalette")
    for value, (name, colour) in enumerate(zip(classes, colours, strict=True), start=1):
        entry = {"value": str(value), "color": "#{:02x}{:02x}{:02x}".format(*colour)}
        Xml.SubElement(palette, "paletteEntry", entry, alpha="255", label=name)
    return _raster_style(renderer)


def ramp_style(ramp: Ramp, unit: str) -> str:
    """The QGIS style of a layer of numbers: colours interpolated between the stops of a ramp.

    The legend is a colour bar with ends in `unit`, or one entry per stop if `ramp.bar` is false.
    """
    first, last = str(ramp.stops[0].value), str(ramp.stops[-1].value)
    renderer = _raster_renderer("singlebandpseudocolor")
    renderer.attrib |= {"classificationMin": first, "classificationMax": last}
    shader = Xml.SubElement(
        Xml.SubElement(renderer, "rastershader"), "colorrampshader",
        colorRampType="INTERPOLATED", classificationMode="1", clip="0",
        minimumValue=first, maximumValue=last, labelPrecision="0",
    )  # fmt: skip
    for stop in ramp.stops:
        item = {"value": str(stop.value), "color": stop.colour, "alpha": "255", "label": stop.label}
        Xml.SubElement(shader, "item", item)
    legend = {"useContinuousLegend": str(int(ramp.bar)), "suffix": f" {unit}"}
    Xml.SubElement(shader, "rampLegendSettings", legend)
    return _raster_style(renderer)


def polygon_style(column: str, classes: Sequence[str], colours: Sequence[Colour]) -> str:
    """The QGIS style of polygons, filled with the colour of the class in `column`."""
    renderer = Xml.Element("renderer-v2", type="categorizedSymbol", attr=column)
    categories = Xml.SubElement(renderer, "categories")
    symbols = Xml.SubElement(renderer, "symbols")
    for number, (name, colour) in enumerate(zip(classes, colours, strict=True)):
        category = {"value": name, "label": name, "symbol": str(number), "render": "true"}
        Xml.SubElement(categories, "category", category)
        symbol = Xml.SubElement(symbols, "symbol", name=str(number), type="fill", alpha="1")
        fill = Xml.SubElement(symbol, "layer", {"class": "SimpleFill", "enabled": "1"})
        options = Xml.SubElement(fill, "Option", type="Map")
        rgba = ",".join(map(str, (*colour, 255)))
        # The outline closes the gaps that smoothed edges would leave between neighbours.
        drawn = {"color": rgba, "outline_color": rgba, "outline_width": "0.1"}
        for option, value in drawn.items():
            Xml.SubElement(options, "Option", name=option, type="QString", value=value)
    return _style(renderer)


def attribute_table(
    classes: Sequence[str], colours: Sequence[Colour], pixels: Iterable[int]
) -> str:
    """The `.aux.xml` of a class map, for GDAL: colours, names, and a table of the classes.

    The palette of a TIFF always has 256 entries, all of which QGIS would show without a style. The
    colour table in this file, which GDAL uses instead, ends with the last class.

    Args:
        classes, colours: see `class_style`.
        pixels: number of pixels of each class in the map.
    """
    dataset = Xml.Element("PAMDataset")
    band = Xml.SubElement(dataset, "PAMRasterBand", band="1")
    Xml.SubElement(band, "ColorInterp").text = "Palette"
    entries = Xml.SubElement(band, "ColorTable")
    for rgba in ((0, 0, 0, 0), *((*colour, 255) for colour in colours)):
        Xml.SubElement(entries, "Entry", {f"c{k}": str(c) for k, c in enumerate(rgba, start=1)})
    names = Xml.SubElement(band, "CategoryNames")
    for name in ("nodata", *classes):
        Xml.SubElement(names, "Category").text = name
    table = Xml.SubElement(band, "GDALRasterAttributeTable", tableType="thematic")
    for index, (column, kind, usage) in enumerate(_COLUMNS):
        field = Xml.SubElement(table, "FieldDefn", index=str(index))
        for tag, text in (("Name", column), ("Type", kind), ("Usage", usage)):
            Xml.SubElement(field, tag).text = text
    rows = zip(classes, colours, pixels, strict=True)
    for index, (name, colour, count) in enumerate(rows):
        row = Xml.SubElement(table, "Row", index=str(index))
        for cell in (NODATA + 1 + index, count, name, *colour, 255):
            Xml.SubElement(row, "F").text = str(cell)
    return _text(dataset)


def _raster_renderer(kind: str) -> Xml.Element:
    """A renderer; pixels without data are transparent, because the file declares their value."""
    return Xml.Element("rasterrenderer", type=kind, band="1", opacity="1", alphaBand="-1")


def _raster_style(renderer: Xml.Element) -> str:
    pipe = Xml.Element("pipe")
    pipe.append(renderer)
    return _style(pipe)


def _style(content: Xml.Element) -> str:
    style = Xml.Element("qgis", version="3.22.0", styleCategories="Symbology")
    style.append(content)
    return _text(style)


def _text(root: Xml.Element) -> str:
    """XML without the control characters that it cannot contain; GDAL also leaves them out."""
    Xml.indent(root)
    return _NOT_IN_XML.sub("", Xml.tostring(root, encoding="unicode")) + "\n"
