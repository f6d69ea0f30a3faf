"""Label files of a small scene, and what they label."""

from __future__ import annotations

from pathlib import Path

import geopandas as gpd
import numpy as np
from shapely import Point, box

from outcrop.sources.labels import open_labels
from outcrop.sources.opening import open_scene
from tests.rasters import UTM, write_raster

WEST, NORTH = 600_000, 1_200_000
SHAPE = (40, 50)
LAND, WATER = (20, 30, 23, 33), (2, 3, 5, 6)


def field(first, left, last, right):
    """The outline of pixels of the scene as a polygon."""
    return box(
        WEST + 10 * left, NORTH - 10 * (last + 1), WEST + 10 * (right + 1), NORTH - 10 * first
    )


def pixel(row, column):
    """A point near the centre of a pixel of the scene."""
    return Point(WEST + 10 * column + 4, NORTH - 10 * row - 4)


FIELDS = [field(*WATER), field(*LAND)]


def frame(names=("water", "land"), shapes=FIELDS, **columns):
    return gpd.GeoDataFrame({"class": list(names), **columns}, geometry=list(shapes), crs=UTM)


def points(crs=4326):
    """One point per class, as a table of text with x and y in a CRS."""
    made = gpd.GeoSeries([pixel(3, 4), pixel(21, 31)], crs=UTM).to_crs(crs)
    return [f"{x:.9f}" for x in made.x], [f"{y:.9f}" for y in made.y]


def labelled(path, column="class", **options):
    """Row, column and class name of every labelled pixel of the scene."""
    labels = open_labels(path, column, **options)
    found = labels.on(open_scene("scene.tif"))
    names = [labels.classes[code] for code in found.label]
    return sorted(zip(found.row.tolist(), found.column.tolist(), names, strict=True))


def expected(**fields):
    return sorted(
        (row, column, name)
        for name, (first, left, last, right) in fields.items()
        for row in range(first, last + 1)
        for column in range(left, right + 1)
    )


BOTH = expected(water=WATER, land=LAND)
POINTS = [(3, 4, "water"), (21, 31, "land")]


def shapefile(folder=".", stem="labels", without=(), **options):
    """Write a shapefile, without the files of some suffixes."""
    frame().to_file(f"{stem}.shp", **options)
    Path(folder).mkdir(exist_ok=True)
    for file in Path().glob(f"{stem}.*"):
        if file.suffix in without:
            file.unlink()
        elif folder != ".":
            file.rename(Path(folder) / file.name)


def label_raster(name, values=None, **options):
    """A raster with the classes 1 and 2 on 0."""
    if values is None:
        values = np.zeros(SHAPE, np.uint8)
        values[2:6, 3:7], values[20:24, 30:34] = 1, 2
    write_raster(name, values, **options)
    return values
