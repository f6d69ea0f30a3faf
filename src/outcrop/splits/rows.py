"""Which patches the rows of scikit-learn's X are, and where they lie."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from outcrop.errors import OutcropError
from outcrop.patches.collect import without_images
from outcrop.patches.patchset import Column, PatchSet
from outcrop.patches.positions import scene_positions
from outcrop.progress import tell

_READ = 1024
_SCALE_ERROR = 0.01
_REMEDY = (
    "pass the patch set itself as X, its images, or a DataFrame whose index is the numbers of the "
    "patches"
)


def patches_of_rows(
    X: Any, y: Any, bound: PatchSet | None, splitter: str
) -> tuple[np.ndarray, PatchSet]:
    """The patches that the rows of X are, in that order, without their images.

    A search inside cross-validation gets a part of X and nothing else, so that X itself has to
    tell which patches it holds:

    - a patch set is the patches;
    - a DataFrame has the numbers of patches of the bound set as its index;
    - images of the bound set, in any shape and number type, are recognised by their pixels;
    - anything else with as many rows as the bound set has is in its order;
    - without a bound set, a GeoDataFrame or an array of x and y in metres says where they lie.

    Args:
        X: any of these; None for all patches of the bound set.
        y: the classes, where X has only places.
        bound: the patch set that the splitter was made with.
        splitter: the name of the splitter, for error lines.

    Returns:
        int64, `M`, the rows of X whose patch is known, ascending, and those patches. Of several
        patches with the same pixels only some may be in X; which is not known, and they are not
        among the rows.

    Raises:
        OutcropError: X does not tell.
    """
    if isinstance(X, PatchSet):
        return np.arange(len(X)), _some(X, np.arange(len(X)))
    if bound is None:
        placed = _placed(X, y, splitter)
        return np.arange(len(placed)), placed
    if X is None:
        return np.arange(len(bound)), _some(bound, np.arange(len(bound)))
    number = _numbers(X, bound)
    if number is None or (number < 0).all():
        raise OutcropError(
            splitter, f"X has {len(X)} rows but the patch set has {len(bound)}; {_REMEDY}"
        )
    rows = np.flatnonzero(number >= 0)
    if unknown := len(number) - len(rows):
        tell(
            f"note: {splitter}: {unknown} rows of X have the pixels of several patches and are on "
            "no side; pass the patch set itself as X"
        )
    return rows, _some(bound, number[rows])


def _some(patches: PatchSet, index: np.ndarray) -> PatchSet:
    """Some of the patches, by index, without their images."""
    return replace(
        patches,
        images=without_images(len(index), len(patches.bands)),
        labels=patches.labels[index],
        positions=None if patches.positions is None else patches.positions[index],
        columns={name: column[index] for name, column in patches.columns.items()},
    )


def _numbers(X: Any, patches: PatchSet) -> np.ndarray | None:
    """The number of the patch that each row is, -1 where it may be several; None if not known."""
    if X is patches.images:
        return np.arange(len(patches))
    number = _by_index(X, len(patches))
    if number is None:
        number = _by_pixels(X, patches)
    if number is None and _length(X) == len(patches):
        number = np.arange(len(patches))
    return number


def _length(X: Any) -> int:
    shape = getattr(X, "shape", None)
    return int(shape[0]) if shape else len(X)


def _by_index(X: Any, n: int) -> np.ndarray | None:
    """The index of a DataFrame or Series, if it can be numbers of n patches."""
    index = getattr(X, "index", None)
    values = np.asarray(getattr(index, "values", ()))
    if not hasattr(X, "iloc") or values.dtype.kind not in "iu" or len(values) != len(X):
        return None
    if len(np.unique(values)) < len(values) or (len(values) and not _within(values, n)):
        return None
    return values.astype(np.int64)


def _within(values: np.ndarray, n: int) -> bool:
    return bool(values.min() >= 0 and values.max() < n)


def _by_pixels(X: Any, patches: PatchSet) -> np.ndarray | None:
    """The patches whose images the rows are; None if there is a row that is no image of any."""
    shape = getattr(X, "shape", ())
    each = math.prod(patches.images.shape[1:])
    if len(shape) < 2 or math.prod(shape[1:]) != each or np.dtype(X.dtype).kind not in "iuf":
        return None
    dtype = np.result_type(X.dtype, patches.images.dtype)
    known = list(_hashes(patches.images, dtype))
    found = list(_hashes(X, dtype))
    if found == known:
        return np.arange(len(known))
    where: dict[bytes, list[int]] = {}
    for i, key in enumerate(known):
        where.setdefault(key, []).append(i)
    rows: dict[bytes, list[int]] = {}
    for i, key in enumerate(found):
        rows.setdefault(key, []).append(i)
    number = np.full(len(found), -1)
    for key, here in rows.items():
        if key not in where:
            return None
        if len(where[key]) in (1, len(here)):
            # Rows of equal pixels can change places where all of their patches are here.
            number[here] = where[key]
    return number


def _hashes(images: Any, dtype: np.dtype) -> Iterator[bytes]:
    """A hash of the pixels of each image, as numbers of `dtype`."""
    for start in range(0, images.shape[0], _READ):
        part = np.ascontiguousarray(images[start : start + _READ], dtype)
        for image in part:
            yield hashlib.sha256(image.data).digest()


def _placed(X: Any, y: Any, splitter: str) -> PatchSet:
    """Patches of which only places and classes are known."""
    if hasattr(X, "geometry") and hasattr(X, "estimate_utm_crs"):
        return _from_geometry(X, y, splitter)
    shape: tuple[int, ...] = getattr(X, "shape", ())
    if len(shape) == 2 and shape[1] == 2 and np.dtype(X.dtype).kind in "iuf":
        tell(f"note: {splitter} takes the two columns of X for x and y in metres")
        x, y_of = np.asarray(X, np.float64).T
        return _points(x, y_of, np.zeros(len(x)), np.zeros(len(x)), y)
    raise OutcropError(
        splitter,
        "does not know the ground; make it with patches=..., or pass a PatchSet, a GeoDataFrame, "
        "or x and y in metres as X",
    )


def _from_geometry(X: Any, y: Any, splitter: str) -> PatchSet:
    """Of a GeoDataFrame: extents are those of the geometries, text becomes columns."""
    if X.crs is None:
        raise OutcropError(splitter, "X has no coordinate reference system; set it with X.set_crs")
    if X.geometry.isna().any() or X.geometry.is_empty.any():
        raise OutcropError(splitter, "X has rows without a geometry; leave them out")
    there = X.geometry if _true_to_scale(X) else X.geometry.to_crs(X.estimate_utm_crs())
    west, south, east, north = there.bounds.to_numpy().T
    patches = _points((west + east) / 2, (south + north) / 2, east - west, north - south, y)
    assert patches.positions is not None
    columns = {}
    for name in X.columns:
        if X[name].dtype.kind in "OU" or X[name].dtype.name in ("str", "string", "category"):
            values, codes = np.unique(X[name].astype(str), return_inverse=True)
            columns[str(name)] = Column(codes, tuple(map(str, values)))
    columns.pop(X.geometry.name, None)
    positions = patches.positions
    if "polygon" in X:
        polygon = np.unique(X["polygon"], return_inverse=True)[1]
        positions = replace(positions, polygon=polygon)
    return replace(patches, positions=positions, columns=columns, crs=there.crs.to_wkt())


def _true_to_scale(X: Any) -> bool:
    """Whether the system of a GeoDataFrame is in metres, true to 1 % in the middle of it."""
    from pyproj import Proj

    if not X.crs.is_projected or any(axis.unit_conversion_factor != 1 for axis in X.crs.axis_info):
        return False
    west, south, east, north = X.to_crs(X.crs.geodetic_crs).total_bounds
    factors = Proj(X.crs).get_factors((west + east) / 2, (south + north) / 2)
    return bool(
        max(abs(factors.meridional_scale - 1), abs(factors.parallel_scale - 1)) <= _SCALE_ERROR
    )


def _points(
    x: np.ndarray, y: np.ndarray, width: np.ndarray, height: np.ndarray, classes: Any
) -> PatchSet:
    n = len(x)
    names, labels = np.unique(
        np.zeros(n, int) if classes is None else np.asarray(classes), return_inverse=True
    )
    if len(labels) != n:
        raise OutcropError("y", f"has {len(labels)} rows and X has {n}; give one class a row")
    return PatchSet(
        images=without_images(n, 1),
        labels=labels.astype(np.int64),
        classes=tuple(map(str, names)),
        bands=("none",),
        positions=scene_positions(0, np.zeros(n), np.zeros(n), x, y, width, height, np.arange(n)),
    )
