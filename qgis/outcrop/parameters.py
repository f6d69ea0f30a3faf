"""The parameters of an algorithm as QGIS's own widgets, and their values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Callable

from qgis.core import (
    QgsProcessingAlgorithm,
    QgsProcessingFeatureSourceDefinition,
    QgsProcessingParameterBand,
    QgsProcessingParameterBoolean,
    QgsProcessingParameterCrs,
    QgsProcessingParameterDefinition,
    QgsProcessingParameterEnum,
    QgsProcessingParameterExtent,
    QgsProcessingParameterFeatureSource,
    QgsProcessingParameterField,
    QgsProcessingParameterFile,
    QgsProcessingParameterFileDestination,
    QgsProcessingParameterFolderDestination,
    QgsProcessingParameterMultipleLayers,
    QgsProcessingParameterNumber,
    QgsProcessingParameterRasterDestination,
    QgsProcessingParameterRasterLayer,
    QgsProcessingParameterString,
    QgsProcessingParameterVectorDestination,
    QgsProcessingUtils,
    QgsRasterLayer,
    QgsVectorLayer,
)

from . import compat
from .layers import Raster, Vector, crs_text, raster_of, vector_of
from .process import OutcropFailed
from .specification import Asked, Specification, asked, sentence

_NEW = ("new-raster", "new-vector", "new-file", "new-folder")


def parameters_of(specification: Specification) -> list[QgsProcessingParameterDefinition]:
    """The parameters of an algorithm, in the order of the dialog."""
    found = []
    for one in asked(specification):
        for parameter, advanced in _made(one):
            if advanced:
                parameter.setFlags(parameter.flags() | compat.ADVANCED)
            parameter.setHelp(sentence(one.option["help"]))
            found.append(parameter)
    destinations = [one for one in found if one.isDestination()]
    return [one for one in found if not one.isDestination()] + destinations


def _made(one: Asked) -> Iterator[tuple[QgsProcessingParameterDefinition, bool]]:
    """The parameters of one option, and whether each is folded away."""
    if one.kind == "scenes":
        yield QgsProcessingParameterRasterLayer(one.name, one.label), one.advanced
        yield (
            QgsProcessingParameterMultipleLayers(
                f"FURTHER_{one.name}S",
                "Further scenes, or further band files of the scene",
                layerType=compat.RASTER,
                optional=True,
            ),
            True,
        )
    elif one.kind == "source":
        yield (
            QgsProcessingParameterFeatureSource(
                one.name, one.label, types=[compat.POINT, compat.POLYGON], optional=True
            ),
            one.advanced,
        )
        yield (
            QgsProcessingParameterRasterLayer(
                f"{one.name}_RASTER", f"{one.label}: a raster instead", optional=True
            ),
            True,
        )
    else:
        yield _one(one), one.advanced


def _one(one: Asked) -> QgsProcessingParameterDefinition:
    """The parameter of an option that is one widget."""
    named: dict[str, Any] = {"name": one.name, "description": one.label, "optional": one.optional}
    default = one.option["default"]
    kind = one.kind
    if kind == "raster":
        return QgsProcessingParameterRasterLayer(**named)
    if kind == "rasters":
        return QgsProcessingParameterMultipleLayers(**named, layerType=compat.RASTER)
    if kind == "vectors":
        return QgsProcessingParameterFeatureSource(**named, types=[compat.POLYGON])
    if kind in ("field", "fields"):
        return QgsProcessingParameterField(
            **named, parentLayerParameterName=one.shown.parent, allowMultiple=kind == "fields"
        )
    if kind == "bands":
        return QgsProcessingParameterBand(
            **named, parentLayerParameterName=one.shown.parent, allowMultiple=True
        )
    if kind == "crs":
        return QgsProcessingParameterCrs(**named)
    if kind == "extent":
        return QgsProcessingParameterExtent(**named)
    if kind in ("file", "folder"):
        behavior = compat.FOLDER if kind == "folder" else compat.FILE
        return QgsProcessingParameterFile(
            **named, behavior=behavior, fileFilter=one.shown.files or compat.ANY_FILE
        )
    if kind in _NEW:
        return _destination(one, named)
    if kind in ("choice", "choices", "yes-no"):
        choices = one.option["choices"] or ["true", "false"]
        return QgsProcessingParameterEnum(
            **named,
            options=[each for each in choices if each not in one.shown.without],
            allowMultiple=kind == "choices",
            defaultValue=default,
            usesStaticStrings=True,
        )
    if kind == "flag":
        return QgsProcessingParameterBoolean(**named, defaultValue=bool(default))
    if kind in ("integer", "number"):
        return QgsProcessingParameterNumber(
            **named,
            type=compat.INTEGER if kind == "integer" else compat.DOUBLE,
            defaultValue=default,
        )
    if isinstance(default, list):
        default = ",".join(map(str, default))
    return QgsProcessingParameterString(**{**named, "optional": True}, defaultValue=default or None)


def _destination(one: Asked, named: dict[str, Any]) -> QgsProcessingParameterDefinition:
    new = {**named, "createByDefault": one.shown.by_default}
    if one.kind == "new-raster":
        return QgsProcessingParameterRasterDestination(**new)
    if one.kind == "new-vector":
        return QgsProcessingParameterVectorDestination(**new)
    if one.kind == "new-folder":
        return QgsProcessingParameterFolderDestination(**new)
    return QgsProcessingParameterFileDestination(**new, fileFilter=one.shown.files)


class Reader:
    """The values of the parameters of one run: read in the main thread, written in another."""

    def __init__(
        self,
        algorithm: QgsProcessingAlgorithm,
        specification: Specification,
        parameters: Mapping[str, Any],
        context: Any,
    ) -> None:
        self._algorithm = algorithm
        self._asked = asked(specification)
        self._parameters = parameters
        self._context = context
        self._values: dict[str, Any] = {}

    def read(self) -> dict[str, Any]:
        """The values of all parameters but the destinations; layers stay layers for now.

        Raises:
            OutcropFailed: a layer cannot be handed over.
        """
        # Their CRS is needed for layers that have none.
        for one in sorted(self._asked, key=lambda each: each.kind != "crs"):
            if one.kind not in _NEW:
                self._values[one.name] = self._value(one)
        return self._values

    def fields_by_layer(self) -> Iterator[tuple[str, Vector]]:
        """Each column that is asked for, with its layer."""
        for one in self._asked:
            layer = self._values.get(one.shown.parent)
            found = self._values.get(one.name)
            if one.kind in ("field", "fields") and found and isinstance(layer, Vector):
                for field in [found] if isinstance(found, str) else found:
                    yield field, layer

    def title(self) -> str:
        """What the results are about: the name of the first raster layer."""
        for value in self._values.values():
            for one in value if isinstance(value, list) else [value]:
                if isinstance(one, Raster):
                    return one.name
        return ""

    def write(
        self, folder: Path, say: Callable[[str], None]
    ) -> tuple[dict[str, Any], dict[str, str]]:
        """Copy the layers that are no files; return all values, and the new files by parameter."""
        destinations: dict[str, str] = {}
        for one in self._asked:
            if one.kind in _NEW:
                path = self._destination(one)
                if path:
                    destinations[one.name] = path
        values = dict(self._values)
        for name, value in self._values.items():
            if isinstance(value, Vector):
                values[name] = self._written(value, name, folder, say)
                values.setdefault("LAYER", value.layer or None)
            elif isinstance(value, Raster):
                values[name] = self._written(value, name, folder, say)
            elif isinstance(value, list) and value and isinstance(value[0], (Raster, Vector)):
                values[name] = [
                    self._written(each, f"{name}-{number}", folder, say)
                    for number, each in enumerate(value, 1)
                ]
        listed = [one.name for one in self._asked if one.option["list"] and one.kind == "source"]
        for name in listed:
            values[name] = None if values[name] is None else [values[name]]
        return {**values, **destinations}, destinations

    def _written(
        self, layer: Raster | Vector, name: str, folder: Path, say: Callable[[str], None]
    ) -> str:
        if isinstance(layer, Vector) and layer.reason is not None:
            say(f"layer '{layer.name}': a copy is handed over, since {layer.reason}")
        elif isinstance(layer, Raster) and layer.note is not None:
            say(layer.note)
        return layer.write(folder, name.lower())

    def _destination(self, one: Asked) -> str:
        arguments = (self._parameters, one.name, self._context)
        if one.kind in ("new-raster", "new-vector"):
            path = self._algorithm.parameterAsOutputLayer(*arguments)
        else:
            path = self._algorithm.parameterAsFileOutput(*arguments)
        return str(path or "")

    def _given(self, name: str) -> bool:
        value = self._parameters.get(name)
        return value is not None and value != "" and value != []

    def _value(self, one: Asked) -> Any:
        """The value of a parameter; None if it is left out."""
        if one.kind == "scenes":
            return self._scenes(one)
        if one.kind == "source":
            return self._source(one)
        if not self._given(one.name):
            return None
        algorithm, arguments = self._algorithm, (self._parameters, one.name, self._context)
        kind = one.kind
        if kind == "raster":
            return self._raster(one.name)
        if kind == "rasters":
            return [self._handed(layer) for layer in self._layers(one.name)]
        if kind == "vectors":
            found = self._vector(one.name)
            if found.layer and found.reason is None:
                found.reason = "its file may have several layers"
            return [found]
        if kind == "fields":
            read = getattr(algorithm, "parameterAsStrings", None) or algorithm.parameterAsFields
            return list(read(*arguments)) or None
        if kind == "bands":
            return list(algorithm.parameterAsInts(*arguments)) or None
        if kind == "crs":
            return crs_text(algorithm.parameterAsCrs(*arguments)) or None
        if kind == "extent":
            return self._extent(one)
        if kind == "choice":
            return algorithm.parameterAsEnumString(*arguments) or None
        if kind == "choices":
            return list(algorithm.parameterAsEnumStrings(*arguments)) or None
        if kind == "yes-no":
            return {"true": True, "false": False}.get(algorithm.parameterAsEnumString(*arguments))
        if kind == "flag":
            return algorithm.parameterAsBoolean(*arguments)
        if kind == "integer":
            return algorithm.parameterAsInt(*arguments)
        if kind == "number":
            return algorithm.parameterAsDouble(*arguments)
        text = algorithm.parameterAsString(*arguments).strip()
        default = one.option["default"]
        if isinstance(default, list) and text == ",".join(map(str, default)):
            return None
        return text or None

    def _scenes(self, one: Asked) -> list[Raster]:
        found = [self._raster(one.name)]
        found += [self._handed(layer) for layer in self._layers(f"FURTHER_{one.name}S")]
        self._set_crs("CRS", [each.crs for each in found])
        return found

    def _layers(self, name: str) -> list[Any]:
        if not self._given(name):
            return []
        layers = self._algorithm.parameterAsLayerList(self._parameters, name, self._context)
        given = self._parameters[name]
        if isinstance(given, (list, tuple)) and len(layers) < len(given):
            raise OutcropFailed(f"{name}: a layer cannot be opened; check the list")
        return layers

    def _raster(self, name: str) -> Raster:
        layer = self._algorithm.parameterAsRasterLayer(self._parameters, name, self._context)
        if layer is None:
            raise OutcropFailed(f"{self._parameters[name]}: is no raster layer; choose another")
        return self._handed(layer)

    def _handed(self, layer: QgsRasterLayer) -> Raster:
        return raster_of(layer, self._values.get("CRS") or "")

    def _source(self, one: Asked) -> Raster | Vector | None:
        raster = f"{one.name}_RASTER"
        if self._given(raster):
            if self._given(one.name):
                raise OutcropFailed(
                    f"'{one.label}': a vector layer and a raster are given; leave one out"
                )
            layer = self._raster(raster)
            self._set_crs("LABELS_CRS", [layer.crs])
            return layer
        if not self._given(one.name):
            if one.optional:
                return None
            raise OutcropFailed(f"'{one.label}' is missing; choose a layer")
        found = self._vector(one.name)
        self._set_crs("LABELS_CRS", [found.crs])
        return found

    def _vector(self, name: str) -> Vector:
        arguments = (self._parameters, name, self._context)
        source = self._algorithm.parameterAsSource(*arguments)
        if source is None:
            raise OutcropFailed(f"{self._parameters[name]}: is no vector layer; choose another")
        value = self._parameters[name]
        if isinstance(value, QgsProcessingFeatureSourceDefinition):
            named, _ = value.source.valueAsString(self._context.expressionContext())
            layer = QgsProcessingUtils.mapLayerFromString(named, self._context)
        else:
            layer = self._algorithm.parameterAsVectorLayer(*arguments)
        known = layer if isinstance(layer, QgsVectorLayer) else None
        return vector_of(known, source, value, self._values.get("LABELS_CRS") or "")

    def _set_crs(self, name: str, found: list[str]) -> None:
        """Take the CRS that layers have in QGIS and not in their files, unless one is chosen."""
        known = [one for one in found if one]
        if known and not self._values.get(name):
            self._values[name] = known[0]

    def _extent(self, one: Asked) -> list[float] | None:
        layer = self._algorithm.parameterAsRasterLayer(
            self._parameters, one.shown.parent, self._context
        )
        arguments = [self._parameters, one.name, self._context]
        if layer is not None:
            arguments.append(layer.crs())
        extent = self._algorithm.parameterAsExtent(*arguments)
        if extent.isNull():
            return None
        return [extent.xMinimum(), extent.yMinimum(), extent.xMaximum(), extent.yMaximum()]
