"""A patch set as xarray Dataset, GeoDataFrame, DataFrame or dataset of PyTorch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from outcrop.errors import OutcropError
from outcrop.patches.positions import Positions, Source

if TYPE_CHECKING:
    import geopandas
    import pandas
    import xarray
    from torch import Tensor


class _Annotated(Protocol):
    """What is read of a patch set (`outcrop.patches.patchset`)."""

    @property
    def images(self) -> Any: ...

    @property
    def labels(self) -> np.ndarray: ...
    @property
    def classes(self) -> tuple[str, ...]: ...
    @property
    def bands(self) -> tuple[str, ...]: ...
    @property
    def positions(self) -> Positions | None: ...
    @property
    def sources(self) -> tuple[Source, ...]: ...
    @property
    def crs(self) -> str | None: ...
    @property
    def columns(self) -> Mapping[str, Any]: ...
    @property
    def from_volume(self) -> bool: ...
    def crs_of(self, source: int) -> str | None: ...


class PatchDataset:
    """Some patches as a map-style dataset of PyTorch, for `torch.utils.data.DataLoader`.

    An item is the image, float32 `bands × height × width` in the units of the source (NaN: no
    data), and its label, an index into `classes`.
    """

    def __init__(self, patches: Any, index: np.ndarray) -> None:
        self.patches, self.index = patches, index

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, number: int) -> tuple[Tensor, int]:
        return self.__getitems__([number])[0]

    def __getitems__(self, numbers: Sequence[int]) -> list[tuple[Tensor, int]]:
        """Several items at once, as a DataLoader asks for a batch: images on disk are read once."""
        import torch

        index = self.index[np.asarray(numbers)]
        images = torch.from_numpy(self.patches.take(index).astype(np.float32))
        return list(zip(images, self.patches.labels[index].tolist(), strict=True))


def to_frame(patches: _Annotated) -> pandas.DataFrame:
    """One row per patch: class, additional columns, and where it was cut."""
    import pandas as pd

    return pd.DataFrame(_columns(patches))


def _columns(patches: _Annotated) -> dict[str, Any]:
    columns: dict[str, Any] = {"class": np.array(patches.classes, object)[patches.labels]}
    for name, column in patches.columns.items():
        columns[name] = np.array(column.names, object)[column.codes]
    if patches.positions is not None:
        for item in fields(Positions):
            columns.setdefault(item.name, getattr(patches.positions, item.name))
        names = [source.name for source in patches.sources]
        columns["source"] = np.array(names, object)[patches.positions.source]
    return columns


def to_geodataframe(patches: _Annotated) -> geopandas.GeoDataFrame:
    """As `to_frame`, with the area of each patch on the ground as geometry.

    Raises:
        OutcropError: the patches have no positions, come from volumes, or from scenes that share no
            coordinate reference system.
    """
    import geopandas as gpd
    from shapely import box

    at = patches.positions
    if at is None:
        raise OutcropError("patches", "have no positions; use to_frame()")
    if patches.from_volume:
        raise OutcropError("patches", "come from volumes, which have no map; use to_frame()")
    systems = {patches.crs_of(int(source)) for source in np.unique(at.source)}
    if len(systems) > 1:
        raise OutcropError(
            "patches",
            "come from scenes with different coordinate reference systems; take those of one scene "
            "at a time, such as patches[patches.positions.source == 0]",
        )
    half = at.width / 2, at.height / 2
    areas = box(at.x - half[0], at.y - half[1], at.x + half[0], at.y + half[1])
    return gpd.GeoDataFrame(_columns(patches), geometry=areas, crs=next(iter(systems), None))


def to_xarray(patches: _Annotated) -> xarray.Dataset:
    """A Dataset with `images` (patch, band, y, x), and everything else per patch as coordinates.

    Images in memory are not copied; images on disk are read now.
    """
    import xarray as xr

    along = {
        name: ("patch", np.asarray(values, str) if np.asarray(values).dtype == object else values)
        for name, values in _columns(patches).items()
    }
    # The dimensions of an image are called so.
    for name in ("y", "x"):
        if name in along:
            along[f"centre_{name}"] = along.pop(name)
    attributes: dict[str, Any] = {"classes": list(patches.classes)}
    if patches.crs is not None:
        attributes["crs_wkt"] = patches.crs
    images = patches.images if isinstance(patches.images, np.ndarray) else patches.images[...]
    return xr.Dataset(
        {"images": (("patch", "band", "y", "x"), images)},
        coords={"band": list(patches.bands), "patch": np.arange(len(patches.labels)), **along},
        attrs=attributes,
    )
