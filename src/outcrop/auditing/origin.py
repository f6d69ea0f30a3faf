"""The scenes and volumes that patches were cut from, or are to be mapped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from outcrop.errors import OutcropError
from outcrop.patches.patchset import PatchSet
from outcrop.patches.positions import Source
from outcrop.sources.kinds import are_volumes
from outcrop.sources.scene import Scene, open_scene, open_scenes
from outcrop.sources.volumes import Volume, open_volume

Origins = Sequence[Scene | Volume]


def open_origins(patches: PatchSet) -> Origins:
    """What the patches were cut from, with their bands; nothing if any is gone or has changed."""
    if patches.positions is None:
        return []
    shapes = [source.shape for source in patches.sources]
    try:
        if patches.from_volume:
            volumes = [open_volume(source.name) for source in patches.sources]
            return volumes if [volume.shape for volume in volumes] == shapes else []
        scenes = [
            _with_bands(open_scene(source.name.split(","), crs=source.crs), patches)
            for source in patches.sources
        ]
        return scenes if [(scene.height, scene.width) for scene in scenes] == shapes else []
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
        return [open_volume(path) for path in paths]
    return [_with_bands(scene, patches) for scene in open_scenes(paths)]


def source_of(origin: Scene | Volume) -> Source:
    """What a patch set keeps of a scene or a volume."""
    if isinstance(origin, Volume):
        return Source(origin.name, origin.shape)
    return Source(origin.name, (origin.height, origin.width), origin.crs, origin.transform)


def _with_bands(scene: Scene, patches: PatchSet) -> Scene:
    """The bands of the patches, by name; all if they are as many, for single files name theirs."""
    bands = {band.name: band for band in scene.bands}
    if set(patches.bands) <= set(bands):
        return replace(scene, bands=tuple(bands[name] for name in patches.bands))
    if len(scene.bands) == len(patches.bands):
        return scene
    raise OutcropError(
        scene.title,
        f"has {len(scene.bands)} bands, and not those of the patches "
        f"({', '.join(patches.bands)}); take a scene that has them",
    )
