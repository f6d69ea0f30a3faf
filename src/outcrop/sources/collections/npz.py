"""Labelled images in one npz file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from outcrop.errors import OutcropError
from outcrop.files import decoding
from outcrop.sources.collections.collection import (
    SIDES,
    Collection,
    band_names,
    normalized_sides,
)
from outcrop.sources.dtypes import DTYPES

_USUAL_BANDS = (1, 3, 4)

UNLABELLED = ("unlabelled",)
"""The classes of images without labels."""


def read_npz(path: Path, labelled: bool = True) -> Collection:
    """Read a collection from the arrays of an npz file without pickle.

    Arrays:
        images: `N × height × width`, or with bands at the axis that `band_axis` finds; uint8,
        uint16, int16 or float. Float64 and float16 become float32.
        labels: `N`, class names or integers; optional if `labelled` is false.
        classes: class names, into which integer labels are indices (optional). Without it the
        classes are the distinct labels in sorted order.
        sides: `N`, index into `SIDES` (optional).
        layout: "NCHW" or "NHWC" (optional).
        bands: band names (optional).

    Raises:
        OutcropError: the file is not npz; an array is missing, has Python objects, or has the wrong
            shape or dtype; a label is NaN or has no class; the number of band names is wrong.
    """
    arrays = _load(path, ("images", "labels") if labelled else ("images",))
    images = _images(path, arrays["images"], arrays.get("layout"))
    if "labels" in arrays:
        labels, classes = _labels(path, arrays["labels"], arrays.get("classes"))
    else:
        labels, classes = np.zeros(len(images), np.int64), UNLABELLED
    if len(labels) != len(images):
        raise OutcropError(
            path, f"has {len(images)} images but {len(labels)} labels; save one label per image"
        )
    return Collection(
        images=images,
        labels=labels,
        classes=classes,
        bands=_bands(path, arrays.get("bands"), images.shape[1]),
        sides=None if "sides" not in arrays else _sides(path, arrays["sides"], len(labels)),
    )


def band_axis(shape: tuple[int, ...]) -> int | None:
    """The band axis of `N × bands × height × width` or `N × height × width × bands`.

    It is the second or the last axis, whichever leaves square images. If both or neither do, it is
    the one of length 1, 3 or 4. If this is not unique either, the result is None.

    >>> band_axis((10, 6, 32, 32)), band_axis((10, 32, 32, 6)), band_axis((10, 20, 30, 3))
    (1, 3, 3)
    >>> band_axis((10, 3, 3, 3)) is None
    True
    """
    _, second, third, last = shape
    for signs in ((third == last, second == third), (second in _USUAL_BANDS, last in _USUAL_BANDS)):
        if signs[0] != signs[1]:
            return 1 if signs[0] else 3
    return None


def _load(path: Path, needed: tuple[str, ...]) -> dict[str, np.ndarray]:
    with _decoding_npz(path), np.load(path, allow_pickle=False) as archive:
        for name in needed:
            if name not in archive:
                raise OutcropError(
                    path,
                    f"has no array '{name}' (it has {', '.join(archive) or 'none'}); save arrays "
                    f"named {' and '.join(needed)}",
                )
        known = ("images", "labels", "classes", "sides", "layout", "bands")
        return {name: archive[name] for name in known if name in archive}


@contextmanager
def _decoding_npz(path: Path) -> Iterator[None]:
    with decoding(path, "a complete npz file", "save it again with numpy.savez"):
        try:
            yield
        except MemoryError:
            raise OutcropError(path, "does not fit in memory; use fewer images") from None
        except ValueError as error:
            if "pickle" not in str(error):
                raise
            raise OutcropError(
                path, "has Python objects, which are not read; save arrays of numbers or text"
            ) from error


def _images(path: Path, images: np.ndarray, layout: np.ndarray | None) -> np.ndarray:
    if images.ndim == 3:
        images = images[:, None]
    elif images.ndim == 4:
        axes: dict[Any, int | None] = {"NCHW": 1, "NHWC": 3}
        axis = band_axis(images.shape) if layout is None else axes.get(str(layout))
        if axis is None:
            raise OutcropError(
                path,
                f"has images of the shape {images.shape}, in which the band axis is ambiguous; "
                "add an array 'layout' with 'NCHW' or 'NHWC'",
            )
        images = np.moveaxis(images, axis, 1)
    else:
        raise OutcropError(
            path,
            f"has images of the shape {images.shape}; save N × bands × height × width or "
            "N × height × width",
        )
    if 0 in images.shape:
        raise OutcropError(
            path, f"has images of the shape {images.shape}, which are empty; save at least one"
        )
    if images.dtype.kind == "f":
        images = images.astype(np.float32)
    if images.dtype.name not in DTYPES:
        raise OutcropError(
            path, f"has images of {images.dtype}; save them as one of {', '.join(DTYPES)}"
        )
    return np.ascontiguousarray(images, dtype=images.dtype.newbyteorder("="))


def _labels(
    path: Path, labels: np.ndarray, names: np.ndarray | None
) -> tuple[np.ndarray, tuple[str, ...]]:
    if labels.ndim != 1:
        raise OutcropError(
            path, f"has labels of the shape {labels.shape}; save one label per image"
        )
    if labels.dtype.kind == "f" and np.isnan(labels).any():
        raise OutcropError(path, "has labels that are NaN; remove the images without a label")
    if labels.dtype.kind not in "iuUS":
        raise OutcropError(path, f"has labels of {labels.dtype}; save integers or class names")
    labels = _text(path, labels)
    if names is None:
        found, codes = np.unique(labels, return_inverse=True)
        return codes.astype(np.int64), tuple(map(str, found))
    classes = tuple(map(str, _text(path, names.ravel())))
    if len(set(classes)) < len(classes):
        raise OutcropError(path, "has a class name twice; name each class once")
    if labels.dtype.kind == "U":
        index = {name: k for k, name in enumerate(classes)}
        codes = np.array([index.get(str(name), -1) for name in labels], dtype=np.int64)
    else:
        codes = labels
    outside = (codes < 0) | (codes >= len(classes))
    if outside.any():
        first = labels[outside][0]
        raise OutcropError(
            path, f"has the label {first} outside its {len(classes)} classes; add the class"
        )
    return codes.astype(np.int64), classes


def _text(path: Path, values: np.ndarray) -> np.ndarray:
    if values.dtype.kind != "S":
        return values
    try:
        return np.char.decode(values, "utf-8")
    except UnicodeDecodeError:
        raise OutcropError(path, "has class names that are not UTF-8; save them as str") from None


def _bands(path: Path, names: np.ndarray | None, bands: int) -> tuple[str, ...]:
    if names is None:
        return band_names(bands)
    found = tuple(map(str, _text(path, names.ravel())))
    if len(set(found)) != bands or len(found) != bands:
        raise OutcropError(
            path,
            f"has the band names {', '.join(found)} for {bands} bands; give each band one name",
        )
    return found


def _sides(path: Path, sides: np.ndarray, n: int) -> np.ndarray:
    if sides.shape != (n,) or sides.dtype.kind not in "iu" or not np.isin(sides, (0, 1, 2)).all():
        meaning = ", ".join(f"{i} for {name}" for i, name in enumerate(SIDES))
        raise OutcropError(path, f"has invalid sides; save {n} integers, {meaning}")
    return normalized_sides(sides)
