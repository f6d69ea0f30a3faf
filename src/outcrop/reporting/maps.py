"""Class maps on the page: pictures, areas and accuracy; and a page for a single map."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from outcrop import __version__
from outcrop.accuracy.assess import assess
from outcrop.accuracy.assessment import Assessment, read_assessment
from outcrop.errors import OutcropError
from outcrop.files import check_new, new_file
from outcrop.frames import Colour
from outcrop.mapping.openmap import OpenMap, map_colours, open_map
from outcrop.mapping.volume import is_cube
from outcrop.patches.palette import palette
from outcrop.reporting.html import Tile, asset, percent, render_page
from outcrop.reporting.map_panels import (
    applicability_panel,
    check_grid,
    check_layer,
    class_panel,
    percent_panel,
    scene_panel,
    truth_panels,
)
from outcrop.reporting.panels import Panel, size_words
from outcrop.sources.class_raster import open_class_raster
from outcrop.sources.opening import open_grid, open_scene
from outcrop.sources.scene import Scene

LONGEST = 1024
SHOWN = ("dissimilarity", "confidence", "entropy")
_END = "-classes.tif"


@dataclass(frozen=True)
class MapFiles:
    """The files of one class map.

    Attributes:
        classes: the class map.
        layers: existing files by name in `SHOWN`.
        truth: raster of the true classes, or None. Without a coordinate reference system, that of
            the map is assumed.
        truth_classes: names for its values, as for `outcrop.sources.labels.open_labels`.
        assessment: file of the assessment of the map, or None.
    """

    classes: Path
    layers: Mapping[str, Path] = field(default_factory=dict)
    truth: str | Path | None = None
    truth_classes: Sequence[str] | None = None
    assessment: Path | None = None


@dataclass(frozen=True)
class AreaRow:
    """A class of the map, or all of them, in the table of areas.

    Attributes:
        name: name of the class.
        colour: colour of the class; None in the row of all classes.
        pixels: number of pixels in the map.
        share: share of the map's area, 0 to 1.
        mapped: area in the map.
        area: area estimated from the reference.
        users, producers: accuracies in per cent.
    """

    name: str
    colour: Colour | None
    pixels: int
    share: float
    mapped: str
    area: str = ""
    users: str = ""
    producers: str = ""


@dataclass(frozen=True)
class MapPart:
    """A map in the map section.

    Attributes:
        name: name of the file.
        classes: names and colours; those of the map, then those that only the reference has.
        panels: pictures of the same area; the others are laid over the first.
        counts: pixels of each class in the map: int64, `K`.
        hectares: true area of each class in the map: float64, `K`; NaN if it is unknown.
        outside: share of the map outside the area of applicability; NaN if it is unknown.
        assessment: accuracy of the map, or None.
        refused: errors of files that cannot be shown.
    """

    name: str
    classes: tuple[tuple[str, Colour], ...]
    panels: tuple[Panel, ...]
    counts: np.ndarray
    hectares: np.ndarray
    outside: float
    assessment: Assessment | None
    refused: tuple[OutcropError, ...]

    @property
    def unit(self) -> str:
        """Unit of the areas."""
        return "ha" if np.isfinite(self.hectares).all() else "pixels"

    @property
    def rows(self) -> list[AreaRow]:
        """The table of areas: one row per class, and one for all."""
        whole, pixels = int(self.counts.sum()), np.zeros(len(self.classes), np.int64)
        pixels[: len(self.counts)] = self.counts
        area = np.zeros(len(self.classes))
        area[: len(self.counts)] = self.hectares if self.unit == "ha" else self.counts
        total = float(area.sum())
        digits = _digits(total)
        rows = []
        for k, (name, colour) in enumerate(self.classes):
            share = area[k] / total if whole else np.nan
            row = AreaRow(name, colour, int(pixels[k]), share, f"{area[k]:,.{digits}f}")
            if self.assessment is not None:
                found = self.assessment.accuracy
                row = replace(
                    row,
                    area=found.area[k].scaled(self.assessment.whole, digits),
                    users=str(found.users[k]),
                    producers=str(found.producers[k]),
                )
            rows.append(row)
        return [*rows, AreaRow("all", None, whole, 1.0, f"{total:,.{digits}f}")]


def files_beside(
    classes: Path, truth: str | Path | None = None, truth_classes: Sequence[str] | None = None
) -> MapFiles:
    """The files beside `NAME-classes.tif`: `NAME-confidence.tif`, `NAME-assessment.json`, ..."""
    layers = {name: beside(classes, f"{name}.tif") for name in SHOWN}
    assessment = beside(classes, "assessment.json")
    return MapFiles(
        classes,
        {name: path for name, path in layers.items() if path.exists()},
        truth,
        truth_classes,
        assessment if assessment.exists() else None,
    )


def beside(classes: Path, end: str) -> Path:
    """The path `NAME-end` beside `NAME-classes.tif`."""
    return classes.with_name(f"{classes.name.removesuffix(_END)}-{end}")


def map_part(
    files: MapFiles, scene: Scene | None, longest: int = LONGEST, block: float | None = None
) -> MapPart:
    """Prepare the pictures and tables of a class map.

    The map and the rasters beside it are read in windows, and pictures at their own size, so memory
    does not grow with them.

    Args:
        scene: the mapped scene, or None.
        longest: the longer side of the pictures in pixels.
        block: side in metres of the spatial blocks of the bootstrap, if there is a truth and no
            assessment; see `outcrop.accuracy.assess.assess`.

    Raises:
        OutcropError: there is no class map. Files that do not fit it are collected in `refused`.
    """
    opened = open_map(files.classes)
    counts = opened.counts
    refused: list[OutcropError] = []
    panels: list[Panel] = []
    if scene is not None:
        with _collecting(refused):
            check_grid(scene, opened.scene)
            panels.append(scene_panel(scene, longest))
    in_map = map_colours(opened.path)
    classes_panel = class_panel(opened.path, list(in_map.values()), longest)
    layers, outside = _layers(files, opened, classes_panel, longest, refused)
    panels += [classes_panel, *layers]
    assessment = None
    if files.assessment is not None:
        with _collecting(refused):
            assessment = _read(files.assessment, opened)
    if files.truth is not None:
        with _collecting(refused):
            crs, names = opened.scene.crs, files.truth_classes
            if assessment is None:
                assessment = assess(
                    opened.path, files.truth, block=block, labels_crs=crs, classes=names
                )
            truth = open_class_raster(files.truth, crs, names)
            shown = palette(assessment.classes, in_map)
            panels += truth_panels(opened.path, truth, shown, longest)
    classes = opened.classes if assessment is None else assessment.classes
    return MapPart(
        name=opened.path.name,
        classes=tuple(palette(classes, in_map).items()),
        panels=tuple(panels),
        counts=counts,
        hectares=opened.hectares,
        outside=outside,
        assessment=assessment,
        refused=tuple(refused),
    )


def _layers(
    files: MapFiles, opened: OpenMap, class_map: Panel, longest: int, refused: list[OutcropError]
) -> tuple[list[Panel], float]:
    """A panel for each layer, and the share of the map outside the area of applicability."""
    panels, outside = [], np.nan
    for name in SHOWN:
        if name not in files.layers:
            continue
        path = files.layers[name]
        with _collecting(refused):
            check_layer(path, name, opened.scene)
            if name == "dissimilarity":
                panel, outside = applicability_panel(path, class_map)
            else:
                panel = percent_panel(path, name, longest)
            panels.append(panel)
    return panels, outside


def _read(path: Path, opened: OpenMap) -> Assessment:
    found, number = read_assessment(path), len(opened.classes)
    same = found.classes[:number] == opened.classes
    if not same or found.pixels[:number].tolist() != opened.counts.tolist():
        raise OutcropError(
            path, f"assesses another map than {opened.path}; make one with `outcrop.assess`"
        )
    return found


def _digits(area: float) -> int:
    """Number of decimals with which the total area has four significant digits.

    >>> _digits(1483.2), _digits(61.44), _digits(0)
    (0, 2, 0)
    """
    return max(0, 3 - math.floor(math.log10(area))) if area > 0 else 0


@contextmanager
def _collecting(refused: list[OutcropError]) -> Iterator[None]:
    """Collect the error of a part that cannot be shown."""
    try:
        yield
    except OutcropError as error:
        refused.append(error)


MEANINGS = {
    "Area of applicability": "Pixels that are at most as dissimilar to the training patches as "
    "nearly all held-out patches. Outside, neither the score nor the confidence is reliable.",
    "Confidence": "The probability of the class in the map.",
    "Entropy": "How evenly the probabilities are distributed over the classes: 0 % if one class "
    "has probability 1, 100 % if all classes are equally likely.",
    "Errors": "Share of the map's pixels under each point of the picture whose class differs from "
    "the truth.",
}


def write_map_page(
    files: MapFiles,
    scene: Sequence[str | Path] | None = None,
    output: Path | None = None,
    overwrite: bool = False,
) -> Path:
    """Write one HTML page about a class map.

    Args:
        files: the map and the files that belong to it.
        scene: files of the mapped scene.
        output: the page; `MAP.html` beside the map if not given.
        overwrite: whether the page may exist.

    Returns:
        The page.

    Raises:
        OutcropError: there is no class map; a file does not fit it; the page exists; the disk is
            full.
    """
    if is_cube(files.classes):
        raise OutcropError(
            files.classes, "is a class cube, which cannot be shown; pass a class map of a scene"
        )
    output = files.classes.with_suffix(".html") if output is None else output
    check_new(output, overwrite)
    part = map_part(files, None if scene is None else open_scene(scene))
    if part.refused:
        raise part.refused[0]
    page = render_page(
        "map_page.html.j2",
        map=part,
        words=size_words(open_grid(files.classes)),
        tiles=_tiles(part),
        meanings=MEANINGS,
        sources=[Path(path).name for path in (files.truth, files.assessment) if path is not None],
        script=asset("wipe.js"),
        version=__version__,
    )
    with new_file(output) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return output


def _tiles(part: MapPart) -> list[Tile]:
    all_of_it = part.rows[-1]
    mapped = "" if part.unit == "pixels" else f" {part.unit}"
    tiles = [Tile("Mapped", f"{all_of_it.mapped}{mapped}", f"{all_of_it.pixels:,} pixels")]
    if part.assessment is not None:
        overall, found = part.assessment.accuracy.overall, part.assessment
        spread = str(overall).partition(" ")[2]
        tiles.append(
            Tile(
                "Overall accuracy",
                percent(overall.value),
                f"{spread} (95 % interval); {found.counts.sum():,} {found.units} of "
                f"{Path(found.reference).name}",
            )
        )
    if not np.isnan(part.outside):
        tiles.append(Tile("Outside the area of applicability", percent(part.outside), "of the map"))
    return tiles
