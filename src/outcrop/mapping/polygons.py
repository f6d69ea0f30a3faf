"""A class map as polygons, for programs that work with shapes."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from outcrop.files import new_file
from outcrop.mapping.rasters import map_classes

_BATCH = 20_000


def write_polygons(class_map: str | Path, output: str | Path) -> int:
    """Write every connected patch of a class as a polygon of a GeoPackage.

    Pixels that touch at a corner alone are not connected. The layer is called `classes`; its
    columns are `class`, the name, `value`, the map's number of it, and `pixels`. Memory grows
    with the number of polygons, so that a noisy map should be sieved before.

    Args:
        class_map: as `map_scene` writes it.
        output: a .gpkg file; one that is there is replaced.

    Returns:
        How many polygons.

    Raises:
        OutcropError: no class map; the disk is full.
    """
    import rasterio
    from rasterio.features import shapes

    names, output = map_classes(class_map), Path(output)
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
            frame.to_file(temporary, driver="GPKG", layer="classes", mode=mode, index=False)
            count += len(batch)
            if not batch:
                break
    return count


def _frame(batch: Sequence[tuple[Any, int]], names: Sequence[str], dataset: Any) -> Any:
    import geopandas as gpd
    from shapely.geometry import shape

    geometry = [shape(one) for one, _ in batch]
    area = abs(dataset.transform.determinant)
    columns = {
        "class": [names[value - 1] for _, value in batch],
        "value": [value for _, value in batch],
        "pixels": [round(one.area / area) for one in geometry],
    }
    return gpd.GeoDataFrame(columns, geometry=geometry, crs=dataset.crs)
