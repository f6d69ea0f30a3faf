"""`PatchSet`: images, labels, class names and positions, in memory or on disk as Zarr."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from outcrop.errors import OutcropError
from outcrop.files import check_new, decoding, new_folder, sealed, unsealed
from outcrop.frames import Colour
from outcrop.patches.fingerprint import hash_of, store_pixel_hash
from outcrop.patches.palette import palette
from outcrop.patches.positions import Positions, Source
from outcrop.sources.reading import Reading
from outcrop.typed import typed

if TYPE_CHECKING:
    import geopandas
    import pandas
    import xarray
    from torch import Tensor

_FORMAT = "outcrop patch set"
_VERSION = 3
_CHUNK_BYTES = 1 << 20
_WHOLE = ("a whole patch set", "cut one with `outcrop.cut`")

RESIDENT_BYTES = 2 << 30
"""Sets up to this size are kept in memory during training."""


@dataclass(frozen=True)
class Column:
    """An additional attribute of every patch, such as a region: `names[codes[i]]` for patch i."""

    codes: np.ndarray
    names: tuple[str, ...]

    def __post_init__(self) -> None:
        codes = np.asarray(self.codes)
        if len(codes) and not (codes.min() >= 0 and codes.max() < len(self.names)):
            raise OutcropError("column", f"codes outside 0..{len(self.names) - 1}")

    @classmethod
    def of(cls, values: Any) -> Column:
        """The column with these values, array-like of text, `N`."""
        names, codes = np.unique(values, return_inverse=True)
        return cls(codes, tuple(map(str, names)))

    def __getitem__(self, index: np.ndarray) -> Column:
        """The column for some of the patches, by index or mask."""
        return Column(self.codes[index], self.names)


@dataclass(frozen=True, eq=False, repr=False)
class PatchSet:
    """N labelled patches of one size.

    Like an array it has a shape and is indexed by arrays, masks and slices, which give a patch set
    in memory. scikit-learn accepts it as X.

    Attributes:
        images: `N × bands × height × width`, a NumPy or Zarr array of uint8, int16, uint16 or
            float32 in the units of the source. NaN means no data, so only float32 sets can have
            gaps. The centre pixel is never a gap.
        labels: int64, `N`, index into `classes`.
        classes: class names, in the order of the labels.
        bands: names of the bands.
        positions: position of each patch; None if unknown.
        sources: scenes or volumes that `positions.source` refers to.
        crs: coordinate reference system of `positions.x` and `positions.y` as WKT, always in
            metres. None for patches of volumes, and for scenes that are so far apart that no
            system is accurate for all; then each source has its own system (`crs_of`).
        columns: additional attributes by name.
        dropped: number of labelled pixels that were left out, by reason.
        reading: how scenes were read: grid of the bands, physical or raw values, no data.
        colours: red, green and blue of the classes whose colours were given, in the label files or
            otherwise (`outcrop.patches.palette.colours` chooses the others).
    """

    images: Any
    labels: np.ndarray
    classes: tuple[str, ...]
    bands: tuple[str, ...]
    positions: Positions | None = None
    sources: tuple[Source, ...] = ()
    crs: str | None = None
    columns: Mapping[str, Column] = field(default_factory=dict)
    dropped: Mapping[str, int] = field(default_factory=dict)
    reading: Reading = Reading()
    colours: Mapping[str, Colour] = field(default_factory=dict)

    def __post_init__(self) -> None:
        n = len(self.labels)
        if self.images.ndim != 4:
            raise OutcropError(
                "patch set", f"images must be N × bands × height × width, not {self.images.shape}"
            )
        if self.images.shape[0] != n or (self.positions is not None and len(self.positions) != n):
            raise OutcropError("patch set", "images, labels and positions differ in number")
        if self.images.shape[1] != len(self.bands):
            raise OutcropError(
                "patch set", f"{self.images.shape[1]} bands but {len(self.bands)} band names"
            )
        if n and not (self.labels.min() >= 0 and self.labels.max() < len(self.classes)):
            raise OutcropError("patch set", f"labels outside 0..{len(self.classes) - 1}")
        if len({source.is_volume for source in self.sources}) > 1:
            raise OutcropError("patch set", "comes from scenes and volumes; keep them apart")

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        pixels = " × ".join(map(str, self.shape[1:]))
        return (
            f"PatchSet({len(self)} patches of {pixels} {np.dtype(self.images.dtype).name}; "
            f"{', '.join(self.classes)})"
        )

    def __getitem__(self, index: Any) -> PatchSet:
        if isinstance(index, tuple):  # scikit-learn indexes the rows of an array this way
            index, *rest = index
            if any(each is not Ellipsis for each in rest):
                raise IndexError("a patch set has one index, that of the patches")
        return self.subset(np.atleast_1d(np.arange(len(self))[index]))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        images = self.images if isinstance(self.images, np.ndarray) else self.images[...]
        return np.array(images, dtype, copy=copy)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Patches, bands, height and width."""
        n, bands, height, width = (int(length) for length in self.images.shape)
        return n, bands, height, width

    @property
    def ndim(self) -> int:
        """Number of axes of `shape`."""
        return len(self.shape)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of a patch in pixels."""
        return self.images.shape[2], self.images.shape[3]

    @property
    def from_volume(self) -> bool:
        """Whether the patches were cut from slices of volumes."""
        return any(source.is_volume for source in self.sources)

    def crs_of(self, source: int) -> str | None:
        """Metric system of x and y of the patches of a source, as WKT; None for a volume.

        If sources have several systems, their false eastings and northings are chosen such that
        distances between patches of all sources can be computed from x and y
        (`outcrop.sources.metric.metric_systems`).
        """
        return self.sources[source].metric_crs or self.crs

    @property
    def unit(self) -> Literal["m", "voxels"]:
        """Unit of lengths and distances."""
        return "voxels" if self.from_volume else "m"

    @property
    def palette(self) -> dict[str, Colour]:
        """The colour of each class by name: the given one, or a chosen one."""
        return palette(self.classes, self.colours)

    @property
    def counts(self) -> np.ndarray:
        """Number of patches of each class."""
        return np.bincount(self.labels, minlength=len(self.classes))

    @property
    def nbytes(self) -> int:
        """Size of the images in bytes, uncompressed."""
        return int(np.prod(self.images.shape)) * np.dtype(self.images.dtype).itemsize

    @property
    def fingerprint(self) -> str:
        """Twelve hexadecimal digits that identify the content; splits and runs store them.

        The digits are the same in memory, on disk and in another folder
        (`outcrop.patches.fingerprint`).

        Raises:
            OutcropError: images on disk are damaged.
        """
        return hash_of(self)[:12]

    def take(self, index: np.ndarray) -> np.ndarray:
        """The images at `index`, in that order, as a NumPy array.

        Raises:
            OutcropError: the set on disk is damaged.
        """
        if isinstance(self.images, np.ndarray):
            return self.images[index]
        unique, inverse = np.unique(index, return_inverse=True)
        with decoding(self.images.store_path.store.root, *_WHOLE):
            return self.images.oindex[unique][inverse]

    def subset(self, index: np.ndarray) -> PatchSet:
        """The patches at `index`, or those of a mask, in memory."""
        index = np.asarray(index)
        if index.dtype == bool:
            index = np.flatnonzero(index)
        return replace(
            self,
            images=self.take(index),
            labels=self.labels[index],
            positions=None if self.positions is None else self.positions[index],
            columns={name: column[index] for name, column in self.columns.items()},
        )

    def to_frame(self) -> pandas.DataFrame:
        """One row per patch: class, additional columns, and position."""
        import pandas as pd

        return pd.DataFrame(self._columns())

    def to_geodataframe(self) -> geopandas.GeoDataFrame:
        """As `to_frame`, with the extent of each patch as geometry.

        Raises:
            OutcropError: the patches have no positions, come from volumes, or from scenes without
                a common coordinate reference system.
        """
        import geopandas as gpd
        from shapely import box

        at = self.positions
        if at is None:
            raise OutcropError("patches", "have no positions; use to_frame()")
        if self.from_volume:
            raise OutcropError("patches", "come from volumes, which have no map; use to_frame()")
        systems = {self.crs_of(int(source)) for source in np.unique(at.source)}
        if len(systems) > 1:
            raise OutcropError(
                "patches",
                "come from scenes with different coordinate reference systems; use those of one "
                "scene at a time, such as patches[patches.positions.source == 0]",
            )
        half = at.width / 2, at.height / 2
        extents = box(at.x - half[0], at.y - half[1], at.x + half[0], at.y + half[1])
        return gpd.GeoDataFrame(self._columns(), geometry=extents, crs=next(iter(systems), None))

    def to_xarray(self) -> xarray.Dataset:
        """A Dataset of `images` (patch, band, y, x), with everything else per patch as coordinates.

        Images in memory are not copied. Images on disk are read.
        """
        import xarray as xr

        along = {
            name: ("patch", values.astype(str) if values.dtype == object else values)
            for name, values in self._columns().items()
        }
        # The dimensions of an image have these names.
        for name in ("y", "x"):
            if name in along:
                along[f"centre_{name}"] = along.pop(name)
        attributes: dict[str, Any] = {"classes": list(self.classes)}
        if self.crs is not None:
            attributes["crs_wkt"] = self.crs
        images = self.images if isinstance(self.images, np.ndarray) else self.images[...]
        return xr.Dataset(
            {"images": (("patch", "band", "y", "x"), images)},
            coords={"band": list(self.bands), "patch": np.arange(len(self)), **along},
            attrs=attributes,
        )

    def _columns(self) -> dict[str, Any]:
        columns: dict[str, Any] = {"class": np.array(self.classes, object)[self.labels]}
        for name, column in self.columns.items():
            columns[name] = np.array(column.names, object)[column.codes]
        if self.positions is not None:
            for item in fields(Positions):
                columns.setdefault(item.name, getattr(self.positions, item.name))
            names = [source.name for source in self.sources]
            columns["source"] = np.array(names, object)[self.positions.source]
        return columns

    def to_dataset(self, index: np.ndarray | None = None) -> PatchDataset:
        """The patches as a dataset of PyTorch: items of image, float32, and label.

        Args:
            index: int, patches to take, for example `split.train`; None: all.

        A data module for Lightning needs no more than

            class Patches(lightning.LightningDataModule):
                def train_dataloader(self):
                    return DataLoader(patches.to_dataset(split.train), 64, shuffle=True)

                def val_dataloader(self):
                    return DataLoader(patches.to_dataset(split.validation), 64)

        >>> from torch.utils.data import DataLoader
        >>> patches = PatchSet(np.zeros((5, 2, 8, 8)), np.arange(5) % 2, ("a", "b"), ("red", "nir"))
        >>> [tuple(images.shape) for images, labels in DataLoader(patches.to_dataset(), 3)]
        [(3, 2, 8, 8), (2, 2, 8, 8)]
        """
        return PatchDataset(self, np.arange(len(self)) if index is None else np.asarray(index))

    def save(self, path: str | Path, overwrite: bool = False) -> None:
        """Write the set as a Zarr group, which appears under its name only when it is complete.

        Raises:
            OutcropError: `path` exists and `overwrite` is false; the disk is full.
        """
        check_output(path, overwrite)
        with new_folder(path, overwrite) as temporary:
            images = create_images(temporary, self.images.shape, self.images.dtype)
            step = images.chunks[0]
            for start in range(0, len(self), step):
                stop = min(start + step, len(self))
                images[start:stop] = self.take(np.arange(start, stop))
            write_annotations(temporary, self)


class PatchDataset:
    """Some patches as a map-style dataset of PyTorch, for `torch.utils.data.DataLoader`.

    An item is the image, float32 `bands × height × width` in the units of the source (NaN: no
    data), and its label, an index into `classes`.
    """

    def __init__(self, patches: PatchSet, index: np.ndarray) -> None:
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


def check_output(output: str | Path | None, overwrite: bool) -> None:
    """Check that a patch set can be written to a path, if there is one.

    Raises:
        OutcropError: `output` exists and `overwrite` is false, or it is not a patch set; its parent
            folder is missing.
    """
    if output is None:
        return
    path = Path(output)
    check_new(path, overwrite)
    if path.exists() and not (path / "zarr.json").is_file():
        raise OutcropError(path, "is not a patch set and is not replaced; choose another name")


def create_images(folder: Path, shape: tuple[int, ...], dtype: np.dtype) -> Any:
    """An empty Zarr array for the images of a patch set in `folder`, in chunks of about 1 MiB."""
    import zarr

    group = zarr.open_group(folder, mode="a")
    per_patch = int(np.prod(shape[1:])) * np.dtype(dtype).itemsize
    chunk = min(max(1, _CHUNK_BYTES // max(per_patch, 1)), max(shape[0], 1))
    return group.create_array(
        "images",
        shape=shape,
        dtype=dtype,
        chunks=(chunk, *shape[1:]),
        dimension_names=("patch", "band", "y", "x"),
        **_checked(),
    )


def write_annotations(folder: Path, patches: PatchSet) -> None:
    """Write everything except the images into `folder`, and the hash of the images."""
    import zarr

    group = zarr.open_group(folder, mode="a")
    store_pixel_hash(group["images"])
    along: dict[str, Any] = {"dimension_names": ("patch",), **_checked()}
    group.create_array("labels", data=np.asarray(patches.labels, dtype=np.int64), **along)
    if patches.positions is not None:
        positions = group.create_group("positions")
        for item in fields(Positions):
            positions.create_array(
                item.name, data=np.asarray(getattr(patches.positions, item.name)), **along
            )
    columns = group.create_group("columns")
    for name, column in patches.columns.items():
        columns.create_array(name, data=np.asarray(column.codes, dtype=np.int64), **along)
    group.attrs.update(
        sealed(
            {
                "format": _FORMAT,
                "version": _VERSION,
                "classes": list(patches.classes),
                "bands": list(patches.bands),
                "sources": [asdict(source) for source in patches.sources],
                "crs": patches.crs,
                "columns": {name: list(column.names) for name, column in patches.columns.items()},
                "dropped": dict(patches.dropped),
                "reading": asdict(patches.reading),
                "colours": dict(patches.colours),
            },
            _layout(group),
        )
    )


def _checked() -> dict[str, Any]:
    """Options that make damage detectable: a checksum per chunk, and no chunk left out."""
    from zarr.codecs import Crc32cCodec, ZstdCodec

    return {
        "compressors": (ZstdCodec(), Crc32cCodec()),
        # Chunks of zeros are written too, so that a missing chunk is an error.
        "config": {"write_empty_chunks": True},
    }


def _layout(group: Any) -> list[list[Any]]:
    """Name, shape and dtype of each array, which define how chunks are read."""
    return [[name, list(array.shape), str(array.dtype)] for name, array in _arrays(group)]


def _arrays(group: Any) -> list[tuple[str, Any]]:
    """All arrays in a group and its subgroups, sorted by name."""
    import zarr

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about other files
        members = group.members(max_depth=None)
    return sorted((name, item) for name, item in members if isinstance(item, zarr.Array))


def read_patches(path: str | Path) -> PatchSet:
    """Open a patch set on disk; images are read when they are used.

    Raises:
        OutcropError: the path does not exist, or is not a patch set.
    """
    import zarr

    path = Path(path)
    if not path.exists():
        raise OutcropError(path, "no such patch set; cut one with `outcrop.cut`")
    with decoding(path, *_WHOLE):
        group = zarr.open_group(path, mode="r")
        attributes = dict(group.attrs)
        if attributes.get("format") != _FORMAT:
            raise ValueError("it has another format")
        version = attributes["version"]
        if version == _VERSION:
            return _patches_in(group, unsealed(attributes, _layout(group)))
    age = "an older" if version in range(_VERSION) else "another"
    raise OutcropError(path, f"was made by {age} outcrop; cut it again with `outcrop.cut`")


def _patches_in(group: Any, attributes: Mapping[str, Any]) -> PatchSet:
    positions = None
    if "positions" in group:
        positions = Positions(
            **{f.name: group[f"positions/{f.name}"][...] for f in fields(Positions)}
        )
    images = group["images"]
    for name, array in _arrays(group):
        lost = array.nchunks - array.nchunks_initialized
        if lost:
            raise ValueError(f"{lost} chunks of {name} are missing")
    return PatchSet(
        images=images,
        labels=group["labels"][...],
        classes=typed(tuple[str, ...], attributes["classes"], "classes"),
        bands=typed(tuple[str, ...], attributes["bands"], "bands"),
        positions=positions,
        sources=typed(tuple[Source, ...], attributes["sources"], "sources"),
        crs=typed(str | None, attributes["crs"], "crs"),
        columns={
            name: Column(group[f"columns/{name}"][...], tuple(names))
            for name, names in typed(
                dict[str, tuple[str, ...]], attributes["columns"], "columns"
            ).items()
        },
        dropped=typed(dict[str, int], attributes["dropped"], "dropped"),
        reading=typed(Reading, attributes["reading"], "reading"),
        colours=typed(dict[str, Colour], attributes.get("colours", {}), "colours"),
    )
