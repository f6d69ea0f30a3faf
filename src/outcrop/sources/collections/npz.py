"""Images and labels in one npz file."""

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
    held_out,
)
from outcrop.sources.dtypes import DTYPES

_FEW = (1, 3, 4)


UNLABELLED = ("unlabelled",)
"""The classes of images without labels."""


def read_npz(path: Path, labelled: bool = True) -> Collection:
    """A collection from the arrays of an npz file; nothing in it is unpickled.

    Arrays:
        images: `N × height × width`, or with bands as `band_axis` finds them; uint8, uint16,
            int16 or float. Float64 and float16 become float32.
        labels: `N`, class names or integers; if `labelled` is false, they may be missing.
        classes: the class names, which integer labels then index (optional). Without it the
            classes are the labels that occur, in sorted order.
        sides: `N`, an index into `SIDES` (optional).
        layout: "NCHW" or "NHWC" (optional).
        bands: the names of the bands (optional).

    Raises:
        OutcropError: not an npz file; an array is missing, holds Python objects, or has the wrong
            shape or type; labels that are NaN or outside `classes`; band names that do not fit.
    """
    arrays = _load(path, ("images", "labels") if labelled else ("images",))
    images = _images(path, arrays["images"], arrays.get("layout"))
    if "labels" in arrays:
        labels, classes = _labels(path, arrays["labels"], arrays.get("classes"))
    else:
        labels, classes = np.zeros(len(images), np.int64), UNLABELLED
    if len(labels) != len(images):
        raise OutcropError(path, f"{len(images)} images but {len(labels)} labels; give one each")
    return Collection(
        images=images,
        labels=labels,
        classes=classes,
        bands=_bands(path, arrays.get("bands"), images.shape[1]),
        sides=None if "sides" not in arrays else _sides(path, arrays["sides"], len(labels)),
    )


def band_axis(shape: tuple[int, ...]) -> int | None:
    """The axis of the bands in `N × bands × height × width` or `N × height × width × bands`.

    It is the axis, second or last, that leaves square images. Where both or neither do, it is the
    one of length 1, 3 or 4. Where that does not decide either, None.

    >>> band_axis((10, 6, 32, 32)), band_axis((10, 32, 32, 6)), band_axis((10, 20, 30, 3))
    (1, 3, 3)
    >>> band_axis((10, 3, 3, 3)) is None
    True
    """
    _, second, third, last = shape
    for signs in ((third == last, second == third), (second in _FEW, last in _FEW)):
        if signs[0] != signs[1]:
            return 1 if signs[0] else 3
    return None


def _load(path: Path, needed: tuple[str, ...]) -> dict[str, np.ndarray]:
    with _whole(path), np.load(path, allow_pickle=False) as archive:
        for name in needed:
            if name not in archive:
                raise OutcropError(
                    path,
                    f"has no array '{name}' but {', '.join(archive) or 'nothing'}; "
                    f"save {' and '.join(needed)} under "
                    f"{'these names' if len(needed) > 1 else 'this name'}",
                )
        known = ("images", "labels", "classes", "sides", "layout", "bands")
        return {name: archive[name] for name in known if name in archive}


@contextmanager
def _whole(path: Path) -> Iterator[None]:
    with decoding(path, "a whole npz file", "save it anew with numpy.savez"):
        try:
            yield
        except MemoryError:
            raise OutcropError(path, "does not fit in memory; take fewer images") from None
        except ValueError as error:
            if "pickle" not in str(error):
                raise
            raise OutcropError(
                path, "holds Python objects, which are not read; save plain arrays"
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
                f"images of {images.shape} do not tell the axis of the bands; "
                "add an array layout, 'NCHW' or 'NHWC'",
            )
        images = np.moveaxis(images, axis, 1)
    else:
        raise OutcropError(
            path,
            f"images are {images.shape}; save N × bands × height × width or N × height × width",
        )
    if 0 in images.shape:
        raise OutcropError(path, f"images are {images.shape}, with nothing in them; save some")
    if images.dtype.kind == "f":
        images = images.astype(np.float32)
    if images.dtype.name not in DTYPES:
        raise OutcropError(path, f"images are {images.dtype}; save one of {', '.join(DTYPES)}")
    return np.ascontiguousarray(images, dtype=images.dtype.newbyteorder("="))


def _labels(
    path: Path, labels: np.ndarray, names: np.ndarray | None
) -> tuple[np.ndarray, tuple[str, ...]]:
    if labels.ndim != 1:
        raise OutcropError(path, f"labels are {labels.shape}; save one for each image, in one axis")
    if labels.dtype.kind == "f" and np.isnan(labels).any():
        raise OutcropError(path, "labels hold NaN; leave out the images without a label")
    if labels.dtype.kind not in "iuUS":
        raise OutcropError(path, f"labels are {labels.dtype}; save integers or class names")
    labels = _text(path, labels)
    if names is None:
        found, codes = np.unique(labels, return_inverse=True)
        return codes.astype(np.int64), tuple(map(str, found))
    classes = tuple(map(str, _text(path, names.ravel())))
    if len(set(classes)) < len(classes):
        raise OutcropError(path, "classes hold a name twice; name each class once")
    if labels.dtype.kind == "U":
        index = {name: k for k, name in enumerate(classes)}
        codes = np.array([index.get(str(name), -1) for name in labels], dtype=np.int64)
    else:
        codes = labels
    outside = (codes < 0) | (codes >= len(classes))
    if outside.any():
        first = labels[outside][0]
        raise OutcropError(path, f"label {first} is not among the {len(classes)} classes; add it")
    return codes.astype(np.int64), classes


def _text(path: Path, values: np.ndarray) -> np.ndarray:
    if values.dtype.kind != "S":
        return values
    try:
        return np.char.decode(values, "utf-8")
    except UnicodeDecodeError:
        raise OutcropError(path, "class names are not UTF-8; save them as str") from None


def _bands(path: Path, names: np.ndarray | None, bands: int) -> tuple[str, ...]:
    if names is None:
        return band_names(bands)
    found = tuple(map(str, _text(path, names.ravel())))
    if len(set(found)) != bands or len(found) != bands:
        raise OutcropError(
            path, f"bands are {', '.join(found)} for images of {bands}; give each one name"
        )
    return found


def _sides(path: Path, sides: np.ndarray, n: int) -> np.ndarray:
    if sides.shape != (n,) or sides.dtype.kind not in "iu" or not np.isin(sides, (0, 1, 2)).all():
        meaning = ", ".join(f"{i} for {name}" for i, name in enumerate(SIDES))
        raise OutcropError(path, f"sides must be {n} integers, {meaning}")
    return held_out(sides)
