"""What each algorithm asks for, and the command lines that come of it. Imports nothing of QGIS.

The options of the commands come from `commands.json`. A specification only says which of them are
layers, columns, bands and files, and which stand first in the dialog. All others are advanced
parameters of their type.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from .environment import description


@dataclass(frozen=True)
class Shown:
    """How the dialog asks for an option.

    Attributes:
        kind: scenes (one layer, and further ones), source (a vector layer, or a raster
            layer), raster, rasters, vector, field, fields, bands, crs, extent, file, folder,
            new-raster, new-vector, new-file, new-folder; empty: by the type of the option.
        label: its title; default: its name.
        name: name of the parameter; default: the option's in capitals.
        parent: parameter whose layer has the column, band or extent.
        files: file filter, such as "Split (*.json)".
        advanced: it is folded away.
        optional: it may be left out; None: as on the command line.
        by_default: a new file is made unless the user says otherwise.
        otherwise: parameter that is taken if this one is left out.
        without: choices that are left out.
    """

    kind: str = ""
    label: str = ""
    name: str = ""
    parent: str = ""
    files: str = ""
    advanced: bool = False
    optional: bool | None = None
    by_default: bool = True
    otherwise: str = ""
    without: tuple[str, ...] = ()


@dataclass(frozen=True)
class Step:
    """A command that an algorithm runs.

    Attributes:
        shown: options that the dialog shows first, in this order, or in another way than by type.
        hidden: options that QGIS has no use for, or that the plugin sets itself.
        fixed: options that are always given.
        taken: options whose value is that of a parameter which another step asks for.
        only: whether only the options of `shown` are asked for.
        needs: parameter without which the step is left out.
        unless: parameter with which the step is left out.
    """

    command: str
    shown: Mapping[str, Shown]
    hidden: frozenset[str] = frozenset()
    fixed: Mapping[str, Any] = field(default_factory=dict)
    taken: Mapping[str, str] = field(default_factory=dict)
    only: bool = False
    needs: str = ""
    unless: str = ""


@dataclass(frozen=True)
class Specification:
    """An algorithm.

    Attributes:
        about: what it does, in a few sentences; the help begins with it.
        reports: it makes an HTML report.
        keeps_copies: copies of layers that are not files stay beside the results, since a run that
            is continued needs them.
    """

    name: str
    title: str
    group: str
    steps: tuple[Step, ...]
    about: str
    reports: bool = False
    keeps_copies: bool = False


@dataclass(frozen=True)
class Asked:
    """A parameter of an algorithm: an option, and how it is shown."""

    name: str
    label: str
    option: Mapping[str, Any]
    shown: Shown
    advanced: bool

    @property
    def kind(self) -> str:
        """Kind of the widget."""
        return self.shown.kind or _kind_by_type(self.option)

    @property
    def optional(self) -> bool:
        """Whether it may be left out."""
        return not self.option["required"] if self.shown.optional is None else self.shown.optional


def _kind_by_type(option: Mapping[str, Any]) -> str:
    if option["choices"]:
        return "choices" if option["list"] else "choice"
    if option["list"]:
        return "text"
    if option["type"] == "bool" and option["nullable"]:
        return "yes-no"
    return {"bool": "flag", "int": "integer", "float": "number", "path": "file"}.get(
        option["type"], "text"
    )


# Volumes are no layers of QGIS.
_OF_VOLUMES = frozenset(
    (
        *("axis", "slice_stride", "slices", "thickness"),
        *("inline_byte", "crossline_byte", "gaps", "format", "endian"),
    )
)
# Layers say themselves which part of a file they are; the plugin reads JSON and replaces files
# that the user has chosen in a dialog, which asks.
_SET_HERE = frozenset(("layer", "json", "overwrite"))
_HIDDEN = _OF_VOLUMES | _SET_HERE
_JSON = {"json": True}
_REPLACE = {"json": True, "overwrite": True}

_SCENES = Shown("scenes", "Scene", name="SCENE")
_LABELS = Shown("source", "Labelled places")
_COLUMN = Shown("field", "Column with the class", parent="LABELS")
_BANDS = Shown("bands", "Bands (default: all)", parent="SCENE")
_PATCHES = Shown("folder", "Patch set")
_RESUME = Shown(label="Continue an interrupted run", advanced=True)
_READING = {
    "mask": Shown("rasters", "Quality rasters", advanced=True),
    "crs": Shown("crs", "CRS of scenes that have none", advanced=True),
}
_LABELS_CRS = {"labels_crs": Shown("crs", "CRS of labels that have none", advanced=True)}

EXPERIMENT = Specification(
    "experiment",
    "Classify from labelled places",
    "Whole job",
    (
        Step(
            "experiment",
            {
                "scenes": _SCENES,
                "labels": _LABELS,
                "column": _COLUMN,
                "bands": _BANDS,
                "size": Shown(label="Patch size in pixels (default: by the scene)"),
                "preset": Shown(label="Preset"),
                "block": Shown(label="Side of a spatial block in metres (default: by the labels)"),
                "folds": Shown(label="Number of spatial folds"),
                "output": Shown("new-folder", "Results"),
                "truth": Shown("rasters", "Rasters of true classes", advanced=True),
                "resume": _RESUME,
                **_READING,
                **_LABELS_CRS,
            },
            _HIDDEN,
            _JSON,
        ),
    ),
    "Does the whole job. It cuts a patch around each labelled pixel, compares a network and ten "
    "classical models by spatial cross-validation, fits the recommended model to all labels, maps "
    "the scene, and writes a report. The report says how much a random split would have flattered. "
    "The class map, its confidence and the area of applicability are added to the project.",
    reports=True,
    keeps_copies=True,
)
PATCHES = Specification(
    "patches",
    "Cut patches",
    "Data",
    (
        Step(
            "patches",
            {
                "sources": _SCENES,
                "labels": replace(_LABELS, optional=True),
                "column": _COLUMN,
                "bands": _BANDS,
                "size": Shown(label="Patch size in pixels (default: by the scene)"),
                "per_class": Shown(label="Maximum number of patches per class"),
                "output": Shown("new-file", "Patch set", files="Patch set (*.zarr)"),
                "positions": Shown(
                    "file", "Table of patch positions", files="Table (*.csv *.parquet)",
                    advanced=True,
                ),
                "keep": Shown("fields", "Further columns to keep", parent="LABELS", advanced=True),
                **_READING,
                **_LABELS_CRS,
            },
            _HIDDEN,
            _REPLACE,
        ),
    ),
    "Cuts a patch around each labelled pixel of a scene. Each patch keeps its class and position.",
)  # fmt: skip
AUDIT = Specification(
    "audit",
    "Audit patches and split",
    "Data",
    (
        Step(
            "split",
            {
                "patches": _PATCHES,
                "by": Shown(label="Split by", without=("slabs",)),
                "block": Shown(label="Side of a spatial block in metres (default: by the patches)"),
                "buffer": Shown(
                    label="Buffer between the sides in metres (default: one patch)",
                ),
                "zones": Shown("vectors", "Zones that validate (split by zones)", advanced=True),
                "boxes": Shown(label="Boxes that validate (split by zones)", advanced=True),
                "output": Shown("new-file", "New split", name="NEW_SPLIT", files="Split (*.json)"),
            },
            _HIDDEN,
            _REPLACE,
            unless="SPLIT",
        ),
        Step(
            "audit",
            {
                "patches": _PATCHES,
                "split": Shown(
                    "file", "Existing split, instead of a new one", name="SPLIT",
                    files="Split (*.json)", otherwise="NEW_SPLIT", advanced=True,
                ),
                "to_map": Shown("rasters", "Scenes that will be mapped", advanced=True),
                "output": Shown("new-folder", "Findings", optional=False),
            },
            _HIDDEN,
            _REPLACE,
        ),
    ),
    "Splits a patch set into training and validation patches by location, and checks whether the "
    "patch set and the split can be trusted. The findings are in a report.",
    reports=True,
)  # fmt: skip
TRAIN = Specification(
    "train",
    "Train",
    "Model",
    (
        Step(
            "train",
            {
                "patches": _PATCHES,
                "split": Shown("file", "Split", files="Split (*.json)"),
                "classical": Shown(label="Classical model (default: a network)"),
                "features": Shown(label="Features of the classical model"),
                "preset": Shown(label="Preset of the network"),
                "output": Shown("new-folder", "Run folder"),
                "sources": Shown("rasters", "Scenes, if they have moved", advanced=True),
                "start_from": Shown("folder", "Run with initial weights", advanced=True),
                "resume": _RESUME,
            },
            _SET_HERE | {"slices"},
            _JSON,
        ),
    ),
    "Trains a network or a classical model on the training side of a split. The run folder has the "
    "model and its scores on the validation side.",
)
MAP = Specification(
    "map",
    "Classify raster with a model",
    "Map",
    (
        Step(
            "map",
            {
                "run": Shown("folder", "Run folder of the model"),
                "sources": _SCENES,
                "extent": Shown("extent", "Extent (default: all)", parent="SCENE"),
                "output": Shown("new-raster", "Class map"),
                "confidence": Shown("new-raster", "Confidence"),
                "entropy": Shown("new-raster", "Entropy", by_default=False, advanced=True),
                "second": Shown("new-raster", "Second class", by_default=False, advanced=True),
                "dissimilarity": Shown(
                    "new-raster", "Area of applicability", by_default=False, advanced=True
                ),
                "polygons": Shown("new-vector", "Polygons", by_default=False, advanced=True),
                "bands": replace(_BANDS, label="Bands (default: by name)", advanced=True),
                "ensemble": Shown(label="Run folders of further models", advanced=True),
                "resume": _RESUME,
                **_READING,
            },
            _HIDDEN,
            _REPLACE,
        ),
    ),
    "Classifies every pixel of a scene with a model that was trained before.",
)
SAMPLE = Specification(
    "sample",
    "Sample reference points",
    "Accuracy",
    (
        Step(
            "sample",
            {
                "map": Shown("raster", "Class map"),
                "n": Shown(label="Number of points (default: by the standard error)"),
                "standard_error": Shown(label="Standard error of the overall accuracy"),
                "design": Shown(label="Design"),
                "allocation": Shown(label="Allocation to the classes"),
                "output": Shown("new-vector", "Reference points"),
            },
            _HIDDEN,
            _REPLACE,
        ),
    ),
    "Draws points from a class map. Look at each point, enter its true class in the column "
    "'class', then run 'Assess map'.",
)
ASSESS = Specification(
    "assess",
    "Assess map",
    "Accuracy",
    (
        Step(
            "assess",
            {
                "map": Shown("raster", "Class map"),
                "reference": Shown("source", "Reference points or polygons"),
                "column": Shown("field", "Column with the true class", parent="REFERENCE"),
                "output": Shown(
                    "new-file", "Assessment", files="Assessment (*.json)", optional=False
                ),
                "csv": Shown("new-file", "Table of areas", files="Table (*.csv)", optional=False),
                "patches": replace(_PATCHES, label="Patch set of the training", advanced=True),
                **_LABELS_CRS,
            },
            _HIDDEN,
            _REPLACE,
        ),
        Step(
            "report",
            {
                "output": Shown(
                    "new-file", "Report", name="REPORT", files="Report (*.html)", optional=True
                ),
            },
            fixed=_REPLACE,
            taken={"folder_or_map": "MAP", "assessment": "OUTPUT"},
            only=True,
            needs="REPORT",
        ),
    ),
    "Estimates the accuracy of a class map and the area of each class, with 95 % intervals, from "
    "reference data that the model was not trained on. The table of areas is added to the project.",
    reports=True,
)
SPECIFICATIONS = (EXPERIMENT, PATCHES, AUDIT, TRAIN, MAP, SAMPLE, ASSESS)
# The algorithm in whose dialog a command of outcrop is found; each makes its report itself.
_ALGORITHMS = {
    step.command: one for one in SPECIFICATIONS for step in one.steps if step.command != "report"
}


def options_of(command: str) -> dict[str, Mapping[str, Any]]:
    """The options of a command by name, as the command line has them."""
    return {one["name"]: one for one in description()["commands"][command]["options"]}


def asked(specification: Specification) -> list[Asked]:
    """The parameters of an algorithm: those shown first, then those folded away."""
    found: dict[str, Asked] = {}
    for step in specification.steps:
        for one in _asked_by(step):
            found.setdefault(one.name, one)
    return sorted(found.values(), key=lambda one: one.advanced)


def _asked_by(step: Step) -> Iterator[Asked]:
    options = options_of(step.command)
    names = (
        list(step.shown)
        if step.only
        else [*step.shown, *(one for one in options if one not in step.shown)]
    )
    for name in names:
        if name in step.hidden or (name in step.fixed and name not in step.shown):
            continue
        option, how = options[name], step.shown.get(name, Shown(advanced=True))
        label = how.label or name.replace("_", " ").capitalize()
        yield Asked(how.name or name.upper(), label, option, how, how.advanced)


def parameter_of(step: Step, option: str) -> str:
    """The name of the parameter that asks for an option."""
    return step.shown.get(option, Shown()).name or option.upper()


def values_of(step: Step, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The value of each option of a step, of those that are given.

    Args:
        parameters: values by parameter name; None is left out.
    """
    values = dict(step.fixed)
    for name in options_of(step.command):
        how = step.shown.get(name, Shown())
        value = parameters.get(parameter_of(step, name))
        if value is None and how.otherwise:
            value = parameters.get(how.otherwise)
        if value is not None and (name in step.shown or not step.only):
            values[name] = value
    return {**values, **{name: parameters[other] for name, other in step.taken.items()}}


def is_left_out(step: Step, parameters: Mapping[str, Any]) -> bool:
    """Whether an algorithm does not run a step."""
    if step.unless and parameters.get(step.unless) is not None:
        return True
    return bool(step.needs) and parameters.get(step.needs) is None


def arguments_of(command: str, values: Mapping[str, Any]) -> list[str]:
    """The words of a command line; options that are as by default are left out.

    >>> arguments_of("sample", {"map": "classes.tif", "n": 200, "design": "stratified"})
    ['sample', 'classes.tif', '--n=200']
    """
    options = options_of(command)
    unknown = sorted(set(values) - set(options))
    if unknown:
        raise KeyError(f"outcrop {command} has no option {unknown[0]}")
    words, more = [command], []
    for name, option in options.items():
        value = values.get(name)
        if value is None or (value == [] and not option["required"]):
            continue
        if option["positional"]:
            words += [str(one) for one in value] if option["list"] else [str(value)]
        elif option["type"] == "bool" and not option["nullable"]:
            if value != option["default"]:
                more.append(f"--{'' if value else 'no-'}{_dashed(name)}")
        elif value != option["default"]:
            more.append(f"--{_dashed(name)}={_written(value)}")
    return [*words, *more]


def _dashed(name: str) -> str:
    return name.replace("_", "-")


def _written(value: Any) -> str:
    """A value as the command line reads it: lists with commas, names with commas in quotes."""
    if isinstance(value, (list, tuple)):
        return ",".join(_item(str(one)) for one in value)
    if isinstance(value, bool):
        return str(value).lower()
    return repr(value) if isinstance(value, float) else str(value)


def _item(text: str) -> str:
    """An item of a list, in quotes where the command line would divide it."""
    if not re.search(r'[,"\[\]]|^\s|\s$', text):
        return text
    doubled = text.replace('"', '""')
    return f'"{doubled}"'


def in_dialog_words(text: str, specification: Specification) -> str:
    """A line of outcrop with the titles of dialogs in place of options and commands.

    >>> in_dialog_words("scene.tif: has no CRS; pass --crs", PATCHES)
    "scene.tif: has no CRS; pass 'CRS of scenes that have none'"
    >>> in_dialog_words("no split; make one with `outcrop split`", TRAIN)
    "no split; make one with 'Audit patches and split'"
    """

    def algorithm(found: re.Match[str]) -> str:
        named = _ALGORITHMS.get(found.group(1))
        if named is None:
            return found.group()
        options = _with_titles(found.group(2) or "", named)
        return f"'{named.title}'" + (f" with{options}" if options else "")

    text = re.sub(r"`outcrop ([a-z]+)( [^`]*)?`", algorithm, text)
    return _with_titles(text, specification)


def _with_titles(text: str, specification: Specification) -> str:
    labels = {
        _dashed(one.option["name"]): one.label.partition(" (")[0] for one in asked(specification)
    }

    def title(found: re.Match[str]) -> str:
        name = found.group(1)
        return f"'{labels[name]}'" if name in labels else found.group()

    return re.sub(r"--([a-z][a-z-]*[a-z]|n)\b", title, text)


def help_of(specification: Specification) -> str:
    """The help of an algorithm as HTML: what it does, and its parameters."""
    lines = [f"<p>{_escaped(specification.about)}</p>"]
    for title, some in (("Parameters", False), ("Advanced parameters", True)):
        chosen = [one for one in asked(specification) if one.advanced == some]
        lines.append(f"<h3>{title}</h3>" if chosen else "")
        lines += [
            f"<p><b>{_escaped(one.label)}</b><br>{_escaped(sentence(one.option['help']))}</p>"
            for one in chosen
        ]
    names = ", ".join(f"outcrop {step.command}" for step in specification.steps)
    return "\n".join([*lines, f"<p><i>Runs {names}.</i></p>"])


def sentence(text: str) -> str:
    """A help text that begins with a capital, without marks of the source code."""
    text = text.replace("`", "")
    return text[:1].upper() + text[1:]


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
