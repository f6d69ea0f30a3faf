"""Class maps as polygons in a GeoPackage."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from outcrop.errors import OutcropError
from outcrop.files import check_new, new_file
from outcrop.mapping.openmap import map_colours
from outcrop.mapping.styles import polygon_style

_BATCH = 20_000
_LAYER = "classes"
_COLUMN = "class"
_GEOMETRY = "geom"


def check_polygons(output: Path, others: Sequence[Path], overwrite: bool) -> None:
    """Check a file name for polygons, before hours of work.

    Args:
        others: other files that are written.

    Raises:
        OutcropError: the name does not end in .gpkg, is one of the others, or exists and
            `overwrite` is false.
    """
    if output.suffix.lower() != ".gpkg":
        raise OutcropError(output, "is not the name of a GeoPackage; use one that ends in .gpkg")
    if any(output.resolve() == other.resolve() for other in others):
        raise OutcropError(output, "is the name of a map; use another one for the polygons")
    for one in (output, *_sidecars(output)):
        check_new(one, overwrite)


def write_polygons(class_map: str | Path, output: str | Path) -> int:
    """Write every connected area of a class as a polygon of a GeoPackage.

    Pixels that touch only at a corner are not connected. The layer `classes` has the columns
    `class` (name), `value` (number in the map) and `pixels` (size). Memory grows with the number
    of polygons, so apply a sieve to a noisy map first. The table `layer_styles`, where QGIS looks
    for styles, holds the colours of the classes.

    Args:
        class_map: class map written by `map_scene`.
        output: a .gpkg file; an existing one is replaced.

    Returns:
        Number of polygons.

    Raises:
        OutcropError: `class_map` is not a class map; `output` has another ending or is the map; the
            disk is full.
    """
    import rasterio
    from rasterio.features import shapes

    in_colour, output = map_colours(class_map), Path(output)
    names = list(in_colour)
    check_polygons(output, [Path(class_map)], overwrite=True)
    count = 0
    with new_file(output) as temporary, rasterio.open(class_map) as dataset:
        found = (
            (geometry, int(value))
            for geometry, value in shapes(rasterio.band(dataset, 1), transform=dataset.transform)
            if value > 0
        )
        while (batch := list(islice(found, _BATCH))) or not count:
            frame = _frame(batch, names, dataset)
            mode = "a" if count else "w"
            frame.to_file(
                temporary, driver="GPKG", layer=_LAYER, mode=mode, index=False,
                geometry_name=_GEOMETRY,
            )  # fmt: skip
            count += len(batch)
            if not batch:
                break
        _write_style(temporary, polygon_style(_COLUMN, names, list(in_colour.values())))
    for one in _sidecars(output):
        one.unlink(missing_ok=True)
    return count


def _sidecars(path: Path) -> tuple[Path, ...]:
    """Files of a replaced GeoPackage that SQLite would treat as changes of the new one."""
    return tuple(path.with_name(path.name + ending) for ending in ("-wal", "-shm", "-journal"))


def _write_style(path: Path, style: str) -> None:
    """Add the table `layer_styles` as QGIS writes it, with one default style."""
    import pandas as pd
    import pyogrio

    row = {
        "f_table_catalog": "",
        "f_table_schema": "",
        "f_table_name": _LAYER,
        "f_geometry_column": _GEOMETRY,
        "styleName": _LAYER,
        "styleQML": style,
        "styleSLD": "",
        "useAsDefault": True,
        "description": "",
        "owner": "",
        "ui": "",
        "update_time": pd.Timestamp.now("UTC"),
    }
    pyogrio.write_dataframe(
        pd.DataFrame([row]), path, layer="layer_styles", driver="GPKG",
        layer_options={"FID": "id"},
    )  # fmt: skip


def _frame(batch: Sequence[tuple[Any, int]], names: Sequence[str], dataset: Any) -> Any:
    import geopandas as gpd
    from shapely.geometry import shape

    geometry = [shape(one) for one, _ in batch]
    area = abs(dataset.transform.determinant)
    columns = {
        _COLUMN: [names[value - 1] for _, value in batch],
        "value": [value for _, value in batch],
        "pixels": [round(one.area / area) for one in geometry],
    }
    return gpd.GeoDataFrame(columns, geometry=geometry, crs=dataset.crs)
