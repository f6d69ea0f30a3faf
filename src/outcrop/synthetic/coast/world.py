"""A folder of images, truth and labels; or one image as arrays."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from outcrop.errors import OutcropError
from outcrop.files import check_new, new_folder
from outcrop.progress import track
from outcrop.sources.raster_io import write_geotiff
from outcrop.synthetic.coast.cover import BANDS, reflectance
from outcrop.synthetic.coast.frame import CRS, Frame, frame
from outcrop.synthetic.coast.ground import CLASSES, ground
from outcrop.synthetic.coast.labels import Hand, draw
from outcrop.synthetic.coast.sensor import Radiometry, observe, swath
from outcrop.synthetic.draws import Draws

# As a GeoTIFF colour table, RGB.
COLOURS = (
    (63, 182, 201),
    (160, 143, 120),
    (31, 122, 61),
    (185, 214, 91),
    (208, 66, 59),
    (43, 95, 176),
)
_LEAST = 64  # pixels


@dataclass(frozen=True)
class CoastImage:
    """One image of the coast in memory.

    Attributes:
        frame: where it lies, in `CRS`.
        truth: uint8, size × size: 0 nodata, 1 + index into `CLASSES`.
        reflectance: float32, 4 × size × size, as the sensor reports it; NaN for nodata.
    """

    frame: Frame
    truth: np.ndarray
    reflectance: np.ndarray


@dataclass(frozen=True)
class Coast:
    """What `make_coast` wrote.

    Attributes:
        scenes: one GeoTIFF for each image: `BANDS`, uint16, reflectance × 10 000, nodata 0.
        truths: one GeoTIFF for each image on the same grid: uint8, 0 nodata, 1 + class index.
        labels: a GeoPackage of polygons with the columns `class` (the name) and `scene` (the
            stem of the scene's file).
    """

    scenes: tuple[Path, ...]
    truths: tuple[Path, ...]
    labels: Path


def coast_image(
    index: int = 0, size: int = 400, seed: int = 0, radiometry: Radiometry | None = None
) -> CoastImage:
    """Image number `index` of the coast that belongs to `seed` and `size`.

    The same arguments give the same image, whatever other images are made.

    Args:
        index: place along the shore, from 0.
        size: pixels along a side, at 10 m; the belts along the shore widen with it, while fields,
            ponds, houses and channels keep their size.
        seed: which coast.
        radiometry: what the overpass does; drawn from the seed by default.

    Raises:
        OutcropError: `size` is less than 64, or `index` or `seed` is negative.

    >>> image = coast_image(size=64)
    >>> image.truth.shape, image.reflectance.shape
    ((64, 64), (4, 64, 64))
    """
    _check(size, seed)
    if index < 0:
        raise OutcropError("coast", f"no image {index}; they are counted from 0")
    draws = Draws(seed)
    place = frame(index, size, draws)
    if radiometry is None:
        radiometry = Radiometry.draw(index, draws)
    layout = ground(place, draws)
    surface = reflectance(layout, draws, radiometry.date)
    seen = observe(surface, radiometry, place, index, draws)
    scanned = swath(index, size, draws)
    return CoastImage(
        frame=place,
        truth=np.where(scanned, layout.truth, np.uint8(0)),
        reflectance=np.where(scanned, seen, np.float32(np.nan)),
    )


def make_coast(
    folder: str | Path, images: int = 3, size: int = 400, seed: int = 0, hand: Hand | None = None
) -> Coast:
    """Make `images` images of one coast and write them, their truth and labels into `folder`.

    The images touch side by side and do not overlap. `folder` appears only when it is whole.

    Args:
        folder: a new folder.
        images: how many.
        size: pixels along a side of an image, at 10 m.
        seed: which coast; images that are there for fewer `images` are the same.
        hand: how the labels are drawn.

    Returns:
        The files in `folder`.

    Raises:
        OutcropError: `folder` exists; `images` is less than 1 or `size` less than 64; the disk is
            full.
    """
    _check(size, seed)
    if images < 1:
        raise OutcropError("coast", f"{images} images make no coast; ask for at least 1")
    hand = hand or Hand()
    coast = coast_in(folder, images)
    check_new(Path(folder), instead="")
    polygons: list[tuple[str, str, Any]] = []
    with new_folder(folder) as temporary:
        for index in track(range(images), "making the coast"):
            image = coast_image(index, size, seed)
            scene = coast.scenes[index]
            _write_scene(temporary, scene, image)
            _write_truth(temporary, coast.truths[index], image)
            rng = Draws(seed).generator("hand", index)
            polygons += [
                (CLASSES[k], scene.stem, polygon)
                for k, polygon in draw(image.truth, image.frame, hand, rng)
            ]
        _write_labels(temporary, coast.labels, polygons)
    return coast


def coast_in(folder: str | Path, images: int) -> Coast:
    """The files that `make_coast` gives a folder with so many images."""
    folder = Path(folder)
    stems = [f"coast-{index + 1}" for index in range(images)]
    return Coast(
        scenes=tuple(folder / f"{stem}.tif" for stem in stems),
        truths=tuple(folder / f"{stem}-truth.tif" for stem in stems),
        labels=folder / "labels.gpkg",
    )


def _check(size: int, seed: int) -> None:
    if size < _LEAST:
        raise OutcropError(
            "coast", f"{size} pixels have no room for a coast; take a size of at least {_LEAST}"
        )
    if seed < 0:
        raise OutcropError("coast", f"seed {seed} is negative; take 0 or more")


def _write_scene(folder: Path, name: Path, image: CoastImage) -> None:
    numbers = np.clip(np.round(image.reflectance * 10_000), 1, 65_535)
    values = np.nan_to_num(numbers, nan=0).astype(np.uint16)
    with _raster(folder, name, image.frame, values) as raster:
        raster.write(values)
        raster.scales = (1e-4,) * len(BANDS)
        for band, title in enumerate(BANDS, start=1):
            raster.set_band_description(band, title)


def _write_truth(folder: Path, name: Path, image: CoastImage) -> None:
    with _raster(folder, name, image.frame, image.truth[None]) as raster:
        raster.write(image.truth, 1)
        raster.write_colormap(1, dict(enumerate(COLOURS, start=1)))
        raster.update_tags(1, **{f"CLASS_{k}": name for k, name in enumerate(CLASSES, start=1)})


def _raster(
    folder: Path, name: Path, place: Frame, values: np.ndarray
) -> AbstractContextManager[Any]:
    """A GeoTIFF in `folder`, open for writing, of the shape and type of `values`."""
    import rasterio

    return write_geotiff(
        folder / name.name,
        name,
        count=values.shape[0],
        height=values.shape[1],
        width=values.shape[2],
        dtype=values.dtype,
        crs=CRS,
        transform=rasterio.Affine(*place.transform),
        nodata=0,
        predictor=2,
    )


def _write_labels(folder: Path, name: Path, polygons: list[tuple[str, str, Any]]) -> None:
    import geopandas

    names, stems, shapes = zip(*polygons, strict=True)
    table = geopandas.GeoDataFrame({"class": names, "scene": stems}, geometry=list(shapes), crs=CRS)
    try:
        table.to_file(folder / name.name, driver="GPKG", layer="labels")
    except RuntimeError as error:
        raise OutcropError(name, "could not be written whole; is the disk full?") from error
