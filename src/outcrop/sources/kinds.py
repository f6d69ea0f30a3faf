"""What a path is, a scene or a volume: the one place that decides."""

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
from outcrop.sources.scene import Reading, Scene
from outcrop.sources.volumes import Volume, open_volume, volume_kind
from outcrop.sources.volumes.netcdf import is_netcdf_volume
from outcrop.sources.volumes.segy_reading import SegyReading
from outcrop.sources.volumes.slice_file import is_pages

_PICTURES = {".tif", ".tiff", ".png"}
_ENDINGS = {".npy", ".zarr", ".sgy", ".segy", ".seisnc"}


def is_volume(path: str | Path) -> bool:
    """Whether what lies there is a volume: .npy, Zarr, SEG-Y, slices, or NetCDF but for maps.

    Slices are a folder of pictures, or a TIFF file of several pages without a coordinate reference
    system. Everything else is a scene. What is not there is judged by the ending of its name.
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
    """Whether all sources are volumes, or none is.

    Raises:
        OutcropError: some are, some are not.
    """
    volumes = [
        isinstance(source, Volume)
        or (not isinstance(source, Scene) and not is_dataarray(source) and is_volume(source))
        for source in sources
    ]
    if any(volumes) and not all(volumes):
        scene = sources[volumes.index(False)]
        name = scene.title if isinstance(scene, Scene | Volume) else str(scene)[:60]
        raise OutcropError(name, "is a scene, and others are volumes; take one kind at a time")
    return all(volumes)


def open_all_volumes(
    sources: Sequence[str | Path | Scene | Volume], segy: SegyReading = SegyReading()
) -> list[Volume]:
    """The volumes, those that are only named opened (`outcrop.sources.volumes.open_volume`)."""
    return [s if isinstance(s, Volume) else open_volume(str(s), **vars(segy)) for s in sources]


def open_all_scenes(
    sources: Sequence[str | Path | Scene | Volume],
    bands: Sequence[int | str] | None = None,
    crs: str | None = None,
    reading: Reading = Reading(),
) -> list[Scene]:
    """The scenes in their order, those that are only named or lie in memory opened.

    Names between two open scenes are opened together, so that bands in several files become one
    scene (`outcrop.sources.opening.open_scenes`).

    Raises:
        OutcropError: as `open_scenes`; scenes differ in their number of bands.
    """
    found: list[Scene] = []
    for opened, some in groupby(sources, lambda source: isinstance(source, Scene)):
        if opened:
            found += [source for source in some if isinstance(source, Scene)]
        else:
            files: list[Any] = list(some)
            found += open_scenes(files, bands, crs, reading)
    return found


def refuse_for(kind: str, **options: object) -> None:
    """Refuse options that sources of a kind have no use for.

    Raises:
        OutcropError: one of them is not None.
    """
    for name, value in options.items():
        if value is not None:
            raise OutcropError(f"--{name}", f"has no meaning for {kind}; leave it out")
