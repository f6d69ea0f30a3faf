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
from outcrop.mapping.openmap import OpenMap, class_hectares, count_classes, open_map
from outcrop.mapping.volume import is_cube
from outcrop.patches.palette import Colour, colours
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
        layers: files by name in `SHOWN`, as far as there are any.
        truth: a raster of the true classes, if one is known. One that carries no CRS is in the
            map's.
        truth_classes: names for its values, as `outcrop.sources.labels.open_labels` takes them.
        assessment: of the map, if there is one.
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
        name: of the class.
        colour: None in the row of all.
        pixels: in the map.
        share: of the map's area.
        mapped, area: what the map gives to it, and what the reference tells of it.
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
    """A map of the map section.

    Attributes:
        name: of the file.
        classes: names and colours; those of the map, then those of its reference alone.
        panels: of one ground; the first is what the others are laid over.
        counts: pixels of each class in the map: int64, `K`.
        hectares: true area of each class in the map: float64, `K`; NaN where it is unknown.
        outside: share of the map outside the area of applicability; NaN where that is not known.
        assessment: how good the map is, where that is known.
        refused: what could not be shown, and why.
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
        """What areas are counted in."""
        return "ha" if np.isfinite(self.hectares).all() else "pixels"

    @property
    def rows(self) -> list[AreaRow]:
        """The table of areas: a row for each class, and one for all."""
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
    classes: Path,
    truth: str | Path | None = None,
    truth_classes: Sequence[str] | None = None,
) -> MapFiles:
    """What lies beside `NAME-classes.tif`: `NAME-confidence.tif`, `NAME-assessment.json`, ..."""
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
    """The file called `NAME-end` beside `NAME-classes.tif`."""
    return classes.with_name(f"{classes.name.removesuffix(_END)}-{end}")


def map_part(
    files: MapFiles, scene: Scene | None, longest: int = LONGEST, block: float | None = None
) -> MapPart:
    """What the page shows of a class map.

    The map, and rasters beside it, are read in windows, and pictures small, so that memory does
    not grow with them.

    Args:
        scene: what was mapped, if it is there.
        longest: the longer side of the pictures in pixels.
        block: side in metres of the blocks of ground that are resampled, if there is a truth and no
            assessment; see `outcrop.accuracy.assess.assess`.

    Raises:
        OutcropError: there is no class map. What does not fit it is left out, and told.
    """
    opened = open_map(files.classes)
    counts = count_classes(opened.path)
    refused: list[OutcropError] = []
    panels: list[Panel] = []
    if scene is not None:
        with _told(refused):
            check_grid(scene, opened.scene)
            panels.append(scene_panel(scene, longest))
    said = class_panel(opened.path, opened.classes, longest)
    layers, outside = _layers(files, opened, said, longest, refused)
    panels += [said, *layers]
    assessment = None
    if files.assessment is not None:
        with _told(refused):
            assessment = _read(files.assessment, opened, counts)
    if files.truth is not None:
        with _told(refused):
            crs, names = opened.scene.crs, files.truth_classes
            if assessment is None:
                assessment = assess(
                    opened.path, files.truth, block=block, labels_crs=crs, classes=names
                )
            truth = open_class_raster(files.truth, crs, names)
            panels += truth_panels(opened.path, truth, assessment.classes, longest)
    classes = opened.classes if assessment is None else assessment.classes
    return MapPart(
        name=opened.path.name,
        classes=tuple(zip(classes, colours(classes), strict=True)),
        panels=tuple(panels),
        counts=counts,
        hectares=class_hectares(opened.path, counts, opened.pixel_areas),
        outside=outside,
        assessment=assessment,
        refused=tuple(refused),
    )


def _layers(
    files: MapFiles, opened: OpenMap, said: Panel, longest: int, refused: list[OutcropError]
) -> tuple[list[Panel], float]:
    """A panel for each layer, and the share of the map outside the area of applicability."""
    panels, outside = [], np.nan
    for name in SHOWN:
        if name not in files.layers:
            continue
        path = files.layers[name]
        with _told(refused):
            check_layer(path, name, opened.scene)
            if name == "dissimilarity":
                panel, outside = applicability_panel(path, said)
            else:
                panel = percent_panel(path, name, longest)
            panels.append(panel)
    return panels, outside


def _read(path: Path, opened: OpenMap, counts: np.ndarray) -> Assessment:
    found, number = read_assessment(path), len(opened.classes)
    same = found.classes[:number] == opened.classes
    if not same or found.pixels[:number].tolist() != counts.tolist():
        raise OutcropError(
            path, f"is of another map than {opened.path}; make one with `outcrop assess`"
        )
    return found


def _digits(area: float) -> int:
    """Decimals of areas, so that four figures of the whole are seen.

    >>> _digits(1483.2), _digits(61.44), _digits(0)
    (0, 2, 0)
    """
    return max(0, 3 - math.floor(math.log10(area))) if area > 0 else 0


@contextmanager
def _told(refused: list[OutcropError]) -> Iterator[None]:
    """Leave out what cannot be shown, and keep the reason."""
    try:
        yield
    except OutcropError as error:
        refused.append(error)


MEANINGS = {
    "Area of applicability": "Ground as similar to what the model was trained on as nearly all on "
    "which it was judged. Outside, neither the score nor the confidence can be relied on.",
    "Confidence": "The probability that the model gives to the class it says.",
    "Entropy": "How evenly the probabilities are spread over the classes: 0 % where one has all, "
    "100 % where all are equally likely.",
    "Errors": "Share of the pixels under each point of the picture whose class is not that of the "
    "truth.",
}


def write_map_page(
    files: MapFiles,
    scene: Sequence[str | Path] | None = None,
    output: Path | None = None,
    overwrite: bool = False,
) -> Path:
    """Write one HTML page about a class map.

    Args:
        files: the map, and what belongs to it.
        scene: the files of what was mapped.
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
            files.classes, "is a class cube, which has no page yet; pass a class map of a scene"
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
        told = str(overall).partition(" ")[2]
        tiles.append(
            Tile(
                "Overall accuracy",
                percent(overall.value),
                f"{told}; {found.counts.sum():,} {found.units} of {Path(found.reference).name}",
            )
        )
    if not np.isnan(part.outside):
        tiles.append(Tile("Outside the area of applicability", percent(part.outside), "of the map"))
    return tiles
