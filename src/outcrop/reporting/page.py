"""The report: contents of every section, and the page made from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from outcrop.errors import OutcropError
from outcrop.files import check_new, new_file
from outcrop.mapping.volume import is_cube
from outcrop.metrics.calibration import Calibration
from outcrop.metrics.scores import PrecisionRecall, precision_recall
from outcrop.patches.reopen import open_again
from outcrop.progress import track
from outcrop.reporting import charts, findings
from outcrop.reporting.audit import audit_part, write_audit_page
from outcrop.reporting.html import RANDOM, SPATIAL, asset, render_page
from outcrop.reporting.maps import LONGEST, MapFiles, MapPart, map_part, write_map_page
from outcrop.reporting.material import HeldOut, Material, read_material
from outcrop.reporting.panels import (
    SIDE_COLOURS,
    Panel,
    ScenePictures,
    fold_colours,
    mistakes,
    size_words,
    split_panel,
)
from outcrop.reporting.rasters import longest_of
from outcrop.reporting.repeat import command
from outcrop.sources.scene import Scene
from outcrop.splits import SIDES
from outcrop.training.folder import kind_of
from outcrop.wings import offering

_LONGEST_SCENE = 800


@dataclass(frozen=True)
class ScenePart:
    """A scene in the data section."""

    name: str
    words: str
    panels: tuple[Panel, ...]


def write_report(
    folder_or_map: str | Path,
    output: str | Path | None = None,
    overwrite: bool = False,
    *,
    scene: Sequence[str | Path] | None = None,
    confidence: str | Path | None = None,
    entropy: str | Path | None = None,
    dissimilarity: str | Path | None = None,
    truth: str | Path | None = None,
    classes: Sequence[str] | None = None,
    assessment: str | Path | None = None,
    patches: str | Path | None = None,
) -> Path:
    """Write one HTML page about a finished experiment, comparison, training, audit or map.

    The page contains its pictures and needs neither a network nor other files. Without JavaScript,
    pictures that otherwise lie over each other stand side by side. Scenes and maps are read at the
    size of the pictures, so memory does not grow with them. Parts without data, such as scenes or
    truth that were moved, are left out with a note.

    Args:
        folder_or_map: folder made by `outcrop experiment`, `compare`, `train` or `audit`; or a
            class map of a scene.
        output: the page; `report.html` in the folder, or `MAP.html` beside the map, if not given.
        overwrite: whether the page may exist.
        scene: for a map, the files of the mapped scene.
        confidence, entropy, dissimilarity: layers that were written with the map.
        truth: raster of true classes on any grid. Without an assessment, the map is assessed with
            it. Without a coordinate reference system, that of the map is assumed.
        classes: names for the values of `truth`, as for `outcrop.sources.labels.open_labels`.
        assessment: file made by `outcrop assess`.
        patches: for a run of `outcrop generative train`, its training patches: held-out images and
            their reconstructions are drawn.

    Returns:
        The page.

    Raises:
        OutcropError: the folder is foreign or unfinished; there is no class map, or a file does not
            fit it; an argument has no effect; the page exists; the disk is full.
    """
    path, output = Path(folder_or_map), None if output is None else Path(output)
    layers = {"confidence": confidence, "entropy": entropy, "dissimilarity": dissimilarity}
    of_map = layers | {"scene": scene, "truth": truth, "assessment": assessment}
    of_map["classes"] = classes
    if path.is_file() or is_cube(path):
        _refuse(f"{path} is a map", patches=patches)
        if truth is None:
            _refuse("no `truth` was given", classes=classes)
        files = MapFiles(
            path,
            {name: Path(layer) for name, layer in layers.items() if layer is not None},
            truth,
            classes,
            None if assessment is None else Path(assessment),
        )
        return write_map_page(files, scene, output, overwrite)
    _refuse(f"{path} is not a map", **of_map)
    kind = kind_of(path)
    for wing in offering("report"):
        if kind == wing.KIND:
            return wing.write_page(path, patches, output, overwrite)
    _refuse(f"{path} is not a run of `outcrop.train_vaegan`", patches=patches)
    if (path / "audit.json").exists():
        return write_audit_page(path, output, overwrite)
    output = path / "report.html" if output is None else output
    material = read_material(path)
    check_new(output, overwrite)
    page = render_page("template.html.j2", **_content(material))
    with new_file(output) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return output


def _refuse(why: str, **options: Any) -> None:
    for name, value in options.items():
        if value is not None:
            raise OutcropError(f"`{name}`", f"has no effect, because {why}; leave it out")


def _content(material: Material) -> dict[str, Any]:
    scenes, notes = _open_scenes(material)
    comparison, sides = material.comparison, _side_words(material)
    counts = None if comparison is None else comparison.counts
    return {
        "material": material,
        "classes": list(material.colours.items()),
        "tiles": findings.tiles(material),
        "sentences": findings.sentences(material),
        "sides": sides,
        "side_colours": SIDE_COLOURS,
        "folds": list(enumerate(fold_colours(len(material.folds)))),
        "counts": counts,
        "balance": None
        if counts is None
        else charts.balance_chart(
            material.held.classes, counts, sides, [SIDE_COLOURS[k] for k in sorted(SIDE_COLOURS)]
        ),
        "scenes": _scene_parts(material, scenes),
        "notes": notes,
        "curves": _curves(material),
        "class_curves": [
            charts.class_curves(material.learning.metrics, name)
            for name in material.held.classes
            if material.learning is not None
        ],
        "precision_recall": _precision_recall(material),
        "reliability": _reliability(material.held.calibration),
        "accuracy": None
        if comparison is None
        else charts.accuracy_chart(comparison.rows, material.split_words),
        "part": None if material.audit is None else audit_part(*material.audit),
        "maps": _map_parts(material, scenes),
        "script": asset("wipe.js"),
        "mistakes": []
        if material.patches is None
        else mistakes(material.patches, material.held.calibrated, scenes),
        "command": command(material),
        "plan": None if material.experiment is None else material.experiment.to_yaml(),
    }


def _side_words(material: Material) -> tuple[str, ...]:
    """Names of the rows of `Comparison.counts`."""
    return SIDES if len(material.folds) == 1 else ("", "held out and scored", "", "not scored")


def _open_scenes(material: Material) -> tuple[dict[int, ScenePictures], list[str]]:
    """The scenes that can be opened, by index, and the reasons why others cannot."""
    found: dict[int, ScenePictures] = {}
    notes: list[str] = []
    patches, plan = material.patches, material.experiment
    if patches is None or patches.positions is None or patches.from_volume or plan is None:
        return found, notes
    longest = min(_LONGEST_SCENE, longest_of(len(patches.sources), LONGEST))
    for number, source in enumerate(track(patches.sources, "drawing the scenes")):
        try:
            opened = open_again(source, patches.reading)
            assert isinstance(opened, Scene)
            scene = ScenePictures(opened, longest)
            if (scene.scene.height, scene.scene.width) != (source.height, source.width):
                raise OutcropError(source.name, "has another size than when patches were cut")
            scene.ways  # noqa: B018  read now, so that a damaged file gives one note only
            found[number] = scene
        except OutcropError as error:
            notes.append(f"{error}; its pictures are not shown")
    return found, notes


def _scene_parts(material: Material, scenes: dict[int, ScenePictures]) -> list[ScenePart]:
    patches, plan = material.patches, material.experiment
    parts = []
    for number, pictures in scenes.items():
        assert patches is not None
        assert patches.positions is not None
        assert plan is not None
        labels, colours = patches.labels, list(patches.palette.values())
        scene, here = pictures.scene, (patches.positions.source == number).sum()
        panels = (
            pictures.in_colour(),
            pictures.drawn("Labelled pixels", patches, number, labels, colours, plan.stride),
            split_panel(pictures, patches, material.folds, number, plan.stride),
        )
        parts.append(ScenePart(scene.title, f"{size_words(scene)}; {here:,} patches", panels))
    return parts


def _curves(material: Material) -> list[Markup]:
    """Loss curves, then accuracy curves, of the network under each split."""
    if material.learning is None:
        return []
    runs = {material.split_words: material.learning}
    if material.random is not None:
        runs["random split"] = material.random.runs[0]
    losses = [
        side.loss
        for run in runs.values()
        for epoch in run.metrics
        for side in (epoch.train, epoch.validation)
        if side is not None and np.isfinite(side.loss)
    ]
    # Large losses of a few first epochs must not flatten the curves.
    top = 1.05 * min(max(losses), 2 * np.percentile(losses, 95)) if losses else 1.0
    return [
        *(charts.loss_curves(run.metrics, f"loss, {name}", top) for name, run in runs.items()),
        *(charts.accuracy_curves(run.metrics, f"accuracy, {name}") for name, run in runs.items()),
    ]


def _reliability(found: Calibration) -> list[Markup]:
    """Charts of the reliability before and, if it is known, after calibration."""
    drawn = [charts.reliability_chart("not calibrated", found.before, RANDOM)]
    if found.after is not None:
        title = "calibrated" if found.temperature != 1 else "temperature of other groups"
        drawn.append(charts.reliability_chart(title, found.after, SPATIAL))
    return drawn


def _precision_recall(material: Material) -> list[Markup]:
    def curves(held: HeldOut) -> tuple[PrecisionRecall, ...]:
        return precision_recall(held.predictions.truth, held.predictions.probabilities)

    names, spatial = material.held.classes, curves(material.held)
    random = [None] * len(names) if material.random is None else curves(material.random)
    return list(map(charts.precision_recall_chart, names, spatial, random))


def _map_parts(material: Material, scenes: dict[int, ScenePictures]) -> list[MapPart]:
    maps = material.maps
    longest = longest_of(len(maps), LONGEST)
    block = material.split.how.get("block")
    opened = {number: pictures.scene for number, pictures in scenes.items()}
    return [
        map_part(files, opened.get(number), longest, block)
        for number, files in track(maps.items(), "measuring the maps", len(maps))
    ]
