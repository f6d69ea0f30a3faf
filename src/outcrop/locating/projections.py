"""Figures of the places of patches: three projections of a volume, or points on a scene."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from outcrop.errors import OutcropError
from outcrop.extras import need
from outcrop.files import check_new, new_file
from outcrop.fonts import legible
from outcrop.frames import Colour
from outcrop.locating.located import Located
from outcrop.patches.patchset import PatchSet
from outcrop.patches.positions import in_slice
from outcrop.reporting.html import STYLE, chart, svg
from outcrop.reporting.rasters import read_scene
from outcrop.sources.scene import Scene
from outcrop.sources.stretch import stretches
from outcrop.sources.volumes import Volume

_SUFFIXES = (".png", ".svg", ".pdf")
_VIEWS = ((0, 1), (2, 0), (2, 1))
"""For each projection, the axis that points down and the one that points right."""
_LONGEST = 1000
_INCHES = (3.4, 3.0)


@dataclass(frozen=True, eq=False)
class Cloud:
    """The patches found in one source, as a cloud of points.

    Attributes:
        source: the volume or scene.
        patch: int, the numbers of the patches.
        codes: int, the class of each patch.
        middle: float, `n × 3`, the middle of each patch along the axes of a volume; in a scene 0,
            row and column.
        classes, palette: name and colour of each class.
    """

    source: Scene | Volume
    patch: np.ndarray
    codes: np.ndarray
    middle: np.ndarray
    classes: tuple[str, ...]
    palette: list[Colour]


def clouds(located: Located, patches: PatchSet) -> list[Cloud]:
    """The point cloud of each source that patches were found in."""
    palette, made = list(patches.palette.values()), []
    for number, source in enumerate(located.sources):
        here = np.flatnonzero(located.found & (located.source == number))
        if len(here):
            middle = _middles(located)[here]
            made.append(Cloud(source, here, patches.labels[here], middle, patches.classes, palette))
    return made


def check_picture(path: Path, overwrite: bool = False) -> None:
    """Check the file name of a figure before the search.

    Raises:
        OutcropError: the suffix is not .png, .svg or .pdf; the file exists and `overwrite` is
            false; the folder is missing.
    """
    if path.suffix.lower() not in _SUFFIXES:
        raise OutcropError(
            path, f"the suffix of a figure is one of {', '.join(_SUFFIXES)}; change the name"
        )
    check_new(path, overwrite)


def write_projections(
    path: str | Path, located: Located, patches: PatchSet, overwrite: bool = False
) -> None:
    """Write a figure of the places of each class, with one row per source.

    Args:
        path: output file, .png, .svg or .pdf.
        patches: the patches that were located, in that order.

    Raises:
        OutcropError: as for `check_picture`; a scene cannot be read; the disk is full.
    """
    need("matplotlib", "report")
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    path = Path(path)
    check_picture(path, overwrite)
    found = clouds(located, patches)
    across = len(_VIEWS) if located.from_volume else 1
    rows = max(1, len(found))
    with rc_context(STYLE):
        size = (across * _INCHES[0] + (0 if across > 1 else 3), rows * _INCHES[1] + 0.6)
        figure = Figure(size, layout="constrained")
        places = figure.subplots(rows, across, squeeze=False)
        for cloud, row in zip(found, places, strict=False):
            _draw_cloud(row, cloud)
        figure.suptitle(_title(located), x=0.01, ha="left", fontsize=11)
        _legend(figure, located, patches)
        with new_file(path) as temporary, legible(figure):
            figure.savefig(temporary, dpi=160)


def projections(cloud: Cloud) -> list[Markup]:
    """The three projections of a volume, or a scene with the points on it, as SVG."""
    if isinstance(cloud.source, Scene):
        height, width = cloud.source.height, cloud.source.width
        with chart("", (7.0, 7.0 * min(1.4, height / width))) as (figure, axes):
            _draw_scene(axes, cloud)
        return [svg(figure, "patches by class on the scene")]
    made = []
    for view in _VIEWS:
        with chart("", _INCHES) as (figure, axes):
            _draw_view(axes, cloud, view)
        names = [cloud.source.axes[axis] for axis in view]
        made.append(svg(figure, f"patches by class, {names[1]} against {names[0]}"))
    return made


def _middles(located: Located) -> np.ndarray:
    """The middles of the patches: along the axes of a volume; 0, row and column in a scene."""
    size = np.array(located.size)
    inside = np.stack([located.row, located.column], axis=1) + (size - 1) / 2
    middle = np.zeros((len(located), 3))
    for axis in (-1, 0, 1, 2):
        here = located.axis == axis
        down, right = in_slice(max(axis, 0))
        middle[here, max(axis, 0)] = located.index[here]
        middle[here, down], middle[here, right] = inside[here].T
    return middle


def _draw_cloud(places: Any, cloud: Cloud) -> None:
    if isinstance(cloud.source, Scene):
        _draw_scene(places[0], cloud)
    else:
        for axes, view in zip(places, _VIEWS, strict=True):
            _draw_view(axes, cloud, view)
    places[0].set_title(cloud.source.title)


def _draw_view(axes: Any, cloud: Cloud, view: tuple[int, int]) -> None:
    assert isinstance(cloud.source, Volume)
    down, right = view
    _dots(axes, cloud, cloud.middle[:, right], cloud.middle[:, down], lw=0, alpha=0.7)
    axes.set_xlim(-0.5, cloud.source.shape[right] - 0.5)
    axes.set_ylim(cloud.source.shape[down] - 0.5, -0.5)
    axes.set_xlabel(cloud.source.axes[right])
    axes.set_ylabel(cloud.source.axes[down])


def _draw_scene(axes: Any, cloud: Cloud) -> None:
    scene = cloud.source
    assert isinstance(scene, Scene)
    pixels = read_scene(scene, _LONGEST)
    shown = stretches(pixels, [band.name for band in scene.bands], scene.sensor)[0](pixels)
    ends = (-0.5, scene.width - 0.5, scene.height - 0.5, -0.5)
    axes.imshow(shown, extent=ends, aspect="equal", alpha=0.6)
    axes.grid(visible=False)
    # White outlines separate the points from the scene.
    _dots(axes, cloud, cloud.middle[:, 2], cloud.middle[:, 1], lw=0.6, edgecolors="white")
    axes.set_xlabel("column")
    axes.set_ylabel("row")


def _dots(axes: Any, cloud: Cloud, x: np.ndarray, y: np.ndarray, **style: Any) -> None:
    shades = np.array(cloud.palette)[cloud.codes] / 255
    # Patches are often sorted by class; in that order the last class would hide the others.
    order = np.random.default_rng(0).permutation(len(x))
    area = np.clip(8000 / len(x), 3, 25)
    axes.scatter(x[order], y[order], s=area, c=shades[order], rasterized=True, **style)


def _title(located: Located) -> str:
    lost = int((~located.found).sum())
    return f"{located.found.sum():,} patches found" + (f", {lost:,} not found" if lost else "")


def _legend(figure: Any, located: Located, patches: PatchSet) -> None:
    from matplotlib.lines import Line2D

    marks = []
    for k, (name, colour) in enumerate(patches.palette.items()):
        here = patches.labels == k
        words = f"{name}: {(located.found & here).sum():,} of {here.sum():,}"
        shade = tuple(channel / 255 for channel in colour)
        marks.append(Line2D([], [], marker="o", ls="none", color=shade, label=words))
    figure.legend(handles=marks, loc="outside lower left", ncols=min(4, len(marks)))
