"""Hand layers of QGIS over to outcrop: as their files where it can read them, else as copies."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from qgis.core import (
    QgsCoordinateReferenceSystem,
    QgsCoordinateTransformContext,
    QgsFeatureRequest,
    QgsProcessingFeatureSource,
    QgsProcessingFeatureSourceDefinition,
    QgsProviderRegistry,
    QgsRasterFileWriter,
    QgsRasterLayer,
    QgsRasterPipe,
    QgsVectorFileWriter,
    QgsVectorLayer,
)
from qgis.PyQt.QtXml import QDomDocument

from . import compat
from .handover import (
    VectorState,
    check_crs,
    raster_name,
    reason_to_export,
    refuse_raster,
)
from .process import OutcropFailed


@dataclass
class Raster:
    """A raster layer that is handed over.

    Attributes:
        name: of the layer.
        source: what GDAL opens; empty until the layer is copied.
        crs: set in QGIS where the file has none, else empty.
        note: a line for the log, or None.
    """

    name: str
    source: str
    crs: str
    note: str | None = None
    copied: QgsRasterLayer | None = None
    xml: str = ""

    def write(self, folder: Path, stem: str) -> str:
        """Copy the layer if there is no file for it; return what GDAL opens."""
        if self.xml:
            path = _new(folder, stem, self.name, ".vrt")
            path.write_text(self.xml, "utf-8")
            self.source = str(path)
        elif self.copied is not None:
            path = _new(folder, stem, self.name, ".tif")
            _copy_raster(self.copied, path)
            self.source = str(path)
        return self.source


@dataclass
class Vector:
    """A vector layer that is handed over.

    Attributes:
        name: of the layer.
        source: its file; empty until the layer is copied.
        layer: layer of the file, if it has several.
        crs: set in QGIS where the file has none, else empty.
        reason: why it is copied, or None.
        fields: its columns.
        coloured_by: column whose values have colours in the project, or empty.
        style: these colours as a QGIS style, for a copy.
        own_style: the file has the same colours.
    """

    name: str
    source: str
    layer: str
    crs: str
    reason: str | None
    fields: list[str]
    features: QgsProcessingFeatureSource
    coloured_by: str = ""
    style: str = ""
    own_style: bool = True

    def use_column(self, column: str) -> None:
        """Prepare to hand over the colours of the values of a column."""
        if self.coloured_by != column:
            self.style = ""
        elif self.reason is None and not self.own_style:
            self.reason = "the colours of its classes are set in the project"

    def write(self, folder: Path, stem: str) -> str:
        """Copy the features if there is no file for them; return the file."""
        if self.reason is not None:
            path = _new(folder, stem, self.name, ".gpkg")
            _copy_features(self.features, path)
            if self.style:
                path.with_suffix(".qml").write_text(self.style, "utf-8")
            self.source = str(path)
        return self.source


def _new(folder: Path, stem: str, name: str, suffix: str) -> Path:
    """The file of a copy, named after its layer, which the report shows.

    The name is the same in each run, so that a run can be continued.
    """
    folder.mkdir(parents=True, exist_ok=True)
    clean = "".join(one if one.isalnum() or one in "-_" else "_" for one in name)[:60]
    path = folder / f"{stem}-{clean}{suffix}"
    for old in (path, path.with_suffix(".qml")):
        if old.exists():
            old.unlink()
    return path


def crs_text(crs: QgsCoordinateReferenceSystem) -> str:
    """A coordinate reference system as outcrop reads it: EPSG:32633, or WKT."""
    if not crs.isValid():
        return ""
    known = crs.authid()
    return known if known and not known.startswith("USER:") else crs.toWkt()


def raster_of(layer: QgsRasterLayer, chosen_crs: str = "") -> Raster:
    """Hand over a raster layer.

    Args:
        chosen_crs: coordinate reference system that the user chose for files without one.

    Raises:
        OutcropFailed: outcrop cannot read its pixels.
    """
    name = layer.name()
    provider = layer.providerType()
    refuse_raster(provider, name)
    if not layer.isValid():
        raise OutcropFailed(f"layer '{name}': cannot be opened; check its source")
    own, shown = layer.dataProvider().crs(), layer.crs()
    check_crs(own.isValid() or shown.isValid() or bool(chosen_crs), name)
    crs = "" if own.isValid() else chosen_crs or crs_text(shown)
    note = None
    if own.isValid() and shown.isValid() and own != shown:
        note = f"layer '{name}': outcrop uses the CRS in the file, {crs_text(own)[:60]}"
    source = layer.source()
    if provider == "virtualraster":
        return Raster(name, "", crs, f"layer '{name}': is computed, and copied", layer.clone())
    if source.lstrip().startswith("<VRTDataset"):
        return Raster(name, "", crs, note, None, source)
    parts = QgsProviderRegistry.instance().decodeUri("gdal", source)
    options = [str(one) for one in parts.get("openOptions") or []]
    opened = raster_name(source, options, name)
    if opened.startswith("/vsimem/"):
        return Raster(name, "", crs, f"layer '{name}': is in memory, and copied", layer.clone())
    return Raster(name, opened, crs, note)


def _is_file(path: str) -> bool:
    return bool(path) and Path(path).exists()


def _copy_raster(layer: QgsRasterLayer, path: Path) -> None:
    """Write all pixels of a layer into a GeoTIFF file."""
    provider = layer.dataProvider()
    pipe = QgsRasterPipe()
    if not pipe.set(provider.clone()):
        raise OutcropFailed(
            f"layer '{layer.name()}': its pixels cannot be read; save it as GeoTIFF"
        )
    writer = QgsRasterFileWriter(str(path))
    writer.writeRaster(
        pipe, provider.xSize(), provider.ySize(), provider.extent(), provider.crs(),
        QgsCoordinateTransformContext(),
    )  # fmt: skip
    if not path.is_file():
        raise OutcropFailed(f"layer '{layer.name()}': cannot be copied; save it as GeoTIFF")


def vector_of(
    layer: QgsVectorLayer | None,
    features: QgsProcessingFeatureSource,
    definition: object,
    chosen_crs: str = "",
) -> Vector:
    """Hand over a vector layer with its filter and selection.

    Args:
        layer: the layer, if QGIS knows one.
        features: the features to use, as Processing gives them.
        definition: the value of the parameter, which says whether only a part is wanted.
        chosen_crs: coordinate reference system that the user chose for files without one.

    Raises:
        OutcropFailed: there are no features, or it is not known where they lie.
    """
    name = layer.name() if layer is not None else features.sourceName()
    fields = features.fields().names()
    if features.featureCount() == 0:
        raise OutcropFailed(f"layer '{name}': has no features to use; check filter and selection")
    check_crs(features.sourceCrs().isValid() or bool(chosen_crs), name)
    path, part, own = "", "", QgsCoordinateReferenceSystem()
    if layer is not None and layer.providerType() == "ogr":
        parts = QgsProviderRegistry.instance().decodeUri("ogr", layer.source())
        path, part = str(parts.get("path") or ""), str(parts.get("layerName") or "")
        if parts.get("layerId") not in (None, "", 0) and not part:
            path = ""
        if not part and layer.dataProvider().subLayerCount() > 1:
            path = ""  # a copy has one layer
        own = layer.dataProvider().crs()
    shown = features.sourceCrs()
    state = VectorState(
        provider=layer.providerType() if layer is not None else "",
        path=path if _is_file(path) else "",
        filtered=bool(layer and layer.subsetString()) or _is_part(definition),
        edited=bool(layer and layer.isModified()),
        joined=bool(layer) and _has_more_fields(layer),
        other_crs=own.isValid() and shown.isValid() and own != shown,
    )
    reason = reason_to_export(state)
    if reason is None:
        crs = "" if own.isValid() else chosen_crs or crs_text(shown)
        found = Vector(name, path, part, crs, None, fields, features)
    else:
        crs = "" if shown.isValid() else chosen_crs
        found = Vector(name, "", "", crs, reason, fields, features)
    if layer is not None and (colours := _colours(layer)):
        found.coloured_by, found.style = colours[0][0], _style(layer)
        found.own_style = reason is not None or colours == _colours(
            QgsVectorLayer(layer.source(), "", layer.providerType())
        )
    return found


def _colours(layer: QgsVectorLayer) -> list[tuple[str, str, str]]:
    """Column, value and colour of each category of a layer."""
    renderer = layer.renderer()
    if renderer is None or renderer.type() != "categorizedSymbol":
        return []
    column = renderer.classAttribute().strip('"')
    return [
        (column, str(one.value()), one.symbol().color().name()) for one in renderer.categories()
    ]


def _style(layer: QgsVectorLayer) -> str:
    """The style of a layer, as QGIS writes it beside a file."""
    document = QDomDocument()
    layer.exportNamedStyle(document)
    return str(document.toString())


def _is_part(definition: object) -> bool:
    """Whether a parameter asks for the selection, or for a part of the features."""
    if not isinstance(definition, QgsProcessingFeatureSourceDefinition):
        return False
    expression = getattr(definition, "filterExpression", "")  # since QGIS 3.32
    limit = definition.featureLimit
    return bool(definition.selectedFeaturesOnly or expression or limit > 0)


def _has_more_fields(layer: QgsVectorLayer) -> bool:
    """Whether a layer has fields that its file does not have."""
    return layer.fields().names() != layer.dataProvider().fields().names()


def _copy_features(source: QgsProcessingFeatureSource, path: Path) -> None:
    """Write features into a GeoPackage, as they are: outcrop checks their geometry itself."""
    options = QgsVectorFileWriter.SaveVectorOptions()
    options.driverName = "GPKG"
    options.layerName = path.stem
    # A column "fid" of the layer stays a column like the others.
    options.layerOptions = ["FID=outcrop_fid"]
    writer = QgsVectorFileWriter.create(
        str(path), source.fields(), source.wkbType(), source.sourceCrs(),
        QgsCoordinateTransformContext(), options,
    )  # fmt: skip
    if writer.hasError() != compat.NO_ERROR:
        raise OutcropFailed(f"{path}: cannot be written ({writer.errorMessage()}); free some space")
    for feature in source.getFeatures(QgsFeatureRequest(), compat.SKIP_VALIDITY):
        if not writer.addFeature(feature, compat.FAST_INSERT):
            raise OutcropFailed(
                f"{path}: cannot be written ({writer.errorMessage()}); free some space"
            )
    del writer  # closes the file
