"""Cut patches from scenes or volumes at the positions in a table."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from outcrop.errors import OutcropError
from outcrop.frames import Colour
from outcrop.patches.collect import Batch, check_classes, collect, without_images
from outcrop.patches.cut import how_read, scene_images
from outcrop.patches.cut_volume import check_size, common_dtype, volume_images, with_samples
from outcrop.patches.palette import given_colours
from outcrop.patches.patchset import Column, PatchSet, check_output
from outcrop.patches.positions import Positions, Source, fitting, volume_positions
from outcrop.patches.samples import (
    check_numbers,
    common_crs,
    draw,
    join_positions,
    positions_of,
    with_data,
)
from outcrop.patches.table import (
    Centres,
    Table,
    by_slice,
    centres_by_lines,
    found,
    names_lines,
    read_table,
)
from outcrop.sources.class_raster import names_of_values
from outcrop.sources.collections.collection import band_names
from outcrop.sources.kinds import are_volumes, open_all_scenes, open_all_volumes, reject_options
from outcrop.sources.labels import LabelledPixels
from outcrop.sources.memory import as_list
from outcrop.sources.metric import metric_systems
from outcrop.sources.names import file_name
from outcrop.sources.reading import Reading
from outcrop.sources.scene import Scene
from outcrop.sources.volumes import Volume


@dataclass(frozen=True)
class _Rows:
    """The rows of a table, for scenes or for volumes.

    Attributes:
        positions: positions of the rows.
        repeated: bool, `N`, whether an earlier row has the same position.
        valid: bool, `N`, whether the centre pixel has data in every band.
        inside: bool, `N`, whether the patch lies inside its source.
        dtype: dtype of the patches.
        images: function that cuts patches.
        sources, bands, crs, reading: as in `PatchSet`.
    """

    positions: Positions
    repeated: np.ndarray
    valid: np.ndarray
    inside: np.ndarray
    dtype: np.dtype
    images: Callable[[Positions], Iterator[Batch]]
    sources: tuple[Source, ...]
    bands: tuple[str, ...]
    crs: str | None = None
    reading: Reading = Reading()


def cut_at_positions(
    sources: str | Path | Scene | Volume | Sequence[str | Path | Scene | Volume],
    positions: str | Path,
    column: str = "label",
    size: int = 33,
    *,
    axis: int | None = None,
    bands: Sequence[int | str] | None = None,
    reading: Reading = Reading(),
    crs: str | None = None,
    keep: Sequence[str] = (),
    classes: Sequence[str] | None = None,
    colours: Mapping[str, Colour | str] | Sequence[str] | None = None,
    per_class: int | None = None,
    seed: int = 0,
    output: str | Path | None = None,
    overwrite: bool = False,
) -> PatchSet:
    """Cut patches at the positions in a table.

    The table has a header and one row per patch: `row` and `column` of the upper-left pixel, from
    0, the class, and for volumes `axis` and `index` of the slice. For volumes with coordinates
    (SEG-Y, NetCDF), the table may instead have `inline`, `crossline` and `time` or `depth` of the
    labelled pixel, which is the centre of the patch. Such patches are dropped and counted if they
    extend beyond the slice. `source` names one of several sources by file, file name, or file name
    without extension. Rows with `found` = false (written by `outcrop locate`), patches whose centre
    pixel has no data, and rows that repeat a position are left out and counted. Other columns are
    ignored, also `flip`: pixels are not flipped.

    Sources are read slab by slab or tile by tile, for any order of the rows.

    Args:
        sources: scenes, or volumes.
        positions: CSV file, or Parquet file if the name ends in .parquet.
        column: name of the class column.
        size, reading, colours, per_class, seed, output, overwrite: as in `outcrop.cut`.
        axis: axis perpendicular to all slices, from 0, for a table without that column.
        bands: bands of scenes to use, by number from 1 or by name.
        crs: coordinate reference system of scenes that have none.
        keep: additional columns of the table to keep, for example to split by.
        classes: names for the whole numbers in the class column, in ascending order, or each as
            `VALUE=NAME`. Default: the values are the names.

    Returns:
        The patches in the order of the table. Patches of volumes have the band "grey".

    Raises:
        OutcropError: a source or the table cannot be used; the message names the first faulty line
            of the table.
    """
    check_numbers(seed, size=size, per_class=per_class)
    check_output(output, overwrite)
    table = read_table(positions)
    here = found(table)
    dropped = Counter({"not found": int((~here).sum())})
    if not here.any():
        raise OutcropError(table.path, "has no row with found = true; add positions first")
    table = table[here]
    names, labels = _classes(table, column, classes)
    given = as_list(sources)
    if are_volumes(given):
        reject_options("volumes", bands=bands, crs=crs)
        rows = _in_volumes(open_all_volumes(given), table, labels, axis, size)
    else:
        reject_options("scenes", axis=axis)
        rows = _in_scenes(open_all_scenes(given, bands, crs, reading), table, labels, size)
    if not rows.inside.any():
        raise OutcropError(
            table.path,
            f"gives no patch: all {len(table)} extend beyond the edge; use a smaller `size`",
        )
    valid = rows.valid & rows.inside
    if not valid.any():
        raise OutcropError(
            table.path,
            f"gives no patch: none of {len(table)} has data at its centre; correct the positions",
        )
    dropped["edge"] += int((~rows.inside).sum())
    dropped["no data"] += int((rows.inside & ~rows.valid).sum())
    dropped["same place as another"] += int((rows.repeated & valid).sum())
    patches = PatchSet(
        images=without_images(len(table), len(rows.bands)),
        labels=labels,
        classes=names,
        bands=rows.bands,
        positions=rows.positions,
        sources=rows.sources,
        crs=rows.crs,
        reading=rows.reading,
        columns={name: Column.of(table.words(name)) for name in keep},
        dropped={reason: count for reason, count in dropped.items() if count},
        colours=given_colours(names, [], colours),
    ).subset(valid & ~rows.repeated)
    if per_class is not None:
        patches = patches.subset(draw(patches.labels, per_class, seed))
    check_classes(patches, table.path)
    assert patches.positions is not None
    images = rows.images(patches.positions)
    return collect(patches, images, size, rows.dtype, output, overwrite, ordered=False)


def _classes(
    table: Table, column: str, classes: Sequence[str] | None
) -> tuple[tuple[str, ...], np.ndarray]:
    """The class names, and the class of each row as an index."""
    words = table.words(column)
    if classes is None:
        names, labels = np.unique(words, return_inverse=True)
        return tuple(map(str, names)), labels
    whole = np.array([re.fullmatch(r"-?\d+", word) is not None for word in words])
    table.refuse(
        ~whole,
        lambda i: (
            f"has '{words[i]}' as {column}, and `classes` names whole numbers; leave `classes` out"
        ),
    )
    values = words.astype(np.int64)
    named = names_of_values(set(values.tolist()), classes, table.path)
    order = list(dict.fromkeys(named[value] for value in sorted(set(values.tolist()))))
    return tuple(order), np.array([order.index(named[value]) for value in values.tolist()])


def _in_volumes(
    volumes: Sequence[Volume], table: Table, labels: np.ndarray, every_axis: int | None, size: int
) -> _Rows:
    source = _sources(table, [volume.name for volume in volumes])
    if "axis" in table or every_axis is None:
        axis = table.numbers("axis")
    else:
        axis = np.full(len(table), every_axis)
    table.refuse(
        ~np.isin(axis, (0, 1, 2)),
        lambda i: f"is across axis {axis[i]}, which a volume does not have; use 0, 1 or 2",
    )
    for number, across in np.unique(np.stack([source, axis]), axis=1).T:
        check_size(volumes[number], int(across), size)
    centres = centres_by_lines if names_lines(table, volumes) else _centres_by_index
    index, row, column, inside = centres(table, volumes, source, axis, size)
    repeated = _repeated(table, labels, source, axis, index, row, column)
    at = volume_positions(source, axis, index, row, column, size)
    return _Rows(
        positions=at,
        repeated=repeated,
        valid=with_samples(volumes, at),
        inside=inside,
        dtype=common_dtype(volumes),
        images=lambda at: volume_images(volumes, at, size),
        sources=tuple(map(Source.of, volumes)),
        bands=band_names(1),
    )


def _centres_by_index(
    table: Table, volumes: Sequence[Volume], source: np.ndarray, axis: np.ndarray, size: int
) -> Centres:
    """Centre pixels by index, row and column; all patches lie inside their slices."""
    index = table.numbers("index")
    shape = np.array([volume.shape for volume in volumes])[source].T
    length, *plane = by_slice(shape, axis)
    table.refuse(
        (index < 0) | (index >= length),
        lambda i: (
            f"is of slice {index[i]} across axis {axis[i]} of {volumes[source[i]].title}; "
            f"use one of 0 to {length[i] - 1}"
        ),
    )
    row, column = _centres(table, [volumes[i].title for i in source], plane, size)
    return index, row, column, np.ones(len(table), bool)


def _in_scenes(scenes: Sequence[Scene], table: Table, labels: np.ndarray, size: int) -> _Rows:
    source = _sources(table, [scene.name for scene in scenes])
    plane = tuple(np.array([(s.height, s.width) for s in scenes])[source].T)
    row, column = _centres(table, [scenes[i].title for i in source], plane, size)
    repeated = _repeated(table, labels, source, row, column)
    systems = metric_systems(scenes)
    valid, gaps, parts, order = np.ones(len(table), bool), False, [], []
    for number, scene in enumerate(scenes):
        here = np.flatnonzero(source == number)
        pixels = LabelledPixels(row[here], column[here], np.zeros(len(here), np.int64), here)
        valid[here], gap = with_data(scene, pixels, size)
        gaps |= gap
        parts.append(positions_of(scene, pixels, number, size, systems[number], 0))
        order.append(here)
    return _Rows(
        positions=join_positions(parts)[np.argsort(np.concatenate(order))],
        repeated=repeated,
        valid=valid,
        inside=np.ones(len(table), bool),
        dtype=np.dtype("float32") if gaps else np.result_type(*(s.dtype for s in scenes)),
        images=lambda at: scene_images(scenes, at, size),
        sources=tuple(map(Source.of, scenes, systems)),
        bands=scenes[0].band_names,
        crs=common_crs(systems),
        reading=how_read(scenes),
    )


def _sources(table: Table, names: Sequence[str]) -> np.ndarray:
    """Index of each row's source in `names`."""
    if "source" not in table and len(names) == 1:
        return np.zeros(len(table), np.int64)
    words, which = np.unique(table.words("source"), return_inverse=True)
    # Tables from other computers match by file name.
    matches = [fitting(word, names) or fitting(file_name(word), names) for word in words]
    number = np.array([found[0] if len(found) == 1 else -1 for found in matches], np.int64)[which]

    def reason(i: int) -> str:
        word, found = words[which[i]], matches[which[i]]
        if found:
            several = ", ".join(names[k] for k in found)
            return f"is from '{word}', which matches several: {several}; name it with its folder"
        return f"is from '{word}', which is not given; there are {', '.join(names)}"

    table.refuse(number < 0, reason)
    return number


def _centres(
    table: Table, titles: Sequence[str], plane: Sequence[np.ndarray], size: int
) -> tuple[np.ndarray, np.ndarray]:
    """Row and column of the centre pixels of patches inside their sources.

    Args:
        titles: title of each row's source.
        plane: height and width of each row's slice or scene.
    """
    row, column = table.numbers("row"), table.numbers("column")
    height, width = plane
    outside = (row < 0) | (column < 0) | (row + size > height) | (column + size > width)
    table.refuse(
        outside,
        lambda i: (
            f"has a patch of {size} from row {row[i]}, column {column[i]}, not inside the "
            f"{height[i]} × {width[i]} of {titles[i]}; row and column are those of the upper-left "
            "pixel"
        ),
    )
    return row + size // 2, column + size // 2


def _repeated(table: Table, labels: np.ndarray, *place: np.ndarray) -> np.ndarray:
    """Mask of the rows that repeat a position; another class at the same position is an error."""
    _, first, which = np.unique(np.stack(place), axis=1, return_index=True, return_inverse=True)
    first = first[which.reshape(-1)]
    table.refuse(
        labels != labels[first],
        lambda i: (
            f"has the same position as line {table.frame.index[first[i]]}, but another class; "
            "keep one of them"
        ),
    )
    return np.asarray(first != np.arange(len(table)))
