"""The HTML report of the demo on a cube: patches, audit, positions, splits and scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from markupsafe import Markup

from outcrop import __version__
from outcrop.files import new_file, read_json
from outcrop.locating import page as locating
from outcrop.locating.page import scatter_data
from outcrop.locating.projections import Cloud, projections
from outcrop.models.cost import cost_of, short
from outcrop.patches.patchset import PatchSet
from outcrop.reporting.audit import audit_part
from outcrop.reporting.charts import epoch_axis, interval_marks, left_end
from outcrop.reporting.html import (
    EDGE,
    RANDOM,
    SPATIAL,
    TRAINING,
    Tile,
    asset,
    chart,
    ends,
    percent,
    render_page,
    svg,
)
from outcrop.reporting.panels import SIDE_COLOURS, Panel
from outcrop.reporting.rasters import jpeg, png
from outcrop.sources.volumes import open_volume
from outcrop.splits import SIDES
from outcrop.synthetic import findings
from outcrop.synthetic.cube import CLASSES, cube_in
from outcrop.synthetic.findings import plain
from outcrop.synthetic.story import AUDITS, StoryResult
from outcrop.synthetic.trainings import PLAIN, Outcome, Runs

_THUMBS = 8
_NAMES = {
    "neighbourhood": "Neighbourhood augmentation",
    "stochastic depth": "Stochastic depth",
    "both": "Both together",
}
_SMALL = (2.7, 2.3)
_SPLITS = {"random": "random split", "spatial": "spatial split"}


@dataclass(frozen=True)
class Exactness:
    """Numbers of patches by how their located position compares with the truth.

    Attributes:
        name: name of the class, or "all".
        elsewhere: patches located at another voxel.
        lost: patches not found.
    """

    name: str
    patches: int
    exact: int
    elsewhere: int
    lost: int


def write_story(result: StoryResult) -> Path:
    """Write `report.html`, which needs no network and no other file, and return its path.

    Raises:
        OutcropError: the cube is missing; the disk is full.
    """
    output = result.folder / "report.html"
    patches = result.lost.patches
    by_class = list(patches.palette.items())
    cloud = _cloud(result, result.located.labels, patches.classes, list(patches.palette.values()))
    network = result.story.network
    cost = cost_of(network, 1, patches.size, len(patches.classes))
    page = render_page(
        "story.html.j2",
        Path(__file__).parent,
        locating.FOLDER,
        result=result,
        story=result.story,
        patches=patches,
        classes=by_class,
        plain={split: plain(result.outcomes, split) for split in result.splits},
        tiles=_tiles(result),
        sentences=_sentences(result),
        sections=_sections(result),
        thumbs=_thumbs(patches),
        parts={name: audit_part(*result.audits[name]) for name in AUDITS},
        exactness=exactness(result),
        contrast=_contrast(result),
        scores=result.positions.loc[result.positions["found"], ["score", "margin"]],
        scatter_data=scatter_data(cloud),
        projections=projections(cloud),
        splits=_splits(result),
        sides=SIDES,
        side_colours=SIDE_COLOURS,
        curves=[learning_curves(result.runs, variant) for variant, *_ in result.story.variants],
        scores_chart=scores_chart(result.outcomes),
        network=network,
        parameters=short(cost.parameters),
        config=read_json(result.runs["spatial", PLAIN].folder / "config.json", "run", "train"),
        threads=torch.get_num_threads(),
        version=__version__,
        script=asset("scatter.js", locating.FOLDER),
    )
    with new_file(output) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return output


def exactness(result: StoryResult) -> list[Exactness]:
    """One row per class, and one for all patches."""
    labels, found, exact = result.lost.patches.labels, result.positions["found"], result.exact
    groups = [(name, labels == k) for k, name in enumerate(result.lost.patches.classes)]
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


def _tiles(result: StoryResult) -> list[Tile]:
    random, spatial = (plain(result.outcomes, split) for split in result.splits)
    n, exact = len(result.lost.patches), int(result.exact.sum())
    return [
        Tile(
            "Validation score, random split",
            percent(random.validation.balanced.value),
            f"balanced accuracy {ends(random.validation.balanced)}",
        ),
        Tile(
            "Validation score, spatial split",
            percent(spatial.validation.balanced.value),
            f"balanced accuracy {ends(spatial.validation.balanced)} on held-out slabs",
        ),
        Tile(
            "Score on new cubes",
            percent(spatial.new_cubes.balanced.value),
            f"{ends(spatial.new_cubes.balanced)}, same network; network of the random split "
            f"{percent(random.new_cubes.balanced.value)} {ends(random.new_cubes.balanced)}",
        ),
        Tile("Located exactly", f"{exact:,}", f"of {n:,} patches, at the true voxel"),
    ]


def _sentences(result: StoryResult) -> list[str]:
    return [
        *findings.validation_scores(result.outcomes),
        findings.leak_gap_sentence(result.outcomes),
        *findings.effects([one for one in result.outcomes if one.split == "spatial"], _NAMES),
        findings.best_on_new_cubes(result.outcomes),
        *findings.cautions(
            result.outcomes,
            result.audits["spatial"][0],
            int(result.exact.sum()),
            len(result.lost.patches),
        ),
    ]


def _sections(result: StoryResult) -> list[Panel]:
    """The middle slice with samples downwards, and the same with its true classes."""
    axis, files = result.story.axis, cube_in(result.lost.volume.parent)
    middle = result.story.shape[axis] // 2
    pixels, truth = (
        np.take(np.load(path, mmap_mode="r", allow_pickle=False), middle, axis).T
        for path in (files.volume, files.classes)
    )
    low, high = np.percentile(pixels, (1, 99))
    grey = np.rint(255 * np.clip((pixels - low) / (high - low), 0, 1)).astype(np.uint8)
    palette = result.lost.patches.palette
    shade = np.array([(255, 255, 255), *(palette[name] for name in CLASSES)])[truth]
    coloured = np.rint(0.6 * grey[..., None] + 0.4 * shade).astype(np.uint8)
    size = grey.shape[0], grey.shape[1]
    return [
        Panel(f"Slice {middle} across axis {axis}, samples downwards", *size, (jpeg(grey),)),
        Panel("True classes; none near a contact", *size, (jpeg(coloured),)),
    ]


def _thumbs(patches: PatchSet) -> list[tuple[str, list[str]]]:
    """Evenly spaced patches of each class, without positions."""
    shown = []
    for k, name in enumerate(patches.classes):
        here = np.flatnonzero(patches.labels == k)
        chosen = here[np.linspace(0, len(here) - 1, min(_THUMBS, len(here))).astype(int)]
        shown.append((name, [png(image[0].T) for image in patches.take(chosen)]))
    return shown


def _cloud(
    result: StoryResult, codes: np.ndarray, names: tuple[str, ...], palette: list[Any]
) -> Cloud:
    assert result.located.positions is not None
    middle = result.located.positions.middle
    volume = open_volume(result.lost.volume)
    return Cloud(volume, np.arange(len(codes)), codes, middle, names, palette)


def _contrast(result: StoryResult) -> tuple[float, float]:
    """The median errors of gain (relative) and offset (grey values) of the patches found."""
    found = result.positions["found"].to_numpy(bool)
    here, truth = result.positions[found], result.lost.truth[found]
    gain = np.abs(here["gain"].to_numpy() / truth["gain"].to_numpy() - 1)
    offset = np.abs(here["offset"].to_numpy() - truth["offset"].to_numpy())
    return float(np.median(gain)), float(np.median(offset))


def _splits(result: StoryResult) -> list[dict[str, Any]]:
    """Both splits as projections of the cube, with numbers of patches."""
    palette = [SIDE_COLOURS[side] for side in range(len(SIDES))]
    return [
        {
            "name": name,
            "split": split,
            "figures": projections(_cloud(result, split.sides.astype(int), SIDES, palette)),
            "counts": split.counts(result.located.labels, len(result.located.classes)),
        }
        for name, split in result.splits.items()
    ]


def learning_curves(runs: Runs, variant: str) -> Markup:
    """A chart of training and validation accuracy by epoch of one variant under both splits."""
    with chart(variant, _SMALL) as (figure, axes):
        for split, colour in (("random", RANDOM), ("spatial", SPATIAL)):
            metrics = runs[split, variant].metrics
            epochs = [one.epoch for one in metrics]
            trained = [100 * one.train.accuracy for one in metrics]
            validated = [100 * one.validation.accuracy for one in metrics if one.validation]
            axes.plot(epochs, trained, color=colour, lw=1.1, ls=(0, (4, 2)), alpha=0.7)
            axes.plot(epochs, validated, color=colour)
        epoch_axis(axes, epochs)
        axes.set_ylim(0, 103)
        axes.set_ylabel("accuracy (%)")
    return svg(figure, f"accuracy by epoch under both splits, {variant}")


def scores_chart(outcomes: Sequence[Outcome]) -> Markup:
    """A chart of balanced accuracy of each training on validation patches and new cubes."""
    with chart("", (6.6, 1.0 + 0.46 * len(outcomes))) as (figure, axes):
        validation = [one.validation.balanced for one in outcomes]
        new = [one.new_cubes.balanced for one in outcomes]
        at = np.arange(len(outcomes))
        for y, one in zip(at, outcomes, strict=True):
            pair = (100 * one.validation.balanced.value, 100 * one.new_cubes.balanced.value)
            axes.plot(pair, (y + 0.12, y + 0.12), color=EDGE, lw=1, zorder=1)
            place, words = axes.get_yaxis_transform(), f"{one.variant}, {_SPLITS[one.split]}"
            axes.text(0, y - 0.3, words, transform=place, va="center", fontsize=9.5)
        for found, colour, mark, name, shift in (
            (validation, TRAINING, "D", "validation side of its split", 0.02),
            (new, SPATIAL, "o", "new cubes", 0.24),
        ):
            interval_marks(axes, at + shift, found, colour, mark, name)
        axes.set_yticks([])
        axes.spines.left.set_visible(False)
        axes.set_ylim(len(outcomes) - 0.5, -0.6)
        axes.set_xlim(left_end([*validation, *new]), 102)
        axes.grid(axis="y", visible=False)
        axes.set_xlabel("balanced accuracy (%), with 95 % intervals")
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, borderpad=0)
    return svg(figure, "balanced accuracy of each training")
