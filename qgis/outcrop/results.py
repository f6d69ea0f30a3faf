"""What comes back into QGIS: outputs, styled layers in a group, a summary, and the report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from qgis.core import (
    QgsEditorWidgetSetup,
    QgsLayerTreeLayer,
    QgsProcessingContext,
    QgsProcessingLayerPostProcessorInterface,
    QgsRasterLayer,
    QgsVectorLayer,
)
from qgis.PyQt.QtCore import QUrl
from qgis.PyQt.QtGui import QDesktopServices

_RANK = "outcrop/rank"
# From top to bottom.
_TITLES = {
    "classes": "Class map",
    "confidence": "Confidence",
    "dissimilarity": "Area of applicability",
}


def outputs(
    algorithm: str, found: Mapping[str, Any], destinations: Mapping[str, str]
) -> dict[str, Any]:
    """The results of an algorithm by name.

    Args:
        found: what each command printed as JSON.
        destinations: the new files by parameter.
    """
    given: dict[str, Any] = {
        name: path for name, path in destinations.items() if Path(path).exists()
    }
    if algorithm == "experiment":
        content = found["experiment"]
        given["REPORT"] = str(content["report"])
        given["MAP"] = str((content["maps"] or [""])[0])
        given["RECOMMENDATION"] = content["recommendation"]
    if algorithm == "audit":
        given["REPORT"] = str(Path(destinations["OUTPUT"]) / "report.html")
    if algorithm == "assess":
        given["OVERALL_ACCURACY"] = found["assess"]["accuracy"]["overall"]["value"]
    return given


def load(
    algorithm: str,
    found: Mapping[str, Any],
    given: Mapping[str, Any],
    context: QgsProcessingContext,
    title: str,
) -> None:
    """Have Processing add the results to the project, as layers in one group."""
    group = f"outcrop: {title}" if title else "outcrop"
    if algorithm == "experiment":
        for path in found["experiment"]["maps"]:
            _load_maps(Path(path), group, context)
        return
    if algorithm == "assess" and given.get("CSV"):
        layer = table_layer(given["CSV"], f"Areas of {title}")
        context.temporaryLayerStore().addMapLayer(layer)
        _add(layer.id(), layer.name(), group, context)
    for rank, path in enumerate(given.values()):
        if isinstance(path, str) and context.willLoadLayerOnCompletion(path):
            processor = _Grouped(group, rank, _classes_to_choose(algorithm, found))
            context.layerToLoadOnCompletionDetails(path).setPostProcessor(processor)


def _load_maps(classes: Path, group: str, context: QgsProcessingContext) -> None:
    """Add a class map, and below it the maps beside it."""
    scene = classes.name[: -len("-classes.tif")]
    for rank, (kind, title) in enumerate(_TITLES.items()):
        path = classes.with_name(f"{scene}-{kind}.tif")
        if path.is_file():
            # The name of the file begins with the number of the scene.
            name = scene.partition("-")[2]
            _add(str(path), f"{title}: {name}", group, context, rank)


def _add(source: str, name: str, group: str, context: QgsProcessingContext, rank: int = 0) -> None:
    details = QgsProcessingContext.LayerDetails(name, context.project(), name)
    details.forceName = True
    details.setPostProcessor(_Grouped(group, rank))
    context.addLayerToLoadOnCompletion(source, details)


def table_layer(path: str, name: str) -> QgsVectorLayer:
    """A CSV file as a layer without geometry, its numbers as numbers."""
    url = QUrl.fromLocalFile(path).toString()
    source = f"{url}?type=csv&detectTypes=yes&geomType=none"
    return QgsVectorLayer(source, name, "delimitedtext")


def _classes_to_choose(algorithm: str, found: Mapping[str, Any]) -> list[str]:
    """Classes that reference points can have."""
    return list(found["sample"].get("classes", [])) if algorithm == "sample" else []


class _Grouped(QgsProcessingLayerPostProcessorInterface):
    """Gives a layer the style beside its file, and puts it into a group of the layer tree."""

    # Processing keeps no reference to them.
    _kept: list[_Grouped] = []  # noqa: RUF012

    def __init__(self, group: str, rank: int, classes: list[str] | None = None) -> None:
        super().__init__()
        self._group = group
        self._rank = rank
        self._classes = classes or []
        _Grouped._kept = [*_Grouped._kept[-50:], self]

    def postProcessLayer(self, layer: Any, context: Any, feedback: Any) -> None:  # noqa: N802
        """Style and move a layer."""
        style = Path(layer.source().split("|")[0]).with_suffix(".qml")
        if isinstance(layer, QgsRasterLayer) and style.is_file():
            layer.loadNamedStyle(str(style))
        if self._classes and isinstance(layer, QgsVectorLayer):
            choose_classes(layer, self._classes)
        project = context.project()
        if project is not None:
            move_to_group(project.layerTreeRoot(), layer, self._group, self._rank)


def choose_classes(layer: QgsVectorLayer, classes: list[str]) -> None:
    """Let the column "class" of reference points be filled in from a list, and hide the strata."""
    field = layer.fields().indexFromName("class")
    if field >= 0:
        choices = {"map": [{name: name} for name in classes]}
        layer.setEditorWidgetSetup(field, QgsEditorWidgetSetup("ValueMap", choices))
    # An interpreter who sees the class of the map is not independent of it.
    for name in ("stratum", "stratum_pixels", "probability"):
        hidden = layer.fields().indexFromName(name)
        if hidden >= 0:
            layer.setEditorWidgetSetup(hidden, QgsEditorWidgetSetup("Hidden", {}))


def move_to_group(root: Any, layer: Any, name: str, rank: int) -> None:
    """Put a layer into a group of that name, which is made above all others if needed.

    Args:
        rank: layers of a smaller rank lie above this one.
    """
    group = root.findGroup(name) or root.insertGroup(0, name)
    node = root.findLayer(layer.id())
    moved = QgsLayerTreeLayer(layer) if node is None else node.clone()
    moved.setCustomProperty(_RANK, rank)
    above = [one for one in group.children() if int(one.customProperty(_RANK, 0)) < rank]
    group.insertChildNode(len(above), moved)
    if node is not None:
        node.parent().removeChildNode(node)


def summary(found: Mapping[str, Any]) -> Iterator[str]:
    """A few lines for the log."""
    for command, content in found.items():
        yield from _SUMMARIES.get(command, lambda _: iter(()))(content)


def _of_experiment(content: Mapping[str, Any]) -> Iterator[str]:
    for row in content["comparison"]["rows"]:
        balanced = _percent(row["scores"]["balanced"])
        gap = row.get("gap")
        leak = "" if gap is None else f", leak gap {100 * gap['value']:+.1f} points"
        yield f"{row['model']}, {row['features']}: balanced accuracy {balanced}{leak}"
    yield content["recommendation"]


def _of_patches(content: Mapping[str, Any]) -> Iterator[str]:
    counts = ", ".join(f"{name}: {count}" for name, count in content["classes"].items())
    yield f"{content['shape'][0]} patches ({counts})"


def _of_split(content: Mapping[str, Any]) -> Iterator[str]:
    sides = content.get("sides", {})
    for side, counts in sides.items():
        if sum(counts.values()):
            yield f"{side}: {sum(counts.values())} patches"
    yield from content.get("notes", [])


def _of_audit(content: Mapping[str, Any]) -> Iterator[str]:
    for finding in content["findings"]:
        yield f"{finding['severity']}: {finding['title']}"


def _of_train(content: Mapping[str, Any]) -> Iterator[str]:
    scores = content.get("validation") or {}
    if "balanced" in scores:
        yield f"balanced accuracy on the validation side: {_percent(scores['balanced'])}"


def _of_sample(content: Mapping[str, Any]) -> Iterator[str]:
    counts = ", ".join(f"{a}: {b}" for a, b in zip(content["classes"], content["points"]))
    yield f"{sum(content['points'])} points ({counts})"


def _of_assess(content: Mapping[str, Any]) -> Iterator[str]:
    yield f"overall accuracy: {_percent(content['accuracy']['overall'])}"
    yield from content.get("notes", [])


def _percent(score: Mapping[str, Any]) -> str:
    low, high = score.get("low"), score.get("high")
    if low is None or high is None:
        return f"{100 * score['value']:.1f} %"
    return f"{100 * score['value']:.1f} % [{100 * low:.1f}, {100 * high:.1f}]"


_SUMMARIES = {
    "experiment": _of_experiment,
    "patches": _of_patches,
    "split": _of_split,
    "audit": _of_audit,
    "train": _of_train,
    "sample": _of_sample,
    "assess": _of_assess,
}


def open_in_browser(path: str) -> None:
    """Open a report, if QGIS has a window."""
    from qgis.utils import iface

    if iface is not None and Path(path).is_file():
        QDesktopServices.openUrl(QUrl.fromLocalFile(path))
