"""Open the scenes and volumes again that patches were cut from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from outcrop.errors import OutcropError
from outcrop.patches.patchset import PatchSet
from outcrop.patches.positions import Source
from outcrop.sources import bands as band_lists
from outcrop.sources.grids import grid_text, same_grid
from outcrop.sources.names import exists, normalized_name
from outcrop.sources.opening import reopen_scene
from outcrop.sources.opening import with_bands as scene_with_bands
from outcrop.sources.reading import Reading
from outcrop.sources.scene import Scene
from outcrop.sources.volumes import Volume, open_volume
from outcrop.sources.volumes.netcdf import split_name

AnySource = str | Path | Scene | Volume
REMEDY = "pass what the patches were cut from with `sources`"


def reopen(patches: PatchSet, sources: Sequence[AnySource] | None = None) -> list[Scene | Volume]:
    """Open the scenes or volumes that patches were cut from.

    Args:
        sources: their present locations, in the order of `patches.sources`: one per source, or all
            their files. By default they are opened under their stored names.

    Returns:
        The scene or volume of each source. A scene is read as the patches were, and has only the
        bands of the patches, in their order.

    Raises:
        OutcropError: one is missing, or has another shape, grid or bands; the number of locations
            is wrong.
    """
    stored = patches.sources
    given = [source.opened for source in stored] if sources is None else _one_each(stored, sources)
    opened = [_opened(one, was, patches.reading) for one, was in zip(given, stored, strict=True)]
    for one, was in zip(opened, stored, strict=True):
        shape = Source.of(one).shape
        if shape != was.shape:
            now, before = (" × ".join(map(str, lengths)) for lengths in (shape, was.shape))
            raise OutcropError(one.title, f"is {now}, but patches were cut from {before}; {REMEDY}")
        if isinstance(one, Volume):
            _check_lines(one, was)
        if isinstance(one, Scene) and was.transform is not None and not same_grid(one, was.grid):
            raise OutcropError(
                one.title,
                f"lies on another grid ({grid_text(one)}) than the scene that patches were cut "
                f"from ({grid_text(was.grid)}); {REMEDY}",
            )
    return [with_bands(one, patches.bands, REMEDY) for one in opened]


def _check_lines(volume: Volume, was: Source) -> None:
    """Raise an error if a volume has other lines or samples than when patches were cut."""
    for axis, (now, before) in enumerate(zip(volume.ends, was.ends, strict=False)):
        if now is None or before is None:
            continue
        step = abs(before[1] - before[0]) / max(1, was.shape[axis] - 1)
        if max(abs(now[0] - before[0]), abs(now[1] - before[1])) > step / 2:
            raise OutcropError(
                volume.title,
                f"has {volume.axes[axis]} {now[0]:g} to {now[1]:g}, but patches were cut from "
                f"{before[0]:g} to {before[1]:g}; {REMEDY}",
            )


def _opened(one: tuple[str, ...] | Scene | Volume, was: Source, reading: Reading) -> Scene | Volume:
    if isinstance(one, Scene | Volume):
        return one
    for file in one:
        if not exists(split_name(Path(file))[0] if was.is_volume else file):
            raise OutcropError(file, f"is missing, but patches were cut from it; {REMEDY}")
    return open_again(was, reading, one)


def open_again(source: Source, reading: Reading, files: Sequence[str] = ()) -> Scene | Volume:
    """Open a source with the stored options.

    Args:
        files: present location; the stored names by default.

    Raises:
        OutcropError: a file is missing or cannot be read.
    """
    files = files or source.opened
    if source.is_volume:
        return open_volume(files[0], **vars(source.segy))
    mask = [source.mask] if source.mask else []
    bands = source.bands if len(set(source.bands)) == len(source.bands) else ()
    return reopen_scene(files, list(bands) or None, source.crs, replace(reading, mask=mask))


def with_bands(source: Scene | Volume, bands: tuple[str, ...], remedy: str) -> Scene | Volume:
    """A source with only the bands of the patches (`outcrop.sources.bands.match`).

    Args:
        remedy: remedy in the error message.

    Raises:
        OutcropError: it has other bands.
    """
    if isinstance(source, Scene):
        return scene_with_bands(source, bands, "the patch set", remedy)[0]
    band_lists.match_or_raise(["samples"], bands, source.title, "the patch set", remedy)
    return source


def _one_each(
    stored: Sequence[Source], now: Sequence[AnySource]
) -> list[tuple[str, ...] | Scene | Volume]:
    """The locations of each source; its files may be given one by one."""
    if len(now) == len(stored):
        return [one if isinstance(one, Scene | Volume) else (normalized_name(one),) for one in now]
    counts = [len(source.opened) for source in stored]
    if len(now) != sum(counts):
        names = ", ".join(source.name for source in stored)
        raise OutcropError(
            "`sources`",
            f"names {len(now)}, but the patches were cut from {len(stored)}; "
            f"name the present locations of these, in this order: {names}",
        )
    left = iter(now)
    return [tuple(normalized_name(str(next(left))) for _ in range(count)) for count in counts]
