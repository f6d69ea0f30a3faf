"""`MappedScene`: the files of a map of a scene, and what they hold as DataArrays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from outcrop.errors import OutcropError

if TYPE_CHECKING:
    import xarray


@dataclass(frozen=True)
class MappedScene:
    """The files of a map of a scene.

    Attributes:
        files: by name of the layer: classes, and those of confidence, entropy, second and
            dissimilarity that were asked for.
        classes: names of the values from 1; 0 is no data.
    """

    files: Mapping[str, Path]
    classes: tuple[str, ...]

    def __repr__(self) -> str:
        return f"MappedScene({', '.join(f'{name}: {path}' for name, path in self.files.items())})"

    def to_xarray(self, layer: str = "classes") -> xarray.DataArray:
        """A layer as DataArray (y, x), with its place as rioxarray stores it.

        Raises:
            OutcropError: there is no such layer, or its file has gone.
        """
        import xarray as xr

        if layer not in self.files:
            raise OutcropError(
                "layer", f"there is no '{layer}'; this map has {', '.join(self.files)}"
            )
        from outcrop.sources.raster_io import open_dataset

        with open_dataset(self.files[layer]) as dataset:
            values = dataset.read(1)
            a, _, left, _, e, top = list(dataset.transform)[:6]
            attributes = {"_FillValue": dataset.nodata}
            reference = {"crs_wkt": dataset.crs.to_wkt(), "spatial_ref": dataset.crs.to_wkt()}
        if layer in ("classes", "second"):
            attributes["classes"] = list(self.classes)
        height, width = values.shape
        return xr.DataArray(
            values,
            dims=("y", "x"),
            coords={
                "y": top + e * (np.arange(height) + 0.5),
                "x": left + a * (np.arange(width) + 0.5),
                "spatial_ref": ((), 0, reference),
            },
            attrs=attributes,
            name=layer,
        )
