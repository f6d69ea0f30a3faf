"""The files that `Located` becomes: a table of positions, and a patch set with positions."""

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
from outcrop.patches.collection import AnyPatches, open_patches
from outcrop.patches.cut import how_read, scene_images
from outcrop.patches.cut_volume import common_dtype, volume_images, with_samples
from outcrop.patches.patchset import Column, PatchSet
from outcrop.patches.positions import Positions, Source
from outcrop.patches.samples import common_crs, join_positions, positions_of, with_data
from outcrop.sources.collections.collection import band_names
from outcrop.sources.labels import LabelledPixels
from outcrop.sources.metric import metric_systems
from outcrop.sources.scene import Scene
from outcrop.sources.volumes import Volume

_SUFFIXES = (".csv", ".parquet")


def check_table(path: Path, overwrite: bool = False) -> None:
    """Check the file name of a table of positions before the search.

    Raises:
        OutcropError: the suffix is neither .csv nor .parquet; the file exists and `overwrite` is
            false; the folder is missing.
    """
    if path.suffix.lower() not in _SUFFIXES:
        raise OutcropError(
            path, f"the suffix of a table is {' or '.join(_SUFFIXES)}; change the name"
        )
    check_new(path, overwrite)


def write_positions(
    path: str | Path, located: Located, patches: AnyPatches | None = None, overwrite: bool = False
) -> None:
    """Write `Located.to_frame` as CSV, or as Parquet if the suffix is .parquet.

    Raises:
        OutcropError: as for `check_table`; the disk is full.
    """
    path = Path(path)
    check_table(path, overwrite)
    with new_file(path) as temporary:
        if path.suffix.lower() == ".parquet":
            located.to_frame(patches).to_parquet(temporary, index=False)
        else:
            _write_csv(temporary, located.columns(patches))


def _write_csv(path: Path, columns: dict[str, Any]) -> None:
    """Write what pandas would write. Importing pandas can take longer than a search."""
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(columns)
        rows.writerows(zip(*map(_cells, columns.values()), strict=True))


def _cells(column: Any) -> list[Any]:
    values = np.asarray(column).tolist()
    if isinstance(column, np.ndarray) and column.dtype.kind == "f":
        return ["" if np.isnan(value) else f"{value:.7g}" for value in values]
    return values


def with_positions(patches: AnyPatches, located: Located, as_given: bool = False) -> PatchSet:
    """The patches that were found, with their positions, for spatial splits and audits.

    The images are cut from the sources: upright, in the values and bands of the sources, whatever
    was changed in the patches. So a model is trained on what `outcrop map` gives it. Patches whose
    centre pixel has no data there are dropped and counted. Each patch is one polygon.

    Args:
        patches: the patches that were located, in that order, or their name.
        as_given: keep the given images; the column "flip" has their orientation.

    Raises:
        OutcropError: no patch was found, or none has data at its centre; a scene has no coordinate
            reference system.
    """
    patches, here = open_patches(patches, learnable=False), np.flatnonzero(located.found)
    if not len(here):
        raise OutcropError(
            "patches", "none was found, so there is nothing to write; see their scores"
        )
    lost = len(located) - len(here)
    found = patches.subset(here) if as_given else _without(patches, here)
    scenes = [source for source in located.sources if isinstance(source, Scene)]
    systems = metric_systems(scenes) if scenes else []
    found = replace(
        found,
        positions=_in_scenes(located, scenes, systems) if scenes else located.in_volumes(),
        sources=tuple(map(Source.of, located.sources, systems or [""] * len(located.sources))),
        crs=common_crs(systems) if scenes else None,
        dropped={**patches.dropped, **({"not found": lost} if lost else {})},
    )
    if not as_given:
        return _cut_again(found, located)
    flips, codes = np.unique(located.flip[here], return_inverse=True)
    flip = Column(codes, tuple(map(str, flips)))
    return replace(found, columns={**found.columns, "flip": flip})


def _cut_again(found: PatchSet, located: Located) -> PatchSet:
    """The patches with images cut from their sources."""
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
            "none has data at its centre where it was found; check the source, or pass "
            "`as_given=True`",
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
    """Some of the patches, with empty images."""
    return replace(patches, images=without_images(len(patches), len(patches.bands))).subset(index)


def _in_scenes(located: Located, scenes: list[Scene], systems: list[str]) -> Positions:
    """The positions of the patches found, in scenes."""
    parts, order = [], []
    for number, scene in enumerate(scenes):
        here = np.flatnonzero(located.found & (located.source == number))
        row, column = located.centres(here)
        pixels = LabelledPixels(row, column, np.zeros(len(here), np.int64), here)
        extent = max(located.size)
        parts.append(positions_of(scene, pixels, number, extent, systems[number], 0))
        order.append(here)
    return join_positions(parts)[np.argsort(np.concatenate(order))]
