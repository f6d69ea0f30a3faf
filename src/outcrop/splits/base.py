"""What splitters share: the contract of scikit-learn, the spatial buffer, and what X may be."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np

from outcrop.errors import OutcropError
from outcrop.patches.collect import without_images
from outcrop.patches.collection import AnyPatches, open_patches
from outcrop.patches.patchset import Column, PatchSet
from outcrop.patches.positions import Positions, Source, scene_positions, volume_positions
from outcrop.progress import warn
from outcrop.splits.folds import Folds
from outcrop.splits.geometry import blocks, keep_apart, most_common, suggest_block
from outcrop.splits.split import (
    BUFFER,
    REMEDY,
    TRAIN,
    VALIDATION,
    Split,
    least_classes,
    sides_of_fold,
)
from outcrop.splits.stratify import stratified_folds

_SCALE_ERROR = 0.01
# Names of parameters in files of splits, which are older than the names of scikit-learn.
_STORED_NAMES = {"n_splits": "folds", "random_state": "seed"}


@dataclass(frozen=True, kw_only=True)
class Splitter(ABC):
    """Base of all splitters; a cross-validator of scikit-learn.

    A splitter holds its parameters and nothing else, and gives the same folds for the same X. X is
    one of (`as_patches`):

    - a `PatchSet`;
    - a GeoDataFrame, with any geometry and coordinate reference system;
    - an `N × 2` array of x and y in metres;
    - an `N × 3` array of positions along the axes 0, 1 and 2 of a volume, in voxels.

    The training side of each fold is without the patches in the buffer. A splitter can split the
    training side of another, as in a grid search inside cross-validation:

        search = GridSearchCV(model, grid, cv=BlockSplit(block=1_000))
        cross_val_score(search, patches, patches.labels, cv=BlockSplit(block=2_000))
    """

    spatial: ClassVar[bool] = True

    def __new__(cls, *_: Any, **given: Any) -> Self:
        """A splitter; an argument with its old name raises an error with the new one."""
        for item in fields(cls):
            old = _STORED_NAMES.get(item.name)
            if old in given:
                raise OutcropError(
                    cls.__name__, f"{old} is now {item.name}; pass `{item.name}={given[old]!r}`"
                )
        return super().__new__(cls)

    def __post_init__(self) -> None:
        kinds = {"int": (Integral, "a whole number"), "float": (Real, "a number")}
        for item in fields(self):
            value = getattr(self, item.name)
            kind, words = kinds.get(str(item.type), (object, ""))
            if not isinstance(value, kind) or (kind is not object and isinstance(value, bool)):
                raise OutcropError(f"`{item.name}`", f"must be {words}, not {value!r}")

    def __sklearn_clone__(self) -> Self:
        """The splitter itself, because it cannot change (`sklearn.base.clone`)."""
        return self

    @abstractmethod
    def validation_masks(self, patches: PatchSet) -> list[np.ndarray]:
        """For each fold the mask of its validation patches: bool, `N`."""

    def groups_of(self, patches: PatchSet) -> np.ndarray:
        """Spatial group of each patch: int64, `N` (`Split.groups`); by default `spatial_groups`."""
        return spatial_groups(patches)

    def masks_and_groups(self, patches: PatchSet) -> tuple[list[np.ndarray], np.ndarray]:
        """`validation_masks` and `groups_of`, for splitters that compute both at once."""
        return self.validation_masks(patches), self.groups_of(patches)

    def with_buffer(self, patches: PatchSet, sides: np.ndarray) -> np.ndarray:
        """The sides, int8, `N`, with the patches between them moved to the buffer."""
        return sides

    def split(
        self, X: Any, y: Any = None, groups: Any = None
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield the indices of training and of validation rows for each fold.

        Args:
            X: `N` rows, see the class.
            y: classes, `N`, to stratify by. A `PatchSet` has its own.
            groups: labelled polygon of each row, `N`. Rows of one polygon are never on both
                sides. A `PatchSet` and a GeoDataFrame with a column "polygon" have their own.

        Raises:
            OutcropError: X has no positions, or is of another kind; a fold has an empty side.
        """
        name = type(self).__name__
        patches = as_patches(X, y, groups, self)
        check_any(patches, name)
        folds = self._sides(patches, self._masks(patches))
        for number, sides in enumerate(folds):
            for side, word in ((TRAIN, "training"), (VALIDATION, "validation")):
                if not (sides == side).any():
                    raise OutcropError(name, f"fold {number} leaves no {word} patches; {REMEDY}")
        for sides in folds:
            yield np.flatnonzero(sides == TRAIN), np.flatnonzero(sides == VALIDATION)

    def get_n_splits(self, X: Any = None, y: Any = None, groups: Any = None) -> int:
        """Number of folds; it depends on X if the splitter has no `n_splits`."""
        number = getattr(self, "n_splits", None)
        return len(self._masks(as_patches(X, y, groups, self))) if number is None else int(number)

    def _masks(self, patches: PatchSet) -> list[np.ndarray]:
        """`validation_masks` without folds for scenes or column values that X lacks.

        Raises:
            OutcropError: no fold has validation patches.
        """
        masks = self.validation_masks(patches)
        if not hasattr(self, "n_splits"):
            masks = [mask for mask in masks if mask.any()]
        if not masks:
            raise OutcropError(type(self).__name__, f"no fold leaves validation patches; {REMEDY}")
        return masks

    def _sides(
        self, patches: PatchSet, masks: list[np.ndarray], test: bool = False
    ) -> list[np.ndarray]:
        """The sides of each fold, with the buffer (`sides_of_fold`)."""
        each = (sides_of_fold(masks, fold, test) for fold in range(len(masks)))
        return [self.with_buffer(patches, sides) for sides in each]

    def assign(self, patches: AnyPatches, fold: int | None = None, test: bool = False) -> Split:
        """Split once: one fold is for validation and the others are for training.

        Args:
            patches: patch set, or its name.
            fold: number of the validation fold, from 0. By default the first of the folds with
                the most classes on both sides; only labels are used for this choice.
            test: whether the next fold becomes a test side.

        Raises:
            OutcropError: there is no such fold; the split does not pass `Split.check`.
        """
        patches = open_patches(patches)
        check_any(patches, type(self).__name__)
        masks, groups = self.masks_and_groups(patches)
        if fold is not None and not 0 <= fold < len(masks):
            raise OutcropError(
                "`fold`", f"there is no fold {fold}; there are 0 to {len(masks) - 1}"
            )
        check_test(len(masks), test)
        splits = [
            self._split(patches, groups, masks, number, test)
            for number in (range(len(masks)) if fold is None else [fold])
        ]
        split = max(splits, key=lambda one: classes_on_sides(one.sides, patches.labels))
        split.check(patches, classes=least_classes(patches))
        return split

    def assign_all(self, patches: AnyPatches) -> Folds:
        """Split for cross-validation: every patch is held out in one fold.

        If several folds share a labelled polygon, the fold with most of it holds it out.

        Raises:
            OutcropError: there is only one fold; a fold does not pass `Split.check`.
        """
        patches, name = open_patches(patches), type(self).__name__
        check_any(patches, name)
        masks, groups = self.masks_and_groups(patches)
        masks = [mask for mask in masks if mask.any()]
        if len(masks) < 2 or not np.any(masks, axis=0).all():
            raise OutcropError(
                name,
                "holds out only a part of the patches, but cross-validation holds out every patch "
                "in turn; split by blocks, slabs, matching, or whole scenes or values",
            )
        held_out = np.argmax(masks, axis=0)
        if self.spatial and patches.positions is not None:
            held_out = most_common(held_out, patches.positions.polygon)
        masks = [held_out == number for number in np.unique(held_out)]
        made = Folds(tuple(self._split(patches, groups, masks, k) for k in range(len(masks))))
        made.check(patches, name)
        return made

    def _split(
        self,
        patches: PatchSet,
        groups: np.ndarray,
        masks: list[np.ndarray],
        fold: int,
        test: bool = False,
    ) -> Split:
        unit = {"unit": patches.unit} if self.spatial and patches.positions is not None else {}
        return Split(
            sides=self.with_buffer(patches, sides_of_fold(masks, fold, test)),
            groups=groups,
            fingerprint=patches.fingerprint,
            how=self.describe() | {"fold": fold} | unit,
            spatial=self.spatial,
        )

    def describe(self) -> dict[str, Any]:
        """Name and parameters of the splitter, for display and for files of splits."""
        names = {f.name: _STORED_NAMES.get(f.name, f.name) for f in fields(self)}
        parameters = {stored: getattr(self, name) for name, stored in names.items()}
        return {"splitter": type(self).__name__, **parameters}


@dataclass(frozen=True, kw_only=True)
class SpatialSplit(Splitter):
    """Base of all spatial splitters.

    Patches of one labelled polygon are never on two sides. No patch of one side overlaps a patch
    of another side or is closer to it than the buffer; patches in between are left out.

    Attributes:
        buffer: smallest distance between the extents of patches of different sides, in metres for
            scenes and in voxels for volumes. It is not measured between centres.
    """

    buffer: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.buffer >= 0:
            raise OutcropError("`buffer`", f"must be 0 or more, not {self.buffer:g}")

    def with_buffer(self, patches: PatchSet, sides: np.ndarray) -> np.ndarray:
        """The sides, int8, `N`, with the patches between them moved to the buffer."""
        return keep_apart(positions_of(patches, type(self).__name__), sides, self.buffer)


# Checks and shared steps


def check_any(patches: PatchSet, splitter: str) -> None:
    """Raise an error if there are no patches."""
    if not len(patches):
        raise OutcropError(splitter, "there are no patches to split; pass some")


def check_axis(axis: int, where: object) -> None:
    """Raise an error if a volume has no such axis; the message names `where`."""
    if axis not in (0, 1, 2):
        raise OutcropError(where, f"a volume has no axis {axis}; choose 0, 1 or 2")


def check_folds(patches: PatchSet, folds: int, seed: int) -> None:
    """Raise an error if there are fewer patches than folds, or the seed is no valid seed."""
    if folds < 2:
        raise OutcropError("`n_splits`", f"must be at least 2, not {folds}")
    # None would give other folds at every call, and an inner search would see the outer folds.
    if not isinstance(seed, int | np.integer) or not 0 <= seed < 1 << 32:
        raise OutcropError("`random_state`", f"must be 0 or more and below 2 ** 32, not {seed}")
    if len(patches) < folds:
        raise OutcropError(
            "`n_splits`", f"are {folds}, more than the {len(patches)} patches; use fewer"
        )


def check_test(folds: int, test: bool) -> None:
    """Raise an error if a test side is wanted and there are too few folds."""
    if test and folds < 3:
        raise OutcropError("`test`", "needs at least three folds")


def stratified_masks(
    patches: PatchSet, groups: np.ndarray, folds: int, seed: int
) -> list[np.ndarray]:
    """Validation masks of folds of whole groups with the classes in proportion."""
    return masks_of(stratified_folds(patches.labels, groups, folds, seed)[groups], folds)


def masks_of(fold: np.ndarray, folds: int) -> list[np.ndarray]:
    """Mask of the patches of each fold, from the fold of each patch: int, `N`."""
    return [fold == number for number in range(folds)]


def positions_of(patches: PatchSet, splitter: str) -> Positions:
    """Positions of the patches.

    Raises:
        OutcropError: there are none; the message names the splitter.
    """
    if patches.positions is None:
        raise OutcropError(
            splitter, "needs positions, and these patches have none; split at random or by column"
        )
    return patches.positions


def spatial_groups(patches: PatchSet) -> np.ndarray:
    """Default spatial group of each patch, int64, `N`, numbered from 0.

    In scenes it is the labelled polygon, in volumes the block of `suggest_block`. Without
    positions every patch is a group.
    """
    if patches.positions is None:
        return np.arange(len(patches))
    if patches.from_volume:
        return blocks(patches.positions, suggest_block(patches.positions))
    return np.unique(patches.positions.polygon, return_inverse=True)[1]


def classes_on_sides(sides: np.ndarray, labels: np.ndarray) -> int:
    """Number of classes of each side except the buffer, summed over the sides."""
    used = sides != BUFFER
    return len(np.unique(labels[used] * 4 + sides[used]))


# What X may be


def as_patches(X: Any, y: Any, groups: Any, splitter: Splitter) -> PatchSet:
    """The rows of scikit-learn's X as patches without images.

    Args:
        X, y, groups: as in `Splitter.split`.
        splitter: splitter that will use the patches. A splitter that is not spatial takes any X.

    Raises:
        OutcropError: X is of another kind; `y` or `groups` has another number of rows.
    """
    name = type(splitter).__name__
    if isinstance(X, PatchSet):
        patches = replace(X, images=without_images(len(X), len(X.bands)))
    elif hasattr(X, "geometry") and hasattr(X, "estimate_utm_crs"):
        patches = _from_geometry(X, y, name)
    else:
        patches = _from_array(X, y, splitter)
    if groups is None or patches.positions is None:
        return patches
    polygon = np.unique(np.asarray(groups), return_inverse=True)[1]
    if len(polygon) != len(patches):
        raise OutcropError("groups", f"has {len(polygon)} rows and X has {len(patches)}")
    return replace(patches, positions=replace(patches.positions, polygon=polygon))


def _from_array(X: Any, y: Any, splitter: Splitter) -> PatchSet:
    shape: tuple[int, ...] = getattr(X, "shape", ())
    number = len(shape) == 2 and np.dtype(getattr(X, "dtype", object)).kind in "iuf"
    if number and shape[1] == 2 and splitter.spatial:
        warn(f"{type(splitter).__name__} uses the two columns of X as x and y in metres")
        x, y_of = np.asarray(X, np.float64).T
        points = np.zeros(len(x))
        return _labelled(y, scene_positions(0, points, points, x, y_of, 0, 0, np.arange(len(x))))
    if number and shape[1] == 3 and splitter.spatial:
        warn(f"{type(splitter).__name__} uses the three columns of X as axes of a volume")
        z, y_of, x = np.asarray(X, np.float64).T
        index, row, column = np.rint([z, y_of, x]).astype(np.int64)
        positions = volume_positions(0, 0, index, row, column, size=1)
        ends = tuple(int(np.ceil(one.max(initial=0))) + 1 for one in (z, y_of, x))
        return replace(
            _labelled(y, replace(positions, z=z, y=y_of, x=x)), sources=(Source("X", ends),)
        )
    if not splitter.spatial and (shape or hasattr(X, "__len__")):
        return _labelled(y, None, shape[0] if shape else len(X))
    what = f"an array of {' × '.join(map(str, shape))}" if shape else type(X).__name__
    raise OutcropError(
        type(splitter).__name__,
        f"X is {what}, which has no positions; pass the PatchSet, a GeoDataFrame, or an array of "
        "x and y in metres, or give scikit-learn cv=list(splitter.split(patches))",
    )


def _labelled(classes: Any, positions: Positions | None, number: int = 0) -> PatchSet:
    """Patches of which only positions and classes are known."""
    n = number if positions is None else len(positions)
    names, labels = np.unique(
        np.zeros(n, int) if classes is None else np.asarray(classes), return_inverse=True
    )
    if len(labels) != n:
        raise OutcropError("y", f"has {len(labels)} rows and X has {n}; pass one class per row")
    return PatchSet(
        images=without_images(n, 1),
        labels=labels.astype(np.int64),
        classes=tuple(map(str, names)),
        bands=("none",),
        positions=positions,
    )


def _from_geometry(X: Any, y: Any, splitter: str) -> PatchSet:
    """Patches with the extents of geometries; columns of text become columns."""
    if X.crs is None:
        raise OutcropError(splitter, "X has no coordinate reference system; set it with X.set_crs")
    if X.geometry.isna().any() or X.geometry.is_empty.any():
        raise OutcropError(splitter, "X has rows without a geometry; leave them out")
    shapes = X.geometry if _is_metric(X) else X.geometry.to_crs(X.estimate_utm_crs())
    west, south, east, north = shapes.bounds.to_numpy().T
    polygon = np.unique(X["polygon"], return_inverse=True)[1] if "polygon" in X else None
    zeros, number = np.zeros(len(X)), np.arange(len(X))
    x, y_of, width, height = (west + east) / 2, (south + north) / 2, east - west, north - south
    positions = scene_positions(
        0, zeros, zeros, x, y_of, width, height, number if polygon is None else polygon
    )
    columns = {}
    for name in X.columns:
        if X[name].dtype.kind in "OU" or X[name].dtype.name in ("str", "string", "category"):
            columns[str(name)] = Column.of(X[name].astype(str))
    columns.pop(X.geometry.name, None)
    return replace(_labelled(y, positions), columns=columns, crs=shapes.crs.to_wkt())


def _is_metric(X: Any) -> bool:
    """Whether the system of a GeoDataFrame is in metres, with a scale error of 1 % at most."""
    from pyproj import Proj

    if not X.crs.is_projected or any(axis.unit_conversion_factor != 1 for axis in X.crs.axis_info):
        return False
    west, south, east, north = X.to_crs(X.crs.geodetic_crs).total_bounds
    factors = Proj(X.crs).get_factors((west + east) / 2, (south + north) / 2)
    return bool(
        max(abs(factors.meridional_scale - 1), abs(factors.parallel_scale - 1)) <= _SCALE_ERROR
    )
