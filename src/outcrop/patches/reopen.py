"""What patches were cut from, found and opened again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from outcrop.errors import OutcropError
from outcrop.patches.patchset import PatchSet
from outcrop.patches.positions import Source
from outcrop.sources.scene import Scene, open_scene
from outcrop.sources.volumes import Volume, open_volume

AnySource = str | Path | Scene | Volume
REMEDY = "pass what the patches were cut from with --sources"


def reopen(patches: PatchSet, sources: Sequence[AnySource] | None = None) -> list[Scene | Volume]:
    """Open the scenes or volumes that patches were cut from.

    Args:
        sources: where they are now, in the order of `patches.sources`: one for each, or all their
            files one after the other. Without it they are looked for under their old names.

    Returns:
        for each source the scene, with the bands of the patches alone, or the volume.

    Raises:
        OutcropError: one is gone, or has another shape or other bands; another number of them.
    """
    given = _one_each(patches.sources, sources) if sources else [s.name for s in patches.sources]
    opened = [_open(one, was) for one, was in zip(given, patches.sources, strict=True)]
    for one, was in zip(opened, patches.sources, strict=True):
        shape = Source.of(one).shape
        if shape != was.shape:
            now, then = (" × ".join(map(str, lengths)) for lengths in (shape, was.shape))
            raise OutcropError(one.title, f"is {now}, where patches were cut of {then}; {REMEDY}")
    return [with_bands(one, patches.bands, REMEDY) for one in opened]


def with_bands(source: Scene | Volume, bands: tuple[str, ...], remedy: str) -> Scene | Volume:
    """A source with the bands of patches alone: by name, or all if there are as many.

    Args:
        remedy: what to do if it has other bands.

    Raises:
        OutcropError: it has other bands.
    """
    names = [band.name for band in source.bands] if isinstance(source, Scene) else ["samples"]
    if all(names.count(band) == 1 for band in bands):
        chosen = [names.index(band) for band in bands]
    elif len(names) == len(bands):
        chosen = list(range(len(bands)))
    else:
        raise OutcropError(
            source.title, f"has {', '.join(names)}, and patches have {', '.join(bands)}; {remedy}"
        )
    if isinstance(source, Volume):
        return source
    return replace(source, bands=tuple(source.bands[number] for number in chosen))


def _one_each(then: Sequence[Source], now: Sequence[AnySource]) -> list[AnySource]:
    """What is given for each source; its files may have been given one by one."""
    if len(now) == len(then):
        return list(now)
    files = [1 if source.is_volume else len(source.name.split(",")) for source in then]
    if len(now) != sum(files):
        names = ", ".join(source.name for source in then)
        raise OutcropError(
            "--sources",
            f"names {len(now)} where the patches were cut from {len(then)}; "
            f"name, in this order, where these are now: {names}",
        )
    left = iter(now)
    return [",".join(str(next(left)) for _ in range(count)) for count in files]


def _open(source: AnySource, was: Source) -> Scene | Volume:
    if isinstance(source, Scene | Volume):
        return source
    files = [str(source)] if was.is_volume else str(source).split(",")
    for file in files:
        if not Path(file).exists():
            raise OutcropError(file, "is gone, and patches were cut from it; tell with --sources")
    return open_volume(files[0]) if was.is_volume else open_scene(files, crs=was.crs)
