"""What was located, as a table of positions and as a patch set that has its positions again."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from outcrop.errors import OutcropError
from outcrop.files import check_new, new_file
from outcrop.locating.located import Located
from outcrop.patches.collect import collect, without_images
from outcrop.patches.cut import how_read, scene_images
from outcrop.patches.cut_volume import common_dtype, volume_images, with_samples
from outcrop.patches.patchset import Column, PatchSet
from outcrop.patches.positions import (
    Positions,
    Source,
    in_slice,
    upper_left,
    volume_positions,
)
from outcrop.patches.samples import common_crs, join_positions, positions_of, with_data
from outcrop.sources.collections import UNLABELLED
from outcrop.sources.collections.collection import band_names
from outcrop.sources.labels import LabelledPixels
from outcrop.sources.metric import metric_systems
from outcrop.sources.scene import Scene
from outcrop.sources.volumes import Volume
from outcrop.sources.volumes.volume import PLAIN_AXES

_SUFFIXES = (".csv", ".parquet")
_TAKEN = {"patch", "found", "source", "axis", "index", "row", "column", *PLAIN_AXES}
_SAID = {"sample": "time"}
# Of columns that are empty where a patch was not found, the type in pandas.
_NULLABLE = {**dict.fromkeys(("axis", "index", "row", "column"), "Int64"), "ambiguous": "boolean"}


def check_table(path: Path, overwrite: bool = False) -> None:
    """Refuse early a name that a table of positions cannot be written to.

    Raises:
        OutcropError: it ends neither in .csv nor in .parquet; it exists and `overwrite` is false;
            its folder is missing.
    """
    if path.suffix.lower() not in _SUFFIXES:
        raise OutcropError(path, f"ends neither in {' nor in '.join(_SUFFIXES)}; take one of them")
    check_new(path, overwrite)


def positions_table(located: Located, patches: PatchSet | None = None) -> Any:
    """One row a patch, in their order, as pandas; `outcrop.patches.at_positions` reads it.

    Columns:
        patch: its number, from 0.
        found: true or false. Where it is false, what follows is empty but confidence and score.
        source, axis, index, row, column, flip, confidence, margin, ambiguous: as in `Located`.
        inline, crossline, time, or what else the axes of the volumes are called: of the labelled
            pixel, the middle of the patch, where the volumes say so, as SEG-Y does; the time in
            milliseconds, in a depth volume the depth.
        gain, offset, residual: over all bands, in grey values; where there are several bands, also
            those of each, as `gain of red`.
        score: the normalised cross-correlation.
        label, and the columns of the patch set, if one is given that has them.
    """
    import pandas as pd

    columns = _columns(located, patches)
    for name, kind in _NULLABLE.items():
        columns[name] = pd.array(columns[name], kind)
    return pd.DataFrame(columns)


def _columns(located: Located, patches: PatchSet | None) -> dict[str, Any]:
    """The columns of `positions_table`; None or NaN where one is empty."""
    found, shown = located.found, located.intensity

    def where_found(values: np.ndarray) -> list[Any]:
        return [value if here else None for value, here in zip(values.tolist(), found, strict=True)]

    names = np.array([source.name for source in located.sources])
    columns: dict[str, Any] = {"patch": np.arange(len(located)), "found": found}
    columns["source"] = where_found(names[located.source])
    for name in ("axis", "index", "row", "column"):
        columns[name] = where_found(getattr(located, name))
    columns |= _lines(located)
    columns["flip"] = [name or None for name in located.flip.tolist()]
    columns |= {"confidence": located.confidence, "margin": located.margin}
    columns["ambiguous"] = where_found(located.ambiguous)
    columns |= {"gain": shown.gain, "offset": shown.offset, "residual": shown.residual}
    columns["score"] = located.score
    bands = band_names(len(located.bands)) if patches is None else patches.bands
    for band, each in zip(bands, located.bands, strict=False):
        for what in ("gain", "offset", "residual"):
            columns[f"{what} of {band}"] = getattr(each, what)
    if patches is not None:
        if patches.classes != UNLABELLED:
            columns["label"] = np.array(patches.classes)[patches.labels]
        for name, column in patches.columns.items():
            columns.setdefault(name, np.array(column.names)[column.codes])
    return columns


def _lines(located: Located) -> dict[str, np.ndarray]:
    """The coordinates of the middles of the patches along each axis that volumes have some of."""
    found: dict[str, np.ndarray] = {}
    if not located.found.any() or not located.from_volume:
        return found
    at = _in_volumes(located)
    voxel = np.empty((3, len(at)), np.int64)
    for across in range(3):
        here, (down, right) = at.axis == across, in_slice(across)
        voxel[across, here] = at.index[here]
        voxel[down, here], voxel[right, here] = at.row[here], at.column[here]
    for number, volume in enumerate(located.sources):
        assert isinstance(volume, Volume)
        mine = at.source == number
        for k, (name, line) in enumerate(zip(volume.axes, volume.coordinates, strict=True)):
            if line is not None and name not in _TAKEN:
                column = found.setdefault(_SAID.get(name, name), np.full(len(located), np.nan))
                column[np.flatnonzero(located.found)[mine]] = line[voxel[k, mine]]
    return found


def write_positions(
    path: str | Path, located: Located, patches: PatchSet | None = None, overwrite: bool = False
) -> None:
    """Write `positions_table` as CSV, or as Parquet if the name ends in .parquet.

    Raises:
        OutcropError: as `check_table`; the disk is full.
    """
    path = Path(path)
    check_table(path, overwrite)
    with new_file(path) as temporary:
        if path.suffix.lower() == ".parquet":
            positions_table(located, patches).to_parquet(temporary, index=False)
        else:
            _write_csv(temporary, _columns(located, patches))


def _write_csv(path: Path, columns: dict[str, Any]) -> None:
    """As pandas does it, whose import takes longer than many a search."""
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(columns)
        rows.writerows(zip(*map(_cells, columns.values()), strict=True))


def _cells(column: Any) -> list[Any]:
    values = np.asarray(column).tolist()
    if isinstance(column, np.ndarray) and column.dtype.kind == "f":
        return ["" if np.isnan(value) else f"{value:.7g}" for value in values]
    return values


def with_positions(patches: PatchSet, located: Located, as_given: bool = False) -> PatchSet:
    """The patches that were found, with their positions, so that they can be split by ground.

    Images are cut from the sources anew: upright, in the sources' values and bands, whatever had
    been done to the patches, so that a model learns what `outcrop map` will show it. Patches whose
    centre pixel has no data there are dropped and counted. Each patch is a polygon by itself.

    Args:
        as_given: keep the images as they are; how they were flipped is the column "flip".

    Raises:
        OutcropError: none was found, or none has data at its centre; a scene has no place on the
            earth.
    """
    here = np.flatnonzero(located.found)
    if not len(here):
        raise OutcropError("patches", "none was found, and so there are none to write; see scores")
    lost = len(located) - len(here)
    found = patches.subset(here) if as_given else _without(patches, here)
    scenes = [source for source in located.sources if isinstance(source, Scene)]
    systems = metric_systems(scenes) if scenes else []
    found = replace(
        found,
        positions=_in_scenes(located, scenes, systems) if scenes else _in_volumes(located),
        sources=tuple(map(Source.of, located.sources, systems or [""] * len(located.sources))),
        crs=common_crs(systems) if scenes else None,
        dropped={**patches.dropped, **({"not found": lost} if lost else {})},
    )
    if not as_given:
        return _cut_again(found, located)
    flips, codes = np.unique(located.flip[here], return_inverse=True)
    turned = Column(codes, tuple(map(str, flips)))
    return replace(found, columns={**found.columns, "flip": turned})


def _cut_again(found: PatchSet, located: Located) -> PatchSet:
    """The patches with the pixels of their sources."""
    at, size = found.positions, located.size
    assert at is not None
    scenes = [source for source in located.sources if isinstance(source, Scene)]
    volumes = [source for source in located.sources if isinstance(source, Volume)]
    if scenes:
        valid, gaps = np.ones(len(at), bool), False
        for number, scene in enumerate(scenes):
            here = np.flatnonzero(at.source == number)
            pixels = LabelledPixels(at.row[here], at.column[here], np.zeros_like(here), here)
            valid[here], gap = with_data(scene, pixels, max(size))
            gaps |= gap
        dtype = np.dtype("float32") if gaps else np.result_type(*(s.dtype for s in scenes))
        found = replace(found, reading=how_read(scenes))
    else:
        valid, dtype = with_samples(volumes, at), common_dtype(volumes)
    if not valid.any():
        raise OutcropError(
            "patches",
            "none has data at its centre where it was found; check the source, or pass --as-given",
        )
    bands = scenes[0].band_names if scenes else band_names(1)
    lost = int((~valid).sum())
    found = replace(
        found,
        images=without_images(len(found), len(bands)),
        bands=bands,
        columns={name: column for name, column in found.columns.items() if name != "flip"},
        dropped={**found.dropped, **({"no data": lost} if lost else {})},
    ).subset(valid)
    at = found.positions
    assert at is not None
    images = scene_images(scenes, at, size) if scenes else volume_images(volumes, at, size)
    return collect(found, images, size, dtype, ordered=False)


def _without(patches: PatchSet, index: np.ndarray) -> PatchSet:
    """Some of the patches, their images still empty."""
    return replace(patches, images=without_images(len(patches), len(patches.bands))).subset(index)


def _centres(located: Located, here: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    height, width = located.size
    return (
        located.row[here] - upper_left(0, height),
        located.column[here] - upper_left(0, width),
    )


def _in_volumes(located: Located) -> Positions:
    here = np.flatnonzero(located.found)
    return volume_positions(
        located.source[here],
        located.axis[here],
        located.index[here],
        *_centres(located, here),
        located.size,
    )


def _in_scenes(located: Located, scenes: list[Scene], systems: list[str]) -> Positions:
    parts, order = [], []
    for number, scene in enumerate(scenes):
        here = np.flatnonzero(located.found & (located.source == number))
        row, column = _centres(located, here)
        pixels = LabelledPixels(row, column, np.zeros(len(here), np.int64), here)
        extent = max(located.size)
        parts.append(positions_of(scene, pixels, number, extent, systems[number], 0))
        order.append(here)
    return join_positions(parts)[np.argsort(np.concatenate(order))]
