"""A page of its own for a class map."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from outcrop import __version__
from outcrop.errors import OutcropError
from outcrop.files import check_new, new_file
from outcrop.mapping.classcube import is_cube
from outcrop.reporting.findings import Tile, percent
from outcrop.reporting.html import asset, render_page
from outcrop.reporting.maps import MapFiles, MapPart, map_part
from outcrop.reporting.panels import size_words
from outcrop.sources.opening import open_grid, open_scene

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
