"""The scenes and volumes that patches were cut from, or are to be mapped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from outcrop.errors import OutcropError
from outcrop.patches.patchset import PatchSet
from outcrop.patches.reopen import reopen, with_bands
from outcrop.sources.kinds import are_volumes
from outcrop.sources.opening import open_scenes
from outcrop.sources.scene import Scene
from outcrop.sources.volumes import Volume, open_volume

Origins = Sequence[Scene | Volume]


def open_origins(patches: PatchSet) -> Origins:
    """What the patches were cut from, with their bands; nothing if any is gone or has changed."""
    if patches.positions is None:
        return []
    try:
        return reopen(patches)
    except OutcropError:
        return []


def open_to_map(paths: Sequence[str | Path], patches: PatchSet) -> Origins:
    """Scenes or volumes that are to be mapped, with the bands of the patches.

    Raises:
        OutcropError: one cannot be read, lacks a band, or is a volume where the patches are from
            scenes, or the other way round.
    """
    if are_volumes(paths) != patches.from_volume:
        own, other = ("volumes", "scene") if patches.from_volume else ("scenes", "volume")
        raise OutcropError(paths[0], f"is a {other}, and the patches are from {own}; map such")
    if patches.from_volume:
        return [open_volume(path, **vars(patches.sources[0].segy)) for path in paths]
    remedy = "take a scene that has them"
    reading = replace(patches.reading, band_names=[])
    scenes = open_scenes(paths, reading=reading)
    return [with_bands(scene, patches.bands, remedy) for scene in scenes]
