"""The page: every section's content, put into the template."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from outcrop.errors import OutcropError
from outcrop.evaluation.scores import PrecisionRecall, precision_recall
from outcrop.files import check_new, new_file
from outcrop.mapping.agreement import Agreement, agreement, count_classes, pixel_hectares
from outcrop.patches.palette import colours
from outcrop.progress import track
from outcrop.reporting import charts, findings
from outcrop.reporting.audit import audit_part, write_audit_page
from outcrop.reporting.confidence import confidence_part
from outcrop.reporting.html import render_page
from outcrop.reporting.material import MapFiles, Material, read_material
from outcrop.reporting.panels import (
    AGREES,
    DIFFERS,
    SIDE_COLOURS,
    Mistake,
    Panel,
    ScenePictures,
    confidence_panel,
    labels_panel,
    map_panel,
    mistakes,
    open_source,
    split_panel,
    truth_panels,
)
from outcrop.reporting.repeat import command
from outcrop.splits import SIDES
from outcrop.training.run import Run

_LONGEST = 800
_LONGEST_OF_MANY = 400
_MANY = 4


@dataclass(frozen=True)
class ScenePart:
    """A scene of the data section."""

    name: str
    words: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True)
class MapPart:
    """A map of the map section.

    Attributes:
        hectares: of a pixel; NaN where the CRS does not measure in lengths.
        counts: pixels of each class in the map.
        held: the map against the truth, where that is known.
        notes: what could not be shown, and why.
    """

    name: str
    panels: tuple[Panel, ...]
    hectares: float
    counts: np.ndarray
    held: Agreement | None
    notes: tuple[str, ...]


@dataclass
class _Scenes:
    """The pictures of the scenes that are still there, and why the others are not."""

    pictures: dict[int, ScenePictures] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def write_report(folder: Path, output: Path | None = None, overwrite: bool = False) -> Path:
    """Write one HTML page about what an experiment, a comparison, a training or an audit left.

    The page holds its pictures and needs no network, no other file and no script. Scenes and maps
    are read small, so that memory does not grow with them. What the folder does not hold, or
    what is no longer where it was (scenes, truth), is left out.

    Args:
        folder: made by `outcrop experiment`, `compare`, `train` or `audit`.
        output: the page; `report.html` in the folder if not given.
        overwrite: whether the page may exist.

    Returns:
        The page.

    Raises:
        OutcropError: the folder is foreign or unfinished; the page exists; the disk is full.
    """
    folder = Path(folder)
    if (folder / "audit.json").exists():
        return write_audit_page(folder, output, overwrite)
    output = folder / "report.html" if output is None else Path(output)
    material = read_material(folder)
    check_new(output, overwrite)
    page = render(material)
    with new_file(output) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return output


def render(material: Material) -> str:
    """The page as HTML."""
    return render_page("template.html.j2", **_content(material))


def _content(material: Material) -> dict[str, Any]:
    scenes = _open_scenes(material)
    counts = _counts(material)
    return {
        "material": material,
        "classes": list(zip(material.classes, colours(material.classes), strict=True)),
        "tiles": findings.tiles(material),
        "sentences": findings.sentences(material),
        "sides": SIDES,
        "side_colours": SIDE_COLOURS,
        "counts": counts,
        "balance": None
        if counts is None
        else charts.balance_chart(
            material.classes, counts, [SIDE_COLOURS[side] for side in sorted(SIDE_COLOURS)]
        ),
        "scenes": _scene_parts(material, scenes),
        "notes": scenes.notes,
        "curves": _curves(material),
        "class_curves": [
            charts.class_curves(material.run.metrics, name) for name in material.classes
        ],
        "precision_recall": _precision_recall(material),
        "confidence": confidence_part(material.run),
        "accuracy": None
        if material.comparison is None
        else charts.accuracy_chart(material.comparison.rows, material.split_words),
        "part": None if material.audit is None else audit_part(*material.audit),
        "maps": _map_parts(material, scenes),
        "agreement_colours": (AGREES, DIFFERS),
        "confidence_scale": _confidence_scale(),
        "mistakes": _mistakes(material, scenes),
        "command": command(material),
        "plan": None if material.experiment is None else material.experiment.to_yaml(),
    }


def _counts(material: Material) -> np.ndarray | None:
    """Patches by side and class, where they are known."""
    return None if material.comparison is None else material.comparison.counts


def _open_scenes(material: Material) -> _Scenes:
    found = _Scenes()
    patches, plan = material.patches, material.experiment
    if patches is None or patches.positions is None or patches.from_volume or plan is None:
        return found
    longest = _LONGEST if len(patches.sources) < _MANY else _LONGEST_OF_MANY
    for number, source in enumerate(track(patches.sources, "drawing the scenes")):
        try:
            scene = ScenePictures(open_source(source, plan.bands, plan.crs), longest)
            if (scene.scene.height, scene.scene.width) != (source.height, source.width):
                raise OutcropError(source.name, "is another raster than when patches were cut")
            scene.ways  # noqa: B018  read now, so that a damaged file is told once
            found.pictures[number] = scene
        except OutcropError as error:
            found.notes.append(f"{error}; its pictures are left out")
    return found


def _scene_parts(material: Material, scenes: _Scenes) -> list[ScenePart]:
    from pyproj import CRS

    patches, plan = material.patches, material.experiment
    parts = []
    for number, pictures in scenes.pictures.items():
        assert patches is not None
        assert plan is not None
        scene = pictures.scene
        here = 0 if patches.positions is None else (patches.positions.source == number).sum()
        size = f"{scene.width:,} × {scene.height:,} pixels of {abs(scene.transform[0]):g}"
        crs = CRS.from_wkt(scene.crs).name
        where = "" if crs == "unnamed" else f" in {crs}"
        parts.append(
            ScenePart(
                name=scene.title,
                words=f"{size} {_unit(scene.crs)}{where}; {here:,} patches",
                panels=(
                    pictures.in_colour(),
                    labels_panel(pictures, patches, number, plan.stride),
                    split_panel(pictures, patches, material.split, number, plan.stride),
                ),
            )
        )
    return parts


def _curves(material: Material) -> list[Markup]:
    """Loss, then accuracy of the network under each split."""
    runs = {material.split_words: material.run}
    if material.random_run is not None:
        runs["split at random"] = material.random_run
    losses = [
        side.loss
        for run in runs.values()
        for epoch in run.metrics
        for side in (epoch.train, epoch.validation)
        if side is not None and np.isfinite(side.loss)
    ]
    # A few wild first epochs must not press the curves flat.
    top = 1.05 * min(max(losses), 2 * np.percentile(losses, 95)) if losses else 1.0
    return [charts.loss_curves(run.metrics, f"loss, {name}", top) for name, run in runs.items()] + [
        charts.accuracy_curves(run.metrics, f"accuracy, {name}") for name, run in runs.items()
    ]


def _precision_recall(material: Material) -> list[Markup]:
    def curves(run: Run) -> tuple[PrecisionRecall, ...]:
        return precision_recall(run.predictions.truth, run.predictions.probabilities)

    ground = curves(material.run)
    random = None if material.random_run is None else curves(material.random_run)
    return [
        charts.precision_recall_chart(name, ground[k], None if random is None else random[k])
        for k, name in enumerate(material.classes)
    ]


def _map_parts(material: Material, scenes: _Scenes) -> list[MapPart]:
    longest = _LONGEST if len(material.maps) < _MANY else _LONGEST_OF_MANY
    return [
        _map_part(material, files, scenes.pictures.get(files.source), longest)
        for files in track(material.maps, "measuring the maps", len(material.maps))
    ]


def _map_part(
    material: Material, files: MapFiles, scene: ScenePictures | None, longest: int
) -> MapPart:
    panels = [] if scene is None else [scene.in_colour()]
    panels.append(map_panel(files.classes, material.classes, longest))
    held, notes = None, []
    if files.truth is not None:
        try:
            held = agreement(files.classes, files.truth)
            panels += truth_panels(files.classes, files.truth, held, longest)
        except OutcropError as error:
            notes.append(f"{error}; the map is shown without the truth")
    if files.confidence.exists():
        panels.append(confidence_panel(files.confidence, longest))
    return MapPart(
        name=files.classes.name,
        panels=tuple(panels),
        hectares=pixel_hectares(files.classes),
        counts=count_classes(files.classes),
        held=held,
        notes=tuple(notes),
    )


def _mistakes(material: Material, scenes: _Scenes) -> list[Mistake]:
    if material.patches is None:
        return []
    return mistakes(material.patches, material.run.calibrated, scenes.pictures)


def _confidence_scale() -> str:
    """A CSS gradient from 0 to 100 % in the colours of the confidence picture."""
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    stops = [to_hex(colormaps["viridis"](share)) for share in np.linspace(0, 1, 9)]
    return f"linear-gradient(to right, {', '.join(stops)})"


def _unit(crs: str) -> str:
    from pyproj import CRS

    name = CRS.from_wkt(crs).axis_info[0].unit_name
    return {"metre": "m", "degree": "°"}.get(name, name)
