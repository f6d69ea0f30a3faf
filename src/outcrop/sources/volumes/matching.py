"""Reorder the axes and samples of a volume of labels to those of another volume."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from outcrop.errors import OutcropError
from outcrop.progress import warn
from outcrop.sources.volumes.volume import Fill, Store, Triple, Volume

_SAME = 1e-3
"""Tolerance of coordinates as a share of their step, because they may be float32."""


def align_labels(layer: Volume, volume: Volume) -> Volume:
    """A volume of labels with the axes, lines and samples of another volume, in its order.

    Axes are matched by name and samples by coordinates, if both volumes have them. Otherwise the
    stored order is used. If only one volume has coordinates, a note is printed.

    Raises:
        OutcropError: the shapes differ; the coordinates differ, so the labels are of another place
            or sampling interval.
    """
    axes = _axes(layer, volume)
    known = [layer.coordinates[axis] for axis in axes]
    orders: list[np.ndarray] = []
    assumed: list[str] = []
    for axis, (theirs, ours) in enumerate(zip(known, volume.coordinates, strict=True)):
        length = layer.shape[axes[axis]]
        order = np.arange(length)
        if _is_uninformative(layer, theirs, ours) or _is_uninformative(volume, ours, theirs):
            one = theirs if ours is None else ours
            assumed += [] if one is None else [_span(volume, axis, one)]
        else:
            assert theirs is not None
            assert ours is not None
            found = _order(theirs, ours)
            if found is None:
                raise OutcropError(
                    layer.title,
                    f"has other coordinates than {volume.title}: {_span(volume, axis, theirs)} "
                    f"instead of {_span(volume, axis, ours)}; pass labels of all its lines and "
                    "samples, in any order",
                )
            order = found
        orders.append(order)
    shape = (layer.shape[axes[0]], layer.shape[axes[1]], layer.shape[axes[2]])
    if shape != volume.shape:
        hint = "" if sorted(shape) != sorted(volume.shape) else ", so its axes may be swapped"
        raise OutcropError(
            layer.title,
            f"has the shape {_times(shape)}, but {volume.title} has {_times(volume.shape)}{hint}; "
            "pass labels with the shape of their volume",
        )
    if assumed:
        warn(
            f"{layer.title}: the stored order of its samples is used, because only one of "
            f"it and {volume.title} has coordinates ({', '.join(assumed)})"
        )
    as_it_is = all(np.array_equal(order, np.arange(len(order))) for order in orders)
    aligned = replace(layer, axes=volume.axes, coordinates=volume.coordinates)
    if axes == (0, 1, 2) and as_it_is:
        return aligned
    store = ReorderedStore(layer.store, axes, (orders[0], orders[1], orders[2]))
    return replace(aligned, shape=volume.shape, store=store)


@dataclass(frozen=True, eq=False)
class ReorderedStore:
    """The samples of a store with permuted axes and reordered samples along them.

    Attributes:
        store: the original store.
        axes: for each axis, the axis of the store.
        orders: for each axis and each index along it, the index in the store.
    """

    store: Store
    axes: Triple
    orders: tuple[np.ndarray, np.ndarray, np.ndarray]

    @property
    def chunks(self) -> Triple:
        """The chunks of the store, with permuted axes."""
        first, second, third = (self.store.chunks[axis] for axis in self.axes)
        return first, second, third

    @contextmanager
    def open(self) -> Iterator[Fill]:
        """Open the store."""
        there = np.argsort(self.axes)
        with self.store.open() as fill:

            def filled(out: np.ndarray, corner: Triple) -> None:
                wanted = [
                    order[start : start + length]
                    for order, start, length in zip(self.orders, corner, out.shape, strict=True)
                ]
                for runs in product(*map(_runs, wanted)):
                    part = out[tuple(run.there for run in runs)]
                    part = part[tuple(slice(None, None, run.step) for run in runs)]
                    first, second, third = (runs[axis].first for axis in there)
                    fill(part.transpose(there), (first, second, third))

            yield filled


@dataclass(frozen=True)
class _Run:
    """Consecutive indices of a store, ascending or descending.

    Attributes:
        there: the slice of the result.
        first: the lowest index.
        step: 1 or -1.
    """

    there: slice
    first: int
    step: int


def _runs(order: np.ndarray) -> list[_Run]:
    """Split an order into the fewest runs, each with one direction.

    >>> [(run.there.start, run.there.stop, run.first, run.step) for run in _runs(np.array([3, 2]))]
    [(0, 2, 2, -1)]
    """
    found, start = [], 0
    while start < len(order):
        stop, step = start + 1, 1
        if stop < len(order) and abs(order[stop] - order[start]) == 1:
            step = int(order[stop] - order[start])
            while stop < len(order) and order[stop] - order[stop - 1] == step:
                stop += 1
        found.append(_Run(slice(start, stop), int(order[start:stop].min()), step))
        start = stop
    return found


def _axes(layer: Volume, volume: Volume) -> Triple:
    """For each axis of the volume, that of the layer, matched by name if the names agree."""
    if layer.axes == volume.axes or set(layer.axes) != set(volume.axes):
        return 0, 1, 2
    first, second, third = (layer.axes.index(name) for name in volume.axes)
    return first, second, third


def _is_uninformative(one: Volume, its: np.ndarray | None, other: np.ndarray | None) -> bool:
    """Whether coordinates are missing, or are only slice numbers from 0 or 1.

    Numbers in the names of slices may be lines or depths, or just a count.
    """
    if its is None:
        return True
    counted = one.kind == "stack" and its[0] in (0, 1) and bool((np.diff(its) == 1).all())
    return counted and other is not None and _order(its, other) is None


def _order(theirs: np.ndarray, ours: np.ndarray) -> np.ndarray | None:
    """For each coordinate of ours, its index in theirs; None if one is missing."""
    if len(theirs) != len(ours):
        return None
    ours, theirs = ours.astype(np.float64), theirs.astype(np.float64)
    if not (np.isfinite(ours).all() and np.isfinite(theirs).all()):
        return None
    up, other = np.argsort(ours, kind="stable"), np.argsort(theirs, kind="stable")
    steps = np.diff(ours[up])
    if not steps.all() or not np.diff(theirs[other]).all():  # one coordinate twice
        return np.arange(len(ours)) if np.array_equal(ours, theirs) else None
    slack = _SAME * (steps.min() if len(steps) else 1.0)
    if np.abs(ours[up] - theirs[other]).max() > slack:
        return None
    order = np.empty(len(ours), np.int64)
    order[up] = other
    return order


def _span(volume: Volume, axis: int, numbers: np.ndarray) -> str:
    steps = np.unique(np.diff(numbers))
    by = f" by {abs(steps[0]):g}" if len(steps) and np.ptp(steps) <= abs(steps[0]) * _SAME else ""
    return f"{volume.axes[axis]} {numbers[0]:g} to {numbers[-1]:g}{by}"


def _times(shape: tuple[int, ...]) -> str:
    return " × ".join(map(str, shape))
