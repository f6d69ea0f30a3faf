"""The page of a whole story: what was handed over, found, and what the scores are worth."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from outcrop import __version__
from outcrop.files import new_file, read_json
from outcrop.locating import page as locating
from outcrop.locating.page import scatter_data
from outcrop.locating.projections import Cloud, projections
from outcrop.models.cost import cost_of, short
from outcrop.patches.palette import colours
from outcrop.patches.patchset import PatchSet
from outcrop.reporting.audit import audit_part
from outcrop.reporting.html import Tile, asset, ends, percent, render_page
from outcrop.reporting.panels import SIDE_COLOURS, Panel
from outcrop.reporting.rasters import jpeg, png
from outcrop.sources.volumes import open_volume
from outcrop.splits import SIDES
from outcrop.synthetic import verdicts
from outcrop.synthetic.charts import learning_curves, promise_chart
from outcrop.synthetic.cube import CLASSES, cube_in
from outcrop.synthetic.story import AUDITS, Told
from outcrop.synthetic.trainings import PLAIN
from outcrop.synthetic.verdicts import plain

_THUMBS = 8
_NAMES = {
    "neighbourhood": "Neighbourhood augmentation",
    "stochastic depth": "Stochastic depth",
    "both": "Both together",
}


@dataclass(frozen=True)
class Exactness:
    """How the recovered positions compare with the truth; counts of patches.

    Attributes:
        name: of the class, or "all".
        patches: that were handed over.
        exact: found at the very voxel where they were cut.
        elsewhere: found at another.
        lost: not found.
    """

    name: str
    patches: int
    exact: int
    elsewhere: int
    lost: int


def write_story(told: Told) -> Path:
    """Write `report.html` into the story's folder; it needs no network and no other file.

    Returns:
        The page.

    Raises:
        OutcropError: the cube is gone; the disk is full.
    """
    output = told.folder / "report.html"
    page = render_page("story.html.j2", Path(__file__).parent, locating.FOLDER, **_content(told))
    with new_file(output) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return output


def exactness(told: Told) -> list[Exactness]:
    """A row for each class, and one for all."""
    labels, found, exact = told.wild.patches.labels, told.positions["found"], told.exact
    groups = [(name, labels == k) for k, name in enumerate(told.wild.patches.classes)]
    return [
        Exactness(
            name,
            int(here.sum()),
            int((here & exact).sum()),
            int((here & found & ~exact).sum()),
            int((here & ~found).sum()),
        )
        for name, here in [*groups, ("all", np.ones(len(labels), bool))]
    ]


def _content(told: Told) -> dict[str, Any]:
    patches = told.wild.patches
    by_class = list(zip(patches.classes, colours(patches.classes), strict=True))
    cloud = _cloud(told, told.located.labels, patches.classes, colours(patches.classes))
    network = told.story.network
    cost = cost_of(network, 1, patches.size, len(patches.classes))
    return {
        "told": told,
        "story": told.story,
        "patches": patches,
        "classes": by_class,
        "plain": {split: plain(told.outcomes, split) for split in ("random", "ground")},
        "tiles": _tiles(told),
        "sentences": _sentences(told),
        "sections": _sections(told),
        "thumbs": _thumbs(patches),
        "parts": {name: audit_part(*told.audits[name]) for name in AUDITS},
        "exactness": exactness(told),
        "contrast": _contrast(told),
        "scores": told.positions.loc[told.positions["found"], ["score", "margin"]],
        "scatter_data": scatter_data(cloud),
        "projections": projections(cloud),
        "splits": _splits(told),
        "sides": SIDES,
        "side_colours": SIDE_COLOURS,
        "curves": [
            learning_curves({split: told.runs[split, way] for split in ("random", "ground")}, way)
            for way, *_ in told.story.ways
        ],
        "promises": promise_chart(told.outcomes),
        "names": _NAMES,
        "network": network,
        "parameters": short(cost.parameters),
        "config": read_json(told.runs["ground", PLAIN].folder / "config.json", "run", "train"),
        "threads": _threads(),
        "version": __version__,
        "script": asset("scatter.js", locating.FOLDER),
    }


def _threads() -> int:
    import torch

    return torch.get_num_threads()


def _tiles(told: Told) -> list[Tile]:
    random, ground = (plain(told.outcomes, split) for split in ("random", "ground"))
    n, exact = len(told.wild.patches), int(told.exact.sum())
    return [
        Tile(
            "Promised by the split at random",
            percent(random.promised.balanced.value),
            f"balanced accuracy {ends(random.promised.balanced)}",
        ),
        Tile(
            "Promised by the split by ground",
            percent(ground.promised.balanced.value),
            f"balanced accuracy {ends(ground.promised.balanced)} on slabs held out",
        ),
        Tile(
            "Kept on new cubes",
            percent(ground.kept.balanced.value),
            f"{ends(ground.kept.balanced)} by the same network; that of the split at random "
            f"{percent(random.kept.balanced.value)} {ends(random.kept.balanced)}",
        ),
        Tile("Located exactly", f"{exact:,}", f"of {n:,} patches, to the very voxel"),
    ]


def _sentences(told: Told) -> list[str]:
    return [
        *verdicts.promises(told.outcomes),
        verdicts.leak_gap_words(told.outcomes),
        *verdicts.effects([one for one in told.outcomes if one.split == "ground"], _NAMES),
        verdicts.best_on_new_ground(told.outcomes),
        *verdicts.cautions(
            told.outcomes,
            told.audits["ground"][0],
            int(told.exact.sum()),
            len(told.wild.patches),
        ),
    ]


def _sections(told: Told) -> list[Panel]:
    """The middle slice, samples downwards; and its truth over it."""
    axis, files = told.story.axis, cube_in(told.wild.volume.parent)
    middle = told.story.shape[axis] // 2
    pixels, truth = (
        np.take(np.load(path, mmap_mode="r", allow_pickle=False), middle, axis).T
        for path in (files.volume, files.classes)
    )
    low, high = np.percentile(pixels, (1, 99))
    grey = np.rint(255 * np.clip((pixels - low) / (high - low), 0, 1)).astype(np.uint8)
    palette = dict(zip(told.wild.patches.classes, colours(told.wild.patches.classes), strict=True))
    shade = np.array([(255, 255, 255), *(palette[name] for name in CLASSES)])[truth]
    coloured = np.rint(0.6 * grey[..., None] + 0.4 * shade).astype(np.uint8)
    size = grey.shape[0], grey.shape[1]
    return [
        Panel(f"Slice {middle} across axis {axis}, samples downwards", *size, (jpeg(grey),)),
        Panel("Its truth; near a contact there is no class", *size, (jpeg(coloured),)),
    ]


def _thumbs(patches: PatchSet) -> list[tuple[str, list[str]]]:
    """Some patches of each class as they were handed over, every so-manieth."""
    shown = []
    for k, name in enumerate(patches.classes):
        here = np.flatnonzero(patches.labels == k)
        chosen = here[np.linspace(0, len(here) - 1, min(_THUMBS, len(here))).astype(int)]
        shown.append((name, [png(image[0].T) for image in patches.take(chosen)]))
    return shown


def _cloud(told: Told, codes: np.ndarray, names: tuple[str, ...], palette: list[Any]) -> Cloud:
    assert told.located.positions is not None
    middle = told.located.positions.middle
    volume = open_volume(told.wild.volume)
    return Cloud(volume, np.arange(len(codes)), codes, middle, names, palette)


def _contrast(told: Told) -> tuple[float, float]:
    """The largest errors of gain (relative) and offset (grey values) of the patches found."""
    found = told.positions["found"].to_numpy(bool)
    here, truth = told.positions[found], told.wild.truth[found]
    gain = np.abs(here["gain"].to_numpy() / truth["gain"].to_numpy() - 1)
    offset = np.abs(here["offset"].to_numpy() - truth["offset"].to_numpy())
    return float(np.median(gain)), float(np.median(offset))


def _splits(told: Told) -> list[dict[str, Any]]:
    """Both splits, drawn on the cube and counted."""
    palette = [SIDE_COLOURS[side] for side in range(len(SIDES))]
    return [
        {
            "name": name,
            "split": split,
            "pictures": projections(_cloud(told, split.sides.astype(int), SIDES, palette)),
            "counts": split.counts(told.located.labels, len(told.located.classes)),
        }
        for name, split in (("random", told.random), ("ground", told.ground))
    ]
