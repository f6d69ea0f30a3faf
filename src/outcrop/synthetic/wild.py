"""A cube whose truth is known, and patches of it as they are handed over: their origin is lost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from outcrop.files import new_file
from outcrop.patches.at_positions import cut_at_positions
from outcrop.patches.patchset import PatchSet, read_patches
from outcrop.patches.positions import Source, upper_left, volume_positions
from outcrop.sources.volumes import open_volume
from outcrop.synthetic.cube import CLASSES, cube_in, make_cube, random_patches
from outcrop.synthetic.damage import damage

_CLIP = (0.5, 99.5)


@dataclass(frozen=True, eq=False)
class Wild:
    """Patches that were handed over, and what whoever cut them knew.

    Attributes:
        volume: the cube, `cube/cube.npy`.
        patches: N patches without positions, of whole grey values, sorted by class.
        truth: pandas, a row for each patch in their order: axis, index, row and column of the
            upper-left pixel, gain and offset of its contrast.
    """

    volume: Path
    patches: PatchSet
    truth: Any

    @property
    def with_truth(self) -> PatchSet:
        """The patches at the positions that they truly have."""
        size, at = self.patches.size[0], self.truth
        row, column = (at[name].to_numpy() - upper_left(0, size) for name in ("row", "column"))
        return replace(
            self.patches,
            positions=volume_positions(
                0, at["axis"].to_numpy(), at["index"].to_numpy(), row, column, size
            ),
            sources=(Source.of(open_volume(self.volume)),),
        )


def make_wild(
    folder: str | Path,
    shape: Sequence[int],
    size: int,
    per_class: int,
    share: float,
    axis: int,
    seed: int,
) -> Wild:
    """Make a cube, cut patches of four classes, and damage them as in the wild.

    Contrast and brightness are of each patch's own, the darkest and the brightest half per cent
    are clipped, 8 bits are kept, the order is by class, and nothing says where a patch was cut. The
    truth is kept beside them, in `truth.csv`. What is there from before is used again.

    Args:
        folder: where `cube/`, `patches.zarr` and `truth.csv` are, or will be.
        shape: of the cube (`make_cube`).
        size: height and width of a patch in pixels.
        per_class: patches of each class.
        share: of a patch's pixels that are of its class, at least.
        axis: that the slices are across.
        seed: of the cube, the places and the damage.

    Raises:
        OutcropError: the cube has no room for so many patches of a class; the disk is full.
    """
    folder = Path(folder)
    folder.mkdir(exist_ok=True)
    cube = cube_in(folder / "cube")
    if not cube.volume.parent.exists():
        make_cube(folder / "cube", shape, seed)
    if not (folder / "patches.zarr").exists():
        places = _places(cube.classes, axis, size, per_class, seed, share)
        _write(places, folder / "places.csv")
        cut = cut_at_positions(cube.volume, folder / "places.csv", size=size)
        images, labels, done = damage(cut.images, cut.labels, seed, clip=_CLIP, order="sorted")
        truth = places.drop(columns="label").iloc[done.order]
        _write(truth.assign(gain=done.gain, offset=done.offset), folder / "truth.csv")
        PatchSet(images, labels, cut.classes, cut.bands).save(folder / "patches.zarr")
    return _read(folder)


def _read(folder: Path) -> Wild:
    import pandas as pd

    return Wild(
        cube_in(folder / "cube").volume,
        read_patches(folder / "patches.zarr"),
        pd.read_csv(folder / "truth.csv"),
    )


def _places(classes: Path, axis: int, size: int, per_class: int, seed: int, share: float) -> Any:
    import pandas as pd

    truth = np.load(classes, mmap_mode="r", allow_pickle=False)
    places = random_patches(truth, axis, size, per_class, seed, share)
    columns = {name: getattr(places, name) for name in ("index", "row", "column")}
    return pd.DataFrame({"axis": axis, **columns, "label": np.array(CLASSES)[places.label]})


def _write(table: Any, path: Path) -> None:
    with new_file(path) as temporary:
        table.to_csv(temporary, index=False)
