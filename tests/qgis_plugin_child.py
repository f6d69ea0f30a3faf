"""Run algorithms of the plugin in QGIS, without a screen, and print what came of each as JSON.

For the Python of QGIS: `qgis_plugin_child.py PLUGINS` reads a list of tasks from standard input:
`{"algorithm", "parameters", "layers", "cancel", "environment"}`. With "model" instead of
"algorithm", a model of these steps runs. A parameter "layer:NAME" is a layer of `layers`,
`{"source", "provider", "filter", "select", "edit", "virtual", "crs", "memory", "colours",
"style"}`;
"layer:NAME:selected" is its selection. It imports nothing of the project but the plugin.
"""

import json
import os
import sys
import tempfile

from qgis.core import (
    QgsApplication,
    QgsCategorizedSymbolRenderer,
    QgsCoordinateReferenceSystem,
    QgsFeatureRequest,
    QgsField,
    QgsProcessingContext,
    QgsProcessingException,
    QgsProcessingFeatureSourceDefinition,
    QgsProcessingFeedback,
    QgsProcessingModelAlgorithm,
    QgsProcessingModelChildAlgorithm,
    QgsProcessingModelChildParameterSource,
    QgsProcessingModelOutput,
    QgsProcessingModelParameter,
    QgsProcessingOutputLayerDefinition,
    QgsProcessingParameterFile,
    QgsProcessingParameterRasterLayer,
    QgsProject,
    QgsProperty,
    QgsRasterLayer,
    QgsRendererCategory,
    QgsSymbol,
    QgsVectorLayer,
)
from qgis.PyQt.QtCore import QVariant
from qgis.PyQt.QtGui import QColor


class Feedback(QgsProcessingFeedback):
    """Keeps all lines; cancels at the first line or text of progress with a certain piece."""

    def __init__(self, cancel):
        super().__init__(False)
        self.lines, self.shares, self._cancel = [], [], cancel
        self.progressChanged.connect(self.shares.append)

    def _keep(self, kind, text):
        self.lines.append([kind, text])
        if self._cancel and self._cancel in text:
            self.cancel()

    # ruff: noqa: N802
    def pushInfo(self, text):
        self._keep("info", text)

    def pushWarning(self, text):
        self._keep("warning", text)

    def pushCommandInfo(self, text):
        self._keep("command", text)

    def pushDebugInfo(self, text):
        self._keep("debug", text)

    def reportError(self, text, fatal=False):
        self._keep("error", text)

    def setProgressText(self, text):
        self._keep("progress", text)


def layer_of(name, asked):
    """A layer of the project."""
    provider = asked.get("provider", "ogr")
    if provider in ("gdal", "wms", "virtualraster"):
        layer = QgsRasterLayer(asked["source"], name, provider)
    else:
        layer = QgsVectorLayer(asked["source"], name, provider)
    if "filter" in asked:
        assert layer.setSubsetString(asked["filter"])
    if "select" in asked:
        layer.selectByExpression(asked["select"])
    if "edit" in asked:
        layer.startEditing()
        layer.deleteFeature(next(layer.getFeatures()).id())
    if "virtual" in asked:
        layer.addExpressionField(asked["virtual"], QgsField("virtual", QVariant.String))
    if "crs" in asked:
        layer.setCrs(QgsCoordinateReferenceSystem(asked["crs"]))
    if "memory" in asked:
        layer = layer.materialize(QgsFeatureRequest())
        layer.setName(name)
    if "colours" in asked:
        column, colours = asked["colours"]
        layer.setRenderer(categorized(column, colours, layer.geometryType()))
    if "style" in asked:
        layer.saveNamedStyle(asked["style"])
    QgsProject.instance().addMapLayer(layer)
    return layer


def categorized(column, colours, kind):
    """A renderer with a colour for each value of a column."""
    categories = []
    for value, colour in colours.items():
        symbol = QgsSymbol.defaultSymbol(kind)
        symbol.setColor(QColor(colour))
        categories.append(QgsRendererCategory(value, symbol, value))
    return QgsCategorizedSymbolRenderer(column, categories)


def value_of(value, layers):
    """The value of a parameter."""
    if isinstance(value, list):
        return [value_of(one, layers) for one in value]
    if not isinstance(value, str) or not value.startswith("layer:"):
        return value
    name, _, selected = value[len("layer:") :].partition(":")
    if selected:
        source = QgsProperty.fromValue(layers[name].id())
        return QgsProcessingFeatureSourceDefinition(source, selectedFeaturesOnly=True)
    return layers[name]


def model_of(asked):
    """A model: {"inputs": {name: "raster" or "file"}, "steps": [[algorithm, parameters], ...]}.

    The value of a parameter is "input:NAME", "output:STEP:NAME", or itself. OUTPUT of the last step
    is a result of the model, which QGIS calls "STEP:OUTPUT".
    """
    model = QgsProcessingModelAlgorithm("model", "tests")
    kinds = {"raster": QgsProcessingParameterRasterLayer, "file": QgsProcessingParameterFile}
    for name, kind in asked["inputs"].items():
        model.addModelParameter(kinds[kind](name, name), QgsProcessingModelParameter(name))
    for number, (algorithm, parameters) in enumerate(asked["steps"]):
        child = QgsProcessingModelChildAlgorithm(algorithm)
        child.setChildId(str(number))
        for name, value in parameters.items():
            kind, *parts = str(value).split(":")
            if kind == "input":
                source = QgsProcessingModelChildParameterSource.fromModelParameter(*parts)
            elif kind == "output":
                source = QgsProcessingModelChildParameterSource.fromChildOutput(*parts)
            else:
                source = QgsProcessingModelChildParameterSource.fromStaticValue(value)
            child.addParameterSources(name, [source])
        if number == len(asked["steps"]) - 1:
            output = QgsProcessingModelOutput("OUTPUT")
            output.setChildId(str(number))
            output.setChildOutputName("OUTPUT")
            child.setModelOutputs({"OUTPUT": output})
        model.addChildAlgorithm(child)
    model.updateDestinationParameters()
    return model


def tree():
    """The groups of the project, and the layers in each: [name, renderer or fields]."""
    root = QgsProject.instance().layerTreeRoot()
    return {
        group.name(): [
            [
                node.name(),
                node.layer().renderer().type()
                if isinstance(node.layer(), QgsRasterLayer)
                else node.layer().fields().names(),
                node.layer().isValid(),
            ]
            for node in group.findLayers()
        ]
        for group in root.findGroups()
    }


def done(task):
    """Run one algorithm as the dialog does."""
    before = dict(os.environ)
    os.environ.update(task.get("environment", {}))
    try:
        return run(task)
    finally:
        os.environ.clear()
        os.environ.update(before)


def run(task):
    """Run one algorithm in the environment of this process."""
    from processing.gui.Postprocessing import handleAlgorithmResults

    if "model" in task:
        algorithm = model_of(task["model"])
        # As a file that the designer has saved: only what is written there can run.
        with tempfile.NamedTemporaryFile(suffix=".model3") as file:
            assert algorithm.toFile(file.name)
            algorithm = QgsProcessingModelAlgorithm()
            assert algorithm.fromFile(file.name)
    else:
        algorithm = QgsApplication.processingRegistry().createAlgorithmById(task["algorithm"])
    feedback, context = Feedback(task.get("cancel")), QgsProcessingContext()
    context.setProject(QgsProject.instance())
    context.setFeedback(feedback)
    layers = {name: layer_of(name, asked) for name, asked in task.get("layers", {}).items()}
    parameters = {name: value_of(value, layers) for name, value in task["parameters"].items()}
    found = {"error": None, "results": None}
    executable, reason = algorithm.canExecute()
    if not executable:
        return {**found, "error": reason, "lines": []}
    fits, reason = algorithm.checkParameterValues(parameters, context)
    if not fits:
        return {**found, "error": reason, "lines": []}
    # As the dialog does, where "Open output file after running" is chosen.
    for destination in algorithm.destinationParameterDefinitions():
        name = destination.name()
        if destination.type() in ("rasterDestination", "vectorDestination") and name in parameters:
            parameters[name] = QgsProcessingOutputLayerDefinition(
                parameters[name], QgsProject.instance()
            )
    try:
        results, succeeded = algorithm.run(parameters, context, feedback, {}, False)
        if not succeeded:
            return {**found, "error": feedback.lines[-1][1], "lines": feedback.lines}
        if results:
            handleAlgorithmResults(algorithm, context, feedback, False)
        found["results"] = results
    except QgsProcessingException as error:
        found["error"] = str(error)
    return {**found, "lines": feedback.lines, "shares": feedback.shares, "tree": tree()}


def main(plugins):
    """Print what came of each task."""
    QgsApplication.setPrefixPath("/usr", True)
    application = QgsApplication([], False)
    application.initQgis()
    sys.path[:0] = [plugins, QgsApplication.pkgDataPath() + "/python/plugins"]
    from processing.core.Processing import Processing

    Processing.initialize()
    import outcrop

    plugin = outcrop.classFactory(None)
    plugin.initProcessing()
    print(json.dumps([done(task) for task in json.load(sys.stdin)], default=str))
    sys.stdout.flush()


main(*sys.argv[1:])
