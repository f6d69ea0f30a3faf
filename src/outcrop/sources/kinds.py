"""Decide whether a path is a scene or a volume, and open several sources of one kind."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from outcrop.errors import OutcropError
from outcrop.sources.memory import is_dataarray
from outcrop.sources.names import is_gdal_name
from outcrop.sources.opening import open_scenes
from outcrop.sources.products import is_product
from outcrop.sources.reading import Reading, SegyReading
from outcrop.sources.scene import Scene
from outcrop.sources.volumes import Volume, open_volume, volume_kind
from outcrop.sources.volumes.netcdf import is_netcdf_volume
from outcrop.sources.volumes.stack import is_pages

_PICTURES = {".tif", ".tiff", ".png"}
_ENDINGS = {".npy", ".zarr", ".sgy", ".segy", ".seisnc"}


def is_volume(path: str | Path) -> bool:
    """Whether a path is a volume.

    Volumes are .npy, Zarr, SEG-Y and stacks of slices, and NetCDF files whose axes are not those of
    a map. A stack is a folder of TIFF or PNG files, or a TIFF file with several pages and no
    coordinate reference system. Everything else is a scene. A path that does not exist is judged by
    its suffix.
    """
    if is_gdal_name(path) or is_product(path):
        return False
    path, kind = Path(path), volume_kind(path)
    if kind is None and not path.exists():
        return path.suffix.lower() in _ENDINGS
    if kind == "netcdf":
        return is_netcdf_volume(path)
    if kind == "stack":
        if path.is_file():
            return is_pages(path)
        return any(file.suffix.lower() in _PICTURES for file in path.iterdir())
    return kind is not None


def are_volumes(sources: Sequence[str | Path | Scene | Volume]) -> bool:
    """Whether all sources are volumes. If not, all are scenes.

    Raises:
        OutcropError: some sources are volumes and some are scenes.
    """
    volumes = [
        isinstance(source, Volume)
        or (not isinstance(source, Scene) and not is_dataarray(source) and is_volume(source))
        for source in sources
    ]
    if any(volumes) and not all(volumes):
        scene = sources[volumes.index(False)]
        name = scene.title if isinstance(scene, Scene | Volume) else str(scene)[:60]
        raise OutcropError(
            name, "is a scene while other sources are volumes; pass sources of one kind"
        )
    return all(volumes)


def open_all_volumes(
    sources: Sequence[str | Path | Scene | Volume], segy: SegyReading = SegyReading()
) -> list[Volume]:
    """Open the sources that are paths with `open_volume`, and keep open volumes."""
    return [s if isinstance(s, Volume) else open_volume(str(s), **vars(segy)) for s in sources]


def open_all_scenes(
    sources: Sequence[str | Path | Scene | Volume],
    bands: Sequence[int | str] | None = None,
    crs: str | None = None,
    reading: Reading = Reading(),
) -> list[Scene]:
    """Open the sources that are names or in memory; keep open scenes. The order stays.

    Names between two open scenes are opened together, so that bands in several files become one
    scene (`outcrop.sources.opening.open_scenes`).

    Raises:
        OutcropError: as for `open_scenes`.
    """
    found: list[Scene] = []
    for opened, some in groupby(sources, lambda source: isinstance(source, Scene)):
        if opened:
            found += [source for source in some if isinstance(source, Scene)]
        else:
            files: list[Any] = list(some)
            found += open_scenes(files, bands, crs, reading)
    return found


def reject_options(kind: str, **options: object) -> None:
    """Check that options without a meaning for a kind of source are not set.

    Raises:
        OutcropError: the value of an option is not None.
    """
    for name, value in options.items():
        if value is not None:
            raise OutcropError(f"`{name}`", f"does not apply to {kind}; leave it out")
