"""Cut labelled patches from slices of volumes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from outcrop.errors import OutcropError
from outcrop.files import read_json
from outcrop.frames import Colour
from outcrop.patches.collect import Batch, check_classes, collect, without_images
from outcrop.patches.palette import given_colours
from outcrop.patches.patchset import PatchSet, check_output
from outcrop.patches.positions import Positions, Size, Source, sides, upper_left, volume_positions
from outcrop.patches.samples import check_numbers
from outcrop.progress import track
from outcrop.sources.collections.collection import band_names
from outcrop.sources.dtypes import read_dtype
from outcrop.sources.kinds import open_all_volumes
from outcrop.sources.memory import as_list
from outcrop.sources.volumes import Volume
from outcrop.sources.volumes.matching import align_labels

_MOST_CLASSES = 255
_SLAB_BYTES = 64 << 20
_BATCH_BYTES = 64 << 20


def cut_volume(
    volumes: str | Path | Volume | Sequence[str | Path | Volume],
    labels: str | Path | Volume | Sequence[str | Path | Volume],
    axis: int,
    size: int = 33,
    *,
    stride: int = 1,
    slice_stride: int = 1,
    per_class: int | None = None,
    classes: Sequence[str] | None = None,
    colours: Mapping[str, Colour | str] | Sequence[str] | None = None,
    seed: int = 0,
    output: str | Path | None = None,
    overwrite: bool = False,
) -> PatchSet:
    """Cut a patch around labelled voxels of one volume or several, in slices across one axis.

    A patch lies inside its slice and has the label of its centre voxel (`upper_left`); 0 means
    unlabelled. A labelled voxel is dropped and counted if it is too close to the edge of the slice
    or its sample is NaN.

    Args:
        volumes: files, or open volumes.
        labels: for each volume a label volume of the same shape, with integers. If both name their
            lines, samples or slices, the labels are brought into the order of their volume
            (`outcrop.sources.volumes.matching.align_labels`).
        axis: axis that the slices are perpendicular to, from 0.
        size, per_class, colours, seed, output, overwrite: as in `outcrop.cut`.
        stride: use only the voxels on every `stride`-th row and column of a slice.
        slice_stride: use only every `slice_stride`-th slice.
        classes: names for the labels, in ascending order. By default they are read from a JSON
            file with the name of the label file, which has a list of the names of labels 1, 2, ...
            (as written by `outcrop synthetic cube`). Without that file they are "class 1", ...

    Returns:
        The patches in the order of volumes, slices, rows and columns, with the band "grey".

    Raises:
        OutcropError: a volume or its labels cannot be used; there are no patches, or only one
            class.
    """
    check_numbers(seed, size=size, stride=stride, slice_stride=slice_stride, per_class=per_class)
    check_output(output, overwrite)
    opened, layers = open_all_volumes(as_list(volumes)), open_all_volumes(as_list(labels))
    if len(layers) != len(opened):
        raise OutcropError(
            "`labels`", f"{len(layers)} files for {len(opened)} volumes; give one for each"
        )
    for volume in opened:
        check_size(volume, axis, size)
    layers = [align_labels(layer, volume) for layer, volume in zip(layers, opened, strict=True)]
    found, values = _Found(per_class, seed), set[float]()
    for number, (volume, layer) in enumerate(zip(opened, layers, strict=True)):
        values |= _find_voxels(volume, layer, number, axis, size, (slice_stride, stride), found)
    names = _names(sorted(values), classes, layers[0])
    if not len(found):
        reasons = [f"{count} for {reason}" for reason, count in found.dropped.items() if count]
        raise OutcropError(
            layers[0].title,
            f"gives no patch: every labelled voxel was dropped ({', '.join(reasons)}); "
            "use a smaller `size` or `stride`, or label more",
        )
    source, index, row, column, value = found.in_order()
    at = volume_positions(source, axis, index, row, column, size)
    patches = PatchSet(
        images=without_images(len(at), 1),
        labels=np.searchsorted(sorted(values), value),
        classes=names,
        bands=band_names(1),
        positions=at,
        sources=tuple(map(Source.of, opened)),
        dropped={reason: count for reason, count in found.dropped.items() if count},
        colours=given_colours(names, [], colours),
    )
    check_classes(patches, layers[0].title)
    images = volume_images(opened, at, size)
    return collect(patches, images, size, common_dtype(opened), output, overwrite)


class _Found:
    """Labelled voxels: all of them, or a random sample of each class.

    Each voxel gets a random key, and those with the smallest keys are kept. So only the voxels of
    one slab are in memory, and the sample does not depend on the slabs.
    """

    def __init__(self, per_class: int | None, seed: int) -> None:
        self.dropped: Counter[str] = Counter()
        self._per_class, self._random = per_class, np.random.default_rng(seed)
        self._parts: list[np.ndarray] = []
        self._keys = np.empty(0)

    def __len__(self) -> int:
        return sum(part.shape[1] for part in self._parts)

    def add(self, places: np.ndarray) -> None:
        """Add voxels: `5 × n`, source, slice, row, column and label of each."""
        self._parts.append(places)
        if self._per_class is None:
            return
        keys = np.concatenate([self._keys, self._random.random(places.shape[1])])
        every = np.concatenate(self._parts, axis=1)
        order = np.lexsort((keys, every[4]))
        _, first, count = np.unique(every[4][order], return_index=True, return_counts=True)
        rank = np.arange(len(order)) - np.repeat(first, count)
        kept = order[rank < self._per_class]
        self._parts, self._keys = [every[:, kept]], keys[kept]

    def in_order(self) -> np.ndarray:
        """The voxels that are kept, in the order of sources, slices, rows and columns."""
        every = np.concatenate(self._parts, axis=1)
        return every[:, np.lexsort(every[3::-1])]


def _find_voxels(
    volume: Volume,
    layer: Volume,
    number: int,
    axis: int,
    size: int,
    strides: tuple[int, int],
    found: _Found,
) -> set[float]:
    """Find the labelled voxels of a volume that have complete patches; return its labels except 0.

    Args:
        number: index of the volume.
        strides: stride between slices, and between rows and columns.

    Raises:
        OutcropError: a label is not an integer, or is below 0.
    """
    values: set[float] = set()
    between, stride = strides
    rows, columns = (np.arange(0, length, stride) for length in layer.slice_shape(axis))
    whole = np.logical_and.outer(
        *(
            (at >= size // 2) & (at - size // 2 + size <= length)
            for at, length in zip((rows, columns), layer.slice_shape(axis), strict=True)
        )
    )
    slabs = max(volume, layer, key=lambda one: one.dtype.itemsize).slabs(axis, _SLAB_BYTES)
    with layer.reader() as labels, volume.reader() as samples:
        for start, stop in track(slabs, "reading labels"):
            slab = labels.slices(axis, start, stop)
            values.update(np.unique(slab).tolist())
            grid = slice(-start % between, None, between), *2 * (slice(None, None, stride),)
            label = slab[grid]
            places = label > 0
            found.dropped["edge"] += int(places[:, ~whole].sum())
            places &= whole
            if volume.dtype.kind == "f" and places.any():
                known = np.isfinite(samples.slices(axis, start, stop)[grid])
                found.dropped["no data"] += int(places[~known].sum())
                places &= known
            at, down, right = np.nonzero(places)
            index = start + grid[0].start + at * between
            source = np.full_like(at, number)
            found.add(np.stack([source, index, rows[down], columns[right], label[places]]))
    values = {value for value in values if value and not np.isnan(value)}
    odd = sorted(value for value in values if value < 0 or value != int(value))
    if odd:
        raise OutcropError(
            layer.title,
            f"is no volume of labels: it holds {odd[0]:g}; number the classes from 1, and put 0 "
            "where none is known",
        )
    return values


def _names(values: list[float], classes: Sequence[str] | None, layer: Volume) -> tuple[str, ...]:
    """Names of the classes, in the order of the values."""
    where = layer.title
    if len(values) > _MOST_CLASSES:
        raise OutcropError(
            where,
            f"is no volume of labels: it holds {len(values)} different values; group them to "
            "classes",
        )
    if not values:
        raise OutcropError(where, "labels no voxel; number the classes from 1")
    if classes is not None and len(classes) != len(values):
        raise OutcropError(
            where,
            f"has {len(values)} values but `classes` names {len(classes)}; give one name each",
        )
    return tuple(classes or _names_beside(layer.path, values))


def _names_beside(labels: Path, values: list[float]) -> list[str]:
    file = labels.with_suffix(".json")
    names = read_json(file, "list of class names", "make_cube") if file.exists() else []
    if not names:
        return [f"class {int(value)}" for value in values]
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise OutcropError(file, "is no list of class names; correct it, or give `classes`")
    if min(values) < 1 or max(values) > len(names):
        raise OutcropError(
            file,
            f"names labels 1 to {len(names)}, and there are {int(min(values))} to "
            f"{int(max(values))}; correct it, or give `classes`",
        )
    return [names[int(value) - 1] for value in values]


# Patches of slices


def cut_slices(
    volume: Volume, axis: int, index: np.ndarray, row: np.ndarray, column: np.ndarray, size: Size
) -> Iterator[Batch]:
    """Cut patches around given centre pixels of slices across one axis, slab after slab.

    Args:
        index: int, `N`, slices.
        row, column: int, `N`, centre pixels; every patch lies inside its slice.

    Yields:
        Indices into `row`, and their patches: `n × 1 × height × width` in the volume's dtype.
    """
    height, width = sides(size)
    top, left = upper_left(row, height), upper_left(column, width)
    order = np.argsort(index, kind="stable")
    step = max(1, _BATCH_BYTES // (height * width * volume.dtype.itemsize))
    with volume.reader() as reader:
        for start, stop in volume.slabs(axis):
            here = order[slice(*np.searchsorted(index, (start, stop), sorter=order))]
            if not len(here):
                continue
            first = int(index[here[0]])
            slab = reader.slices(axis, first, int(index[here[-1]]) + 1)
            windows = sliding_window_view(slab, (height, width), axis=(1, 2))
            for at in range(0, len(here), step):
                part = here[at : at + step]
                yield part, windows[index[part] - first, top[part], left[part]][:, None]


def volume_images(volumes: Sequence[Volume], positions: Positions, size: Size) -> Iterator[Batch]:
    """Cut patches of volumes, one volume and one axis after another."""
    for number, volume in enumerate(volumes):
        for axis in range(3):
            here = np.flatnonzero((positions.source == number) & (positions.axis == axis))
            at = positions[here]
            if len(here):
                for part, pixels in cut_slices(volume, axis, at.index, at.row, at.column, size):
                    yield here[part], pixels


def with_samples(volumes: Sequence[Volume], positions: Positions) -> np.ndarray:
    """Mask of the patches whose centre voxel is not NaN."""
    valid = np.ones(len(positions), bool)
    if any(volume.dtype.kind == "f" for volume in volumes):
        for part, centres in volume_images(volumes, positions, size=1):
            valid[part] = np.isfinite(centres[:, 0, 0, 0])
    return valid


def common_dtype(volumes: Sequence[Volume]) -> np.dtype:
    """Dtype of patches of several volumes: that of the volumes, if a patch set can store it."""
    return read_dtype(np.result_type(*(volume.dtype for volume in volumes)))


def check_size(volume: Volume, axis: int, size: int) -> None:
    """Raise an error if patches are larger than the slices across `axis`."""
    height, width = volume.slice_shape(axis)
    if size > min(height, width):
        raise OutcropError(
            volume.title,
            f"has slices of {height} × {width} across axis {axis}, smaller than a patch of {size}; "
            "use a smaller `size`",
        )
