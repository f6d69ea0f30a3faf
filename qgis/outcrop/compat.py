"""Names of QGIS's API that moved between QGIS 3.22 (Qt 5) and 4 (Qt 6)."""

from __future__ import annotations

import qgis.core


def _first(*names: str) -> object:
    """The value of the first name that this QGIS has; the newest name stands first."""
    for name in names:
        found = qgis.core
        try:
            for part in name.split("."):
                found = getattr(found, part)
        except AttributeError:
            continue
        return found
    raise AttributeError(names[0])


RASTER = _first("Qgis.ProcessingSourceType.Raster", "QgsProcessing.TypeRaster")
VECTOR = _first("Qgis.ProcessingSourceType.Vector", "QgsProcessing.TypeVector")
ANY_GEOMETRY = _first(
    "Qgis.ProcessingSourceType.VectorAnyGeometry", "QgsProcessing.TypeVectorAnyGeometry"
)
POINT = _first("Qgis.ProcessingSourceType.VectorPoint", "QgsProcessing.TypeVectorPoint")
POLYGON = _first("Qgis.ProcessingSourceType.VectorPolygon", "QgsProcessing.TypeVectorPolygon")
INTEGER = _first(
    "Qgis.ProcessingNumberParameterType.Integer", "QgsProcessingParameterNumber.Integer"
)
DOUBLE = _first("Qgis.ProcessingNumberParameterType.Double", "QgsProcessingParameterNumber.Double")
FILE = _first("Qgis.ProcessingFileParameterBehavior.File", "QgsProcessingParameterFile.File")
FOLDER = _first("Qgis.ProcessingFileParameterBehavior.Folder", "QgsProcessingParameterFile.Folder")
ADVANCED = _first(
    "Qgis.ProcessingParameterFlag.Advanced", "QgsProcessingParameterDefinition.FlagAdvanced"
)
SKIP_VALIDITY = _first(
    "Qgis.ProcessingFeatureSourceFlag.SkipGeometryValidityChecks",
    "QgsProcessingFeatureSource.FlagSkipGeometryValidityChecks",
)
FAST_INSERT = _first("QgsFeatureSink.Flag.FastInsert", "QgsFeatureSink.FastInsert")
NO_ERROR = _first("QgsVectorFileWriter.WriterError.NoError", "QgsVectorFileWriter.NoError")
# The default of QGIS, "All files (*.*)", refuses names without a dot.
ANY_FILE = "All files (*)"
