"""Open files in QGIS, draw them, and print what QGIS shows of them as JSON.

For the Python of QGIS: `qgis_child.py FOLDER FILE...` draws into FOLDER/0.png and so on. It imports
nothing of the project.
"""

import json
import sys

from osgeo import gdal
from qgis.core import (
    QgsApplication,
    QgsMapRendererParallelJob,
    QgsMapSettings,
    QgsRasterLayer,
    QgsVectorLayer,
)
from qgis.PyQt.QtCore import QSize, Qt
from qgis.PyQt.QtGui import QColor


def open_layer(path):
    """A layer with the style that QGIS gives it by itself."""
    vector = path.endswith(".gpkg")
    layer = QgsVectorLayer(path, "map", "ogr") if vector else QgsRasterLayer(path, "map")
    assert layer.isValid(), path
    return layer


def legend_of(layer):
    """The entries of the legend: [label, #aarrggbb]."""
    renderer = layer.renderer()
    if isinstance(layer, QgsVectorLayer):
        items = [(item.label(), item.symbol().color()) for item in renderer.legendSymbolItems()]
    else:
        items = renderer.legendSymbologyItems()
    return [[label, colour.name(QColor.HexArgb)] for label, colour in items]


def bar_of(layer):
    """What stands behind the numbers of a colour bar; None if the legend has none."""
    if layer.renderer().type() != "singlebandpseudocolor":
        return None
    settings = layer.renderer().shader().rasterShaderFunction().legendSettings()
    return settings.suffix() if settings.useContinuousLegend() else None


def draw(layer, size, path):
    """Draw the layer on a transparent ground."""
    settings = QgsMapSettings()
    settings.setLayers([layer])
    settings.setDestinationCrs(layer.crs())
    settings.setExtent(layer.extent())
    settings.setOutputSize(QSize(*size))
    settings.setBackgroundColor(QColor(Qt.transparent))
    settings.setFlag(QgsMapSettings.Antialiasing, False)
    job = QgsMapRendererParallelJob(settings)
    job.start()
    job.waitForFinished()
    assert job.renderedImage().save(path)


def table_of(path):
    """By column: [usage, values]."""
    dataset = gdal.Open(path)
    table = dataset.GetRasterBand(1).GetDefaultRAT()
    if table is None:
        return None
    rows = range(table.GetRowCount())
    return {
        table.GetNameOfCol(k): [
            table.GetUsageOfCol(k),
            [table.GetValueAsString(r, k) for r in rows],
        ]
        for k in range(table.GetColumnCount())
    }


def shown(path, png):
    """What QGIS shows of one file."""
    layer = open_layer(path)
    raster = isinstance(layer, QgsRasterLayer)
    draw(layer, (layer.width(), layer.height()) if raster else (400, 300), png)
    return {
        "renderer": layer.renderer().type(),
        "legend": legend_of(layer),
        "bar": bar_of(layer),
        "table": table_of(path) if raster else None,
    }


def main(folder, *paths):
    """Print what QGIS shows of each file."""
    QgsApplication.setPrefixPath("/usr", True)
    application = QgsApplication([], False)
    application.initQgis()
    print(json.dumps([shown(path, f"{folder}/{k}.png") for k, path in enumerate(paths)]))


main(*sys.argv[1:])
