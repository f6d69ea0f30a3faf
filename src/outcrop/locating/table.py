"""What was located, as a table of positions and as a patch set that has its positions again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from outcrop.errors import OutcropError
from outcrop.files import check_new, new_file
from outcrop.locating.located import Located
from outcrop.patches.patchset import Column, PatchSet
from outcrop.patches.positions import Positions, Source, upper_left, volume_positions
from outcrop.patches.samples import common_crs, join_positions, positions_of
from outcrop.sources.collections import UNLABELLED
from outcrop.sources.collections.collection import band_names
from outcrop.sources.labels import LabelledPixels
from outcrop.sources.metric import metric_systems
from outcrop.sources.scene import Scene

_SUFFIXES = (".csv", ".parquet")


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
        gain, offset, residual: over all bands, in grey values; where there are several bands, also
            those of each, as `gain of red`.
        score: the normalised cross-correlation.
        label, and the columns of the patch set, if one is given that has them.
    """
    import pandas as pd

    found, shown = located.found, located.intensity
    columns: dict[str, Any] = {"patch": np.arange(len(located)), "found": found}
    columns["source"] = [
        located.sources[k].name if here else None
        for k, here in zip(located.source, found, strict=True)
    ]
    for name in ("axis", "index", "row", "column"):
        columns[name] = pd.array(getattr(located, name), "Int64")
        columns[name][~found] = pd.NA
    columns["flip"] = [name or None for name in located.flip]
    columns |= {"confidence": located.confidence, "margin": located.margin}
    columns["ambiguous"] = pd.array(located.ambiguous, "boolean")
    columns["ambiguous"][~found] = pd.NA
    columns |= {"gain": shown.gain, "offset": shown.offset, "residual": shown.residual}
    columns["score"] = located.score
    names = band_names(len(located.bands)) if patches is None else patches.bands
    for band, each in zip(names, located.bands, strict=False):
        for what in ("gain", "offset", "residual"):
            columns[f"{what} of {band}"] = getattr(each, what)
    if patches is not None:
        if patches.classes != UNLABELLED:
            columns["label"] = np.array(patches.classes)[patches.labels]
        for name, column in patches.columns.items():
            columns.setdefault(name, np.array(column.names)[column.codes])
    return pd.DataFrame(columns)


def write_positions(
    path: str | Path, located: Located, patches: PatchSet | None = None, overwrite: bool = False
) -> None:
    """Write `positions_table` as CSV, or as Parquet if the name ends in .parquet.

    Raises:
        OutcropError: as `check_table`; the disk is full.
    """
    path = Path(path)
    check_table(path, overwrite)
    table = positions_table(located, patches)
    with new_file(path) as temporary:
        if path.suffix.lower() == ".parquet":
            table.to_parquet(temporary, index=False)
        else:
            table.to_csv(temporary, index=False, float_format="%.7g")


def with_positions(patches: PatchSet, located: Located) -> PatchSet:
    """The patches that were found, with their positions, so that they can be split by ground.

    Images stay as they are; how they were flipped is the column "flip". Each patch is a polygon by
    itself.

    Raises:
        OutcropError: none was found; a scene has no place on the earth.
    """
    here = np.flatnonzero(located.found)
    if not len(here):
        raise OutcropError("patches", "none was found, and so there are none to write; see scores")
    flips, codes = np.unique(located.flip[here], return_inverse=True)
    lost = len(located) - len(here)
    found = patches.subset(here)
    scenes = [source for source in located.sources if isinstance(source, Scene)]
    systems = metric_systems(scenes) if scenes else []
    return replace(
        found,
        positions=_in_scenes(located, scenes, systems) if scenes else _in_volumes(located),
        sources=tuple(map(Source.of, located.sources, systems or [""] * len(located.sources))),
        crs=common_crs(systems) if scenes else None,
        columns={**found.columns, "flip": Column(codes, tuple(map(str, flips)))},
        dropped={**patches.dropped, **({"not found": lost} if lost else {})},
    )


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
