"""Cut patches where a table says, out of scenes or volumes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from outcrop.errors import OutcropError
from outcrop.patches.collect import Batch, check_classes, collect, without_images
from outcrop.patches.cut import how_read, scene_images
from outcrop.patches.names import fitting
from outcrop.patches.patchset import Column, PatchSet, check_output
from outcrop.patches.places import Places, names_lines, places_by_lines
from outcrop.patches.positions import Positions, Source, in_slice, volume_positions
from outcrop.patches.samples import (
    check_numbers,
    common_crs,
    draw,
    join_positions,
    positions_of,
    with_data,
)
from outcrop.patches.slices import check_size, common_dtype, volume_images, with_samples
from outcrop.patches.table import Table, found, read_table
from outcrop.sources.collections.collection import band_names
from outcrop.sources.kinds import are_volumes, open_all_scenes, open_all_volumes, reject_options
from outcrop.sources.labels import LabelledPixels
from outcrop.sources.memory import as_list
from outcrop.sources.metric import metric_systems
from outcrop.sources.names import file_name
from outcrop.sources.scene import Reading, Scene
from outcrop.sources.volumes import Volume


@dataclass(frozen=True)
class _Ground:
    """What scenes and volumes differ in, for the rows of a table.

    Attributes:
        positions: of the rows.
        twin: bool, `N`, whether an earlier row is of the same place.
        valid: bool, `N`, whether the centre pixel has data in every band.
        inside: bool, `N`, whether the patch lies wholly in its source.
        dtype: of the patches.
        images: cuts patches.
    """

    positions: Positions
    twin: np.ndarray
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
    per_class: int | None = None,
    seed: int = 0,
    output: str | Path | None = None,
    overwrite: bool = False,
) -> PatchSet:
    """Cut the patches that a table of positions and labels names.

    The table has a header and one row a patch: `row` and `column` of its upper-left pixel, from 0,
    its class, and in volumes `axis` and `index` of the slice. In volumes that have coordinates
    (SEG-Y, NetCDF) `inline`, `crossline` and `time` or `depth` of the labelled pixel, the middle of
    the patch, may stand instead of `index`, `row` and `column`; patches that then reach over the
    edge of their slice are dropped and counted. `source` names one of several sources by file,
    file name or file name without ending. Rows whose `found` is false (as `outcrop locate` writes
    them) are left out and counted; so are patches whose centre pixel has no data, and rows that
    name a place once more. `flip` and everything else is ignored: pixels come from the source as
    they are.

    Sources are read slab by slab, or tile by tile, whatever the order of the rows.

    Args:
        sources: scenes, or volumes.
        positions: CSV, or Parquet if the name ends in .parquet.
        column: the column of the table that names the class.
        size: height and width of a patch in pixels; odd sizes have the labelled pixel in the
            middle.
        axis: of all slices, from 0, for a table without that column.
        bands: of scenes, numbers of the bands to use, from 1.
        crs: of scenes that carry none.
        keep: further columns of the table to keep with each patch, to split by.
        per_class: at most so many patches of each class, drawn at random.
        seed: for `per_class`.
        output: a folder to write the patch set to; without it the patches are kept in memory.
        overwrite: whether `output` may exist.

    Returns:
        The patches in the order of the table. Those of volumes are of one band, "grey".

    Raises:
        OutcropError: anything wrong with the sources or the table, said in one line with the first
            line of the table at fault.
    """
    check_numbers(seed, size=size, per_class=per_class)
    if output is not None:
        check_output(Path(output), overwrite)
    table = read_table(positions)
    here = found(table)
    dropped = Counter({"not found": int((~here).sum())})
    if not here.any():
        raise OutcropError(table.path, "has no row that was found; give it positions first")
    table = table[here]
    classes, labels = np.unique(table.words(column), return_inverse=True)
    given = as_list(sources)
    if are_volumes(given):
        reject_options("volumes", bands=bands, crs=crs)
        ground = _in_volumes(open_all_volumes(given), table, labels, axis, size)
    else:
        reject_options("scenes", axis=axis)
        ground = _in_scenes(open_all_scenes(given, bands, crs, reading), table, labels, size)
    if not ground.inside.any():
        raise OutcropError(
            table.path,
            f"gives no patch: all {len(table)} reach over the edge; take a smaller --size",
        )
    valid = ground.valid & ground.inside
    if not valid.any():
        raise OutcropError(
            table.path, f"gives no patch: none of {len(table)} has data at its centre; correct it"
        )
    dropped["edge"] += int((~ground.inside).sum())
    dropped["no data"] += int((ground.inside & ~ground.valid).sum())
    dropped["same place as another"] += int((ground.twin & valid).sum())
    patches = PatchSet(
        images=without_images(len(table), len(ground.bands)),
        labels=labels,
        classes=tuple(map(str, classes)),
        bands=ground.bands,
        positions=ground.positions,
        sources=ground.sources,
        crs=ground.crs,
        reading=ground.reading,
        columns={name: _kept(table, name) for name in keep},
        dropped={reason: count for reason, count in dropped.items() if count},
    ).subset(valid & ~ground.twin)
    if per_class is not None:
        patches = patches.subset(draw(patches.labels, per_class, seed))
    check_classes(patches, table.path)
    assert patches.positions is not None
    images = ground.images(patches.positions)
    return collect(patches, images, size, ground.dtype, output, overwrite, ordered=False)


def _in_volumes(
    volumes: Sequence[Volume],
    table: Table,
    labels: np.ndarray,
    every_axis: int | None,
    size: int,
) -> _Ground:
    source = _sources(table, [volume.name for volume in volumes])
    if "axis" in table or every_axis is None:
        axis = table.numbers("axis")
    else:
        axis = np.full(len(table), every_axis)
    table.refuse(
        ~np.isin(axis, (0, 1, 2)),
        lambda i: f"is across axis {axis[i]}, which a volume does not have; take 0, 1 or 2",
    )
    for number, across in np.unique(np.stack([source, axis]), axis=1).T:
        check_size(volumes[number], int(across), size)
    places = (places_by_lines if names_lines(table, volumes) else _places)(
        table, volumes, source, axis, size
    )
    index, row, column = places.index, places.row, places.column
    twin = _twins(table, labels, source, axis, index, row, column)
    at = volume_positions(source, axis, index, row, column, size)
    return _Ground(
        positions=at,
        twin=twin,
        valid=with_samples(volumes, at),
        inside=places.inside,
        dtype=common_dtype(volumes),
        images=lambda at: volume_images(volumes, at, size),
        sources=tuple(map(Source.of, volumes)),
        bands=band_names(1),
    )


def _places(
    table: Table, volumes: Sequence[Volume], source: np.ndarray, axis: np.ndarray, size: int
) -> Places:
    """The places of patches by index, row and column, which lie wholly inside."""
    index = table.numbers("index")
    every, shape = np.arange(len(table)), np.array([volume.shape for volume in volumes])[source]
    length = shape[every, axis]
    table.refuse(
        (index < 0) | (index >= length),
        lambda i: (
            f"is of slice {index[i]} across axis {axis[i]} of {volumes[source[i]].title}; "
            f"take one of 0 to {length[i] - 1}"
        ),
    )
    down, right = np.array([in_slice(across) for across in range(3)])[axis].T
    plane = shape[every, down], shape[every, right]
    row, column = _centres(table, [volumes[i].title for i in source], plane, size)
    return Places(index, row, column, np.ones(len(table), bool))


def _in_scenes(scenes: Sequence[Scene], table: Table, labels: np.ndarray, size: int) -> _Ground:
    source = _sources(table, [scene.name for scene in scenes])
    plane = tuple(np.array([(s.height, s.width) for s in scenes])[source].T)
    row, column = _centres(table, [scenes[i].title for i in source], plane, size)
    twin = _twins(table, labels, source, row, column)
    systems = metric_systems(scenes)
    valid, gaps, parts, order = np.ones(len(table), bool), False, [], []
    for number, scene in enumerate(scenes):
        here = np.flatnonzero(source == number)
        pixels = LabelledPixels(row[here], column[here], np.zeros(len(here), np.int64), here)
        valid[here], gap = with_data(scene, pixels, size)
        gaps |= gap
        parts.append(positions_of(scene, pixels, number, size, systems[number], 0))
        order.append(here)
    return _Ground(
        positions=join_positions(parts)[np.argsort(np.concatenate(order))],
        twin=twin,
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
    """The number of each row's source among `names`."""
    if "source" not in table and len(names) == 1:
        return np.zeros(len(table), np.int64)
    words, which = np.unique(table.words("source"), return_inverse=True)
    meant = [_meant(word, names) for word in words]
    number = np.array([found[0] if len(found) == 1 else -1 for found in meant], np.int64)[which]

    def reason(i: int) -> str:
        word, found = words[which[i]], meant[which[i]]
        if found:
            several = ", ".join(names[k] for k in found)
            return f"is from '{word}', which fits several: {several}; name it with its folder"
        return f"is from '{word}', which is not given; there is {', '.join(names)}"

    table.refuse(number < 0, reason)
    return number


def _meant(word: str, names: Sequence[str]) -> list[int]:
    """The sources that a word may mean; in tables from elsewhere by the file's name alone."""
    return fitting(word, names) or fitting(file_name(word), names)


def _centres(
    table: Table, titles: Sequence[str], plane: tuple[np.ndarray, ...], size: int
) -> tuple[np.ndarray, np.ndarray]:
    """Row and column of the centre pixels of patches that lie wholly inside.

    Args:
        titles: of each row's source.
        plane: height and width of each row's slice or scene.
    """
    row, column = table.numbers("row"), table.numbers("column")
    height, width = plane
    outside = (row < 0) | (column < 0) | (row + size > height) | (column + size > width)
    table.refuse(
        outside,
        lambda i: (
            f"has a patch of {size} from row {row[i]}, column {column[i]}, not wholly inside the "
            f"{height[i]} × {width[i]} of {titles[i]}; row and column are the upper-left pixel's"
        ),
    )
    return row + size // 2, column + size // 2


def _twins(table: Table, labels: np.ndarray, *place: np.ndarray) -> np.ndarray:
    """Mask of the rows that name a place again; if they name another class, that is refused."""
    _, first, which = np.unique(np.stack(place), axis=1, return_index=True, return_inverse=True)
    first = first[which.reshape(-1)]
    table.refuse(
        labels != labels[first],
        lambda i: (
            f"is of the same place as line {table.frame.index[first[i]]}, and of another class; "
            "keep one of them"
        ),
    )
    return np.asarray(first != np.arange(len(table)))


def _kept(table: Table, name: str) -> Column:
    names, codes = np.unique(table.words(name), return_inverse=True)
    return Column(codes, tuple(map(str, names)))
