"""Cut labelled patches out of scenes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np

from outcrop.errors import OutcropError
from outcrop.frames import Colour
from outcrop.patches.collect import Batch, check_classes, collect, without_images
from outcrop.patches.palette import given_colours
from outcrop.patches.patchset import Column, PatchSet, check_output
from outcrop.patches.positions import Positions, Size, Source, sides, upper_left
from outcrop.patches.samples import (
    by_tile,
    check_numbers,
    common_crs,
    draw,
    in_tile_order,
    inside,
    join_positions,
    positions_of,
    with_data,
)
from outcrop.progress import warn
from outcrop.sources.features import dropped_text
from outcrop.sources.kinds import open_all_scenes
from outcrop.sources.labels import LabelledPixels, Labels, open_label_files
from outcrop.sources.memory import AnyLabels, AnyScene, as_list
from outcrop.sources.metric import metric_systems
from outcrop.sources.reading import Reading
from outcrop.sources.scene import Scene, SceneReader

_BATCH = 2048
SIZE, LEAST_SIZE = 33, 9


def default_size(scenes: Sequence[Scene]) -> int:
    """The default size of patches; a note is printed if it is not 33 pixels.

    It is an odd number: a tenth of the shorter side of the smallest scene, from 9 to 33 pixels. In
    a small scene almost all larger patches would overlap, and none could be held out.
    """
    shortest = min(min(scene.height, scene.width) for scene in scenes)
    tenth = shortest // 10
    size = min(SIZE, max(tenth - 1 + tenth % 2, LEAST_SIZE), shortest - 1 + shortest % 2)
    if size < SIZE:
        warn(
            f"patches are {size} × {size} pixels, because the scene is {shortest} pixels "
            "across; `size` sets another size"
        )
    return size


def cut(
    scenes: AnyScene | Sequence[AnyScene],
    labels: AnyLabels | Sequence[AnyLabels],
    column: str | None = None,
    size: int | None = None,
    *,
    bands: Sequence[int | str] | None = None,
    reading: Reading = Reading(),
    stride: int = 1,
    edge: Literal["reflect", "drop"] = "reflect",
    per_class: int | None = None,
    keep: Sequence[str] = (),
    classes: Sequence[str] | None = None,
    colours: Mapping[str, Colour | str] | Sequence[str] | None = None,
    crs: str | None = None,
    labels_crs: str | None = None,
    layer: str | None = None,
    encoding: str | None = None,
    seed: int = 0,
    output: str | Path | None = None,
    overwrite: bool = False,
) -> PatchSet:
    """Cut a patch around labelled pixels of one scene or several.

    A patch has the label of its centre pixel (`outcrop.patches.positions.upper_left`). Pixels
    without data are NaN. A labelled pixel that has no data in a band is dropped and counted.

    Args:
        scenes: raster files, products, open scenes or DataArrays. Single-band files of the same
            area are the bands of one scene (`outcrop.sources.opening.open_scenes`).
        labels: polygons, points or a label raster, as files or GeoDataFrames; one for all scenes or
            one per scene.
        column: name of the class column of vector labels.
        size: height and width of a patch in pixels; odd sizes have the labelled pixel in the
            centre. `default_size` by default.
        bands: bands to use, by number from 1 or by name.
        reading: how files are read: resolution, physical or raw values, masks.
        stride: keep only labelled pixels on every `stride`-th row and column (1 for points).
        edge: what to do with patches that extend beyond the edge of the scene: mirror the scene
            about its outermost pixels ("reflect"), or drop the patches ("drop").
        per_class: largest number of patches per class, drawn at random.
        keep: additional columns of the labels to keep, for example to split by. A missing value
            becomes "(missing)".
        classes: names for the values of label rasters, in ascending order, or as VALUE=NAME.
        colours: colours of classes by name, as red, green and blue or as "#rrggbb", or as
            NAME=COLOUR; otherwise those in the style or colour table of the labels are kept.
        crs, labels_crs: coordinate reference systems of files that have none.
        layer: layer of vector labels that have several.
        encoding: text encoding of vector labels that declare none or a wrong one.
        seed: random seed for `per_class`.
        output: folder for the patch set, which is written tile by tile; without it the patches are
            kept in memory.
        overwrite: whether `output` may exist.

    Returns:
        The patches in the order of scenes, tiles of 512 pixels, rows and columns. Positions are
        in metres, in systems with a scale error of 1 % at most (`outcrop.sources.geodesy`).

    Raises:
        OutcropError: a scene or a file of labels cannot be used; there are no patches, or only one
            class.
    """
    check_numbers(seed, size=size, stride=stride, per_class=per_class)
    check_output(output, overwrite)
    opened = open_all_scenes(as_list(scenes), bands, crs, reading)
    if size is None:
        size = default_size(opened)
    for scene in opened:
        if size > min(scene.height, scene.width):
            raise OutcropError(
                scene.title,
                f"is {scene.height} × {scene.width} pixels, smaller than a patch of {size}; "
                "use a smaller `size`",
            )
    files = as_list(labels)
    if len(files) not in (1, len(opened)):
        raise OutcropError(
            "`labels`",
            f"{len(files)} files for {len(opened)} scenes; give one for all or one for each",
        )
    layers = open_label_files(files, column, classes, labels_crs, layer, encoding)
    dropped: Counter[str] = Counter()
    for of_file in layers:
        dropped.update(of_file.dropped)
    if len(layers) == 1:
        layers *= len(opened)
    chosen, gaps = [], False
    for scene, of_file in zip(opened, layers, strict=True):
        pixels, gap = _choose(scene, of_file, size, stride, edge, dropped)
        chosen.append(pixels)
        gaps |= gap
    if not any(map(len, chosen)):
        raise OutcropError(layers[0].path, _nothing(opened, dropped))
    dtype = np.dtype("float32") if gaps else np.result_type(*(scene.dtype for scene in opened))
    patches = _annotate(opened, layers, chosen, size, keep, dropped)
    given = given_colours(patches.classes, [layer.colours for layer in layers], colours)
    patches = replace(patches, colours=given)
    if per_class is not None:
        patches = patches.subset(draw(patches.labels, per_class, seed))
    check_classes(patches, layers[0].path)
    assert patches.positions is not None
    images = scene_images(opened, patches.positions, size)
    return collect(patches, images, size, dtype, output, overwrite)


def cut_at(
    reader: SceneReader, row: np.ndarray, column: np.ndarray, size: Size
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Cut patches around given centre pixels; the scene is read tile by tile.

    Args:
        row, column: int, `N`, centre pixels.

    Yields:
        Indices into `row`, and their patches: `n × bands × height × width`.
    """
    height, width = sides(size)
    for index in by_tile(row, column):
        top, left = upper_left(row[index], height), upper_left(column[index], width)
        window = reader.read(
            int(top.min()), int(left.min()), int(np.ptp(top)) + height, int(np.ptp(left)) + width
        )
        every = np.lib.stride_tricks.sliding_window_view(window, (height, width), axis=(1, 2))
        for start in range(0, len(index), _BATCH):
            part = slice(start, start + _BATCH)
            batch = every[:, top[part] - top.min(), left[part] - left.min()]
            yield index[part], batch.swapaxes(0, 1)


def _choose(
    scene: Scene, layer: Labels, size: int, stride: int, edge: str, dropped: Counter[str]
) -> tuple[LabelledPixels, bool]:
    """The labelled pixels of a scene that become patches, and whether patches may have gaps."""
    pixels = layer.on(scene)
    dropped.update(pixels.dropped)
    pixels = pixels[(pixels.row % stride == 0) & (pixels.column % stride == 0)]
    if edge == "drop":
        whole = inside(scene, pixels, size)
        dropped["edge"] += int((~whole).sum())
        pixels = pixels[whole]
    valid, gaps = with_data(scene, pixels, size)
    dropped["no data"] += int((~valid).sum())
    return in_tile_order(pixels[valid]), gaps


def _annotate(
    scenes: Sequence[Scene],
    layers: Sequence[Labels],
    chosen: Sequence[LabelledPixels],
    size: int,
    keep: Sequence[str],
    dropped: Counter[str],
) -> PatchSet:
    """A patch set without images."""
    classes = tuple(dict.fromkeys(name for layer in layers for name in layer.classes))
    systems = metric_systems(scenes)
    parts, labels, first_polygon = [], [], 0
    for i, (scene, layer, pixels) in enumerate(zip(scenes, layers, chosen, strict=True)):
        parts.append(positions_of(scene, pixels, i, size, systems[i], first_polygon))
        labels.append(np.array([classes.index(name) for name in layer.classes])[pixels.label])
        if layer is not layers[-1] or not layer.across_scenes:
            first_polygon += int(pixels.polygon.max(initial=-1)) + 1
    positions = join_positions(parts)
    return PatchSet(
        images=without_images(len(positions), len(scenes[0].bands)),
        labels=np.concatenate(labels),
        classes=classes,
        bands=scenes[0].band_names,
        positions=positions,
        sources=tuple(map(Source.of, scenes, systems)),
        crs=common_crs(systems),
        columns={name: _column(name, layers, chosen) for name in keep},
        dropped={reason: count for reason, count in dropped.items() if count},
        reading=how_read(scenes),
    )


def _column(name: str, layers: Sequence[Labels], chosen: Sequence[LabelledPixels]) -> Column:
    values = [
        layer.attribute(name, pixels.polygon) for layer, pixels in zip(layers, chosen, strict=True)
    ]
    return Column.of(np.concatenate(values).astype(str))


def scene_images(scenes: Sequence[Scene], positions: Positions, size: Size) -> Iterator[Batch]:
    """Cut patches of scenes, scene after scene and tile after tile."""
    for number, scene in enumerate(scenes):
        here = np.flatnonzero(positions.source == number)
        with scene.reader() as reader:
            for index, pixels in cut_at(reader, positions.row[here], positions.column[here], size):
                yield here[index], pixels


def how_read(scenes: Sequence[Scene]) -> Reading:
    """How the scenes of a patch set were read. The mask of each scene is stored with its source.

    Raises:
        OutcropError: they were read in different ways.
    """
    readings = [replace(scene.reading, mask=[]) for scene in scenes]
    for scene, reading in zip(scenes, readings, strict=True):
        if reading != readings[0]:
            raise OutcropError(
                scene.title,
                f"was opened with other options than {scenes[0].title}; use the same for both",
            )
    return readings[0]


def _nothing(scenes: Sequence[Scene], dropped: Counter[str]) -> str:
    reasons = [dropped_text(*item) for item in dropped.items() if item[1]]
    if any(dropped[reason] for reason in ("conflict", "edge", "no data")):
        return (
            f"gives no patch: every label was dropped ({'; '.join(reasons)}); "
            "label pixels that the scene covers"
        )
    names = scenes[0].title + (f" and {len(scenes) - 1} more" if len(scenes) > 1 else "")
    return f"labels no pixel of {names}; check that both cover the same area"
