"""Checks for spurious features that reveal the class or the side: brightness, marks, levels."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import uniform_filter
from scipy.stats import mannwhitneyu, rankdata

from outcrop.auditing.check import Check, Context, Finding, listed, plural, share
from outcrop.auditing.detail import standardised
from outcrop.auditing.pixels import Pixels, batches
from outcrop.patches.patchset import PatchSet
from outcrop.splits import SIDES, TEST, TRAIN, VALIDATION, Split
from outcrop.splits.base import spatial_groups

_SHOWN = 6
_LEAST, _MOST = 10, 20_000
_CHANCE = 1e-3
_STRONG, _MODERATE = 0.25, 0.15
_REVEALING = 0.5
_CLIPPED, _TIMES = 0.05, 5
_SAMPLE = 300
_OUTLIER = 8.0
_EFFECT = 0.5
_LIMIT = 5.0
_VALUES = 64
_LEVELS, _REPEATED = 8, 3
_BETWEEN, _TOLERANCE, _STRAY, _APART = 0.4, 0.1, 0.05, 1.5


# Brightness and contrast


class IntensityCheck(Check):
    """Brightness and contrast that differ between the sides of a class, or between classes.

    A difference between classes may be natural. The check measures how often brightness and
    contrast alone predict the class. A strong difference between the sides of the same class is
    critical.
    """

    name, needs, rank = "intensity", ("images",), 40

    def run(self, context: Context) -> Iterator[Finding]:
        """Differences between sides, then between classes, then clipped classes."""
        patches, split, pixels = context.patches, context.split, context.pixels
        if split is not None:
            yield from _between_sides(patches, split, pixels)
        yield from _between_classes(patches, pixels, context.seed)
        yield from _clipped(patches, pixels)


def side_difference(
    values: np.ndarray, labels: np.ndarray, held_out: np.ndarray, units: np.ndarray
) -> tuple[float, float]:
    """How often a patch of one side has a larger value than one of the other side.

    Values are ranked within each class, so that different class proportions have no effect. The
    test is that of Mann and Whitney (1947) on the mean ranks of independent units.

    Args:
        values: float, `N`.
        labels: int, `N`.
        held_out: bool, `N`, side of each patch.
        units: int, `N`, independent unit of each patch, such as its spatial group.

    Returns:
        Area under the ROC curve, 0.5 if the sides do not differ, and the p-value.
    """
    rank, area, weight = np.zeros(len(values)), 0.0, 0.0
    for k in np.unique(labels):
        here = labels == k
        n, m = int((here & held_out).sum()), int((here & ~held_out).sum())
        if n and m:
            order = rankdata(values[here])
            rank[here] = order / (n + m) - 0.5
            pairs = n * m / (n + m)
            area += pairs * (order[held_out[here]].sum() - n * (n + 1) / 2) / (n * m)
            weight += pairs
    if not weight:
        return 0.5, 1.0
    independent, number = np.unique(np.stack([units, held_out]), axis=1, return_inverse=True)
    mean = np.bincount(number.reshape(-1), rank) / np.bincount(number.reshape(-1))
    side = independent[1].astype(bool)
    return area / weight, float(mannwhitneyu(mean[side], mean[~side]).pvalue)


def brightness_accuracy(
    patches: PatchSet, pixels: Pixels, groups: np.ndarray, seed: int
) -> tuple[float, float]:
    """Balanced accuracy of a small decision tree on mean brightness and contrast alone.

    It is cross-validated in five folds of whole groups, on at most 20 000 random patches. Classes
    with fewer than ten patches or a single group are left out.

    Returns:
        The accuracy and that of random guessing, 0 to 1; NaN if fewer than two classes are left.
    """
    from sklearn.metrics import balanced_accuracy_score
    from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
    from sklearn.tree import DecisionTreeClassifier

    bright, contrast = _brightness_and_contrast(pixels)
    usable = np.flatnonzero(np.isfinite(bright) & np.isfinite(contrast))
    drawn = np.random.default_rng(seed).permutation(usable)[:_MOST]
    counts = np.bincount(patches.labels[drawn], minlength=len(patches.classes))
    scored = [
        k
        for k in np.flatnonzero(counts >= _LEAST)
        if len(np.unique(groups[drawn][patches.labels[drawn] == k])) > 1
    ]
    drawn = drawn[np.isin(patches.labels[drawn], scored)]
    labels = patches.labels[drawn]
    folds = min(5, len(np.unique(groups[drawn])))
    if len(scored) < 2 or folds < 2:
        return float("nan"), float("nan")
    tree = DecisionTreeClassifier(
        max_leaf_nodes=2 * len(scored),
        min_samples_leaf=3,
        class_weight="balanced",
        random_state=seed,
    )
    cv = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        # A class with fewer groups than folds is missing from some folds, which does not matter.
        warnings.simplefilter("ignore", UserWarning)
        predicted = cross_val_predict(
            tree, np.stack([bright, contrast], axis=1)[drawn], labels, cv=cv, groups=groups[drawn]
        )
    return float(balanced_accuracy_score(labels, predicted)), 1 / len(scored)


def _brightness_and_contrast(pixels: Pixels) -> tuple[np.ndarray, np.ndarray]:
    """Brightness and log contrast of each patch, averaged over bands scaled by their spread."""
    with warnings.catch_warnings(), np.errstate(divide="ignore", invalid="ignore"):
        warnings.simplefilter("ignore", RuntimeWarning)
        spread = np.nanstd(pixels.mean, axis=0)
        bright = np.nanmean(pixels.mean / np.where(spread > 0, spread, 1), axis=1)
        contrast = np.nanmean(np.log(np.maximum(pixels.deviation, 1e-12)), axis=1)
    return bright, contrast


@dataclass(frozen=True)
class _Difference:
    """Difference between a side and the training side: `side_difference` of one measure."""

    side: int
    measure: str
    values: np.ndarray
    area: float
    chance: float

    @property
    def effect(self) -> float:
        return abs(self.area - 0.5)


def _between_sides(patches: PatchSet, split: Split, pixels: Pixels) -> list[Finding]:
    """The most significant difference of each side, if the effect is large enough."""
    differences = sorted(_differences(patches, split, pixels), key=lambda one: one.chance)
    reported: dict[int, _Difference] = {}
    # Holm (1979): the smallest p-value is corrected for all tests, the next for the others.
    for left, one in zip(range(len(differences), 0, -1), differences, strict=True):
        if one.chance * left > _CHANCE:
            break
        if one.effect >= _MODERATE:
            reported.setdefault(one.side, one)
    return [_side_finding(split, one) for one in reported.values()]


def _differences(patches: PatchSet, split: Split, pixels: Pixels) -> Iterator[_Difference]:
    units = _units(patches, split)
    for side in (VALIDATION, TEST):
        used, held_out = np.isin(split.sides, (TRAIN, side)), split.sides == side
        for what, measured in (("brightness", pixels.mean), ("contrast", pixels.deviation)):
            for band, values in zip(patches.bands, measured.T, strict=True):
                kept = used & np.isfinite(values)
                if (kept & held_out).any() and (kept & ~held_out).any():
                    area, chance = side_difference(
                        values[kept], patches.labels[kept], held_out[kept], units[kept]
                    )
                    yield _Difference(side, f"{what} of band '{band}'", values, area, chance)


def _side_finding(split: Split, one: _Difference) -> Finding:
    name, more = SIDES[one.side], "more" if one.area > 0.5 else "less"
    return Finding(
        "intensity",
        "critical" if one.effect >= _STRONG else "warning",
        f"{one.measure} differs between sides of the same class: a {name} patch has {more} than a "
        f"training patch in {share(0.5 + one.effect)} of the pairs",
        "prepare both sides in the same way, or standardise each patch; then train with random "
        "gain",
        {"side": name, "measure": one.measure, "area under ROC": one.area, "p": one.chance},
        tuple(
            tuple(_around_median(one.values, np.flatnonzero(split.sides == side)))
            for side in (TRAIN, one.side)
        ),
    )


def _around_median(values: np.ndarray, index: np.ndarray) -> list[int]:
    """A few patches with values around the median."""
    order = index[np.argsort(values[index], kind="stable")]
    start = max(0, len(order) // 2 - _SHOWN // 2)
    return order[start : start + _SHOWN].tolist()


def _units(patches: PatchSet, split: Split) -> np.ndarray:
    """Independent units: whole sources if the sides share none, otherwise spatial groups."""
    if patches.positions is not None:
        source = patches.positions.source
        if not np.isin(source[split.validation], source[split.train]).any():
            return np.asarray(source)
    return split.groups


def _between_classes(patches: PatchSet, pixels: Pixels, seed: int) -> Iterator[Finding]:
    accuracy, chance = brightness_accuracy(patches, pixels, spatial_groups(patches), seed)
    if np.isnan(accuracy):
        return
    revealing = (accuracy - chance) / (1 - chance) >= _REVEALING
    bright = _brightness_and_contrast(pixels)[0]
    shown = np.flatnonzero(patches.counts)[: _SHOWN if revealing else 0]
    yield Finding(
        "intensity",
        "warning" if revealing else "note",
        f"brightness and contrast alone predict the class with a balanced accuracy of "
        f"{share(accuracy)} (random guessing: {share(chance)})",
        "if the classes should not differ in brightness, standardise each patch; a network "
        "must have a higher accuracy than this"
        if revealing
        else "",
        {"balanced accuracy": accuracy, "chance": chance},
        tuple(tuple(_around_median(bright, np.flatnonzero(patches.labels == k))) for k in shown),
    )


def _clipped(patches: PatchSet, pixels: Pixels) -> Iterator[Finding]:
    """Pixels with the smallest or largest value of the set, if one class has many more of them."""
    extremes = np.fmin.reduce(pixels.low), np.fmax.reduce(pixels.high)
    for end, (own, extreme) in enumerate(zip((pixels.low, pixels.high), extremes, strict=True)):
        ends = (own == extreme) & (pixels.high > pixels.low)
        shares = np.where(ends, pixels.clipped[:, :, end], 0).max(axis=1)
        present = np.flatnonzero(patches.counts)
        of_class = np.array([shares[patches.labels == k].mean() for k in present])
        top = int(of_class.argmax())
        rest = np.delete(of_class, top)
        if len(rest) and of_class[top] >= max(_CLIPPED, _TIMES * rest.max()):
            word = ("smallest", "largest")[end]
            worst = np.flatnonzero(patches.labels == present[top])
            worst = worst[np.argsort(-shares[worst], kind="stable")][:_SHOWN]
            names = (patches.classes[k] for k in present)
            yield Finding(
                "intensity",
                "warning",
                f"{share(of_class[top])} of the pixels of '{patches.classes[present[top]]}' have "
                f"the {word} value of the set, but at most {share(rest.max())} of the pixels of "
                "other classes",
                "check whether this class was clipped or filled during preparation",
                {"classes": dict(zip(names, of_class.tolist(), strict=True))},
                (tuple(worst.tolist()),),
            )


# Marks


class MarksCheck(Check):
    """Pixels that differ from their neighbours in one class only, always at the same location.

    A corner, frame or letter in half of the patches of a class reveals the class. The check uses a
    sample of 300 patches per class. It is critical.
    """

    name, needs, rank = "marks", ("images",), 50

    def run(self, context: Context) -> Iterator[Finding]:
        """One finding for each class with a mark."""
        patches = context.patches
        sample = _sample(patches, context.seed)
        if len(sample) < 2:
            return
        sums, squares = {k: np.zeros(patches.size) for k in sample}, np.zeros(patches.size)
        for k, images in _by_class(patches, sample):
            sharp = _sharp(images)
            sums[k] += sharp.sum(axis=0)
            squares += np.square(sharp).sum(axis=0)
        total, number = sum(sums.values()), sum(map(len, sample.values()))
        spread = np.sqrt(np.maximum(squares / number - np.square(total / number), 1e-12))
        for k, own in sums.items():
            n = len(sample[k])
            mean, rest = own / n, (total - own) / (number - n)
            mask = _stands_out((mean - rest) / spread, mean, rest)
            if mask.any():
                yield _mark(patches, k, mask, sample[k])


def _sharp(images: np.ndarray) -> np.ndarray:
    """Difference of each pixel to the mean of its 3 × 3 neighbourhood, in standard deviations."""
    pictures = standardised(images)
    sharp = pictures - uniform_filter(pictures, size=(0, 3, 3), mode="nearest")
    spread = sharp.std(axis=(1, 2), keepdims=True)
    return np.clip(sharp / np.where(spread > 0, spread, 1), -_LIMIT, _LIMIT).astype(float)


def _stands_out(effect: np.ndarray, mean: np.ndarray, rest: np.ndarray) -> np.ndarray:
    """Mask of the pixels whose effect is strong, and an outlier among all pixels of the patch."""
    usual = 1.4826 * np.median(np.abs(effect - np.median(effect)))
    return (
        (np.abs(effect) >= _EFFECT)
        & (np.abs(effect) >= _OUTLIER * usual)
        & (np.abs(mean) > np.abs(rest))
    )


def _mark(patches: PatchSet, k: int, mask: np.ndarray, sample: np.ndarray) -> Finding:
    rows, columns = np.nonzero(mask)
    where = (
        f"row {rows[0]}, column {columns[0]}"
        if len(rows) == 1
        else f"rows {rows.min()} to {rows.max()}, columns {columns.min()} to {columns.max()}"
    )
    verb = "differs" if len(rows) == 1 else "differ"
    return Finding(
        "marks",
        "critical",
        f"{plural(len(rows), 'pixel')} of '{patches.classes[k]}' ({where}; "
        f"{share(mask.mean())} of a patch) {verb} from the neighbouring pixels, and only in this "
        "class",
        "the patches contain a mark: crop it from all patches, or use patches without it",
        {
            "class": patches.classes[k],
            "pixels": [[int(r), int(c)] for r, c in zip(rows[:100], columns[:100], strict=True)],
        },
        (tuple(sample[:_SHOWN].tolist()),),
    )


# Grey levels


class LevelsCheck(Check):
    """Classes with coarser grey levels than another class, as after conversion to fewer bits.

    The check uses a sample of 300 patches per class, band by band, and reports the first band with
    such classes. It is critical.
    """

    name, needs, rank = "levels", ("images",), 60

    def run(self, context: Context) -> list[Finding]:
        """At most one finding."""
        patches = context.patches
        sample = _sample(patches, context.seed)
        rng = np.random.default_rng(context.seed)
        drawn: dict[int, list[np.ndarray]] = {k: [] for k in sample}
        for k, images in _by_class(patches, sample):
            pixels = images.reshape(*images.shape[:2], -1)
            drawn[k].append(pixels[:, :, rng.permutation(pixels.shape[2])[:_VALUES]])
        values = {k: np.concatenate(parts) for k, parts in drawn.items()}
        for band, name in enumerate(patches.bands):
            seen = {k: own[:, band][np.isfinite(own[:, band])] for k, own in values.items()}
            grids = {k: grid for k, own in seen.items() if (grid := level_grid(own))}
            coarser = {k: finer for k in grids if (finer := _finer(k, seen, grids))}
            if coarser:
                between = {
                    patches.classes[k]: [patches.classes[j] for j in js]
                    for k, js in coarser.items()
                }
                fine = list(dict.fromkeys(name for names in between.values() for name in names))
                numbers = {
                    "band": name,
                    "step": {patches.classes[k]: grids[k][1] for k in coarser},
                    "finer": between,
                }
                title = (
                    f"grey levels of {listed(list(between))} are coarser than those of "
                    f"{listed(fine)} in band '{name}'; the latter have values between them"
                )
                remedy = "prepare all classes from the same files in the same way"
                shown = tuple(tuple(sample[k][:_SHOWN].tolist()) for k in coarser)
                return [Finding(self.name, "critical", title, remedy, numbers, shown)]
        return []


def level_grid(values: np.ndarray) -> tuple[float, float] | None:
    """The regular grid of quantised values: one of its levels, and the step between levels.

    Returns:
        None if values are rarely equal, there are few levels, or the levels are not regular.

    >>> level_grid(np.tile(np.arange(0.0, 96.0, 8.0), 50))
    (0.0, 8.0)
    """
    levels, counts = np.unique(values.astype(np.float64), return_counts=True)
    repeated = counts >= _REPEATED
    if repeated.sum() < _LEVELS or counts[repeated].sum() < len(values) / 2:
        return None
    level, step = float(levels[counts.argmax()]), float(np.median(np.diff(levels[repeated])))
    return (level, step) if off_grid(values, level, step) <= _STRAY else None


def off_grid(values: np.ndarray, level: float, step: float) -> float:
    """Share of the values between the levels of a grid, 0 to 1.

    >>> off_grid(np.arange(0.0, 96.0, 4.0), 0.0, 8.0)
    0.5
    """
    steps = (values.astype(np.float64) - level) / step
    return float(np.mean(np.abs(steps - np.round(steps)) > _TOLERANCE))


def _finer(k: int, seen: dict[int, np.ndarray], grids: dict[int, tuple[float, float]]) -> list[int]:
    """Classes with values between the levels of class k, and a finer grid or none."""
    return [
        j
        for j, values in seen.items()
        if j != k
        and (j not in grids or grids[j][1] < grids[k][1] / _APART)
        and off_grid(values, *grids[k]) >= _BETWEEN
    ]


# Samples


def _sample(patches: PatchSet, seed: int) -> dict[int, np.ndarray]:
    """Random patches of each class that has at least ten."""
    rng = np.random.default_rng(seed)
    present = np.flatnonzero(patches.counts >= _LEAST)
    each = max(_LEAST, min(_SAMPLE, _MOST // max(len(present), 1)))
    return {
        int(k): np.sort(rng.permutation(np.flatnonzero(patches.labels == k))[:each])
        for k in present
    }


def _by_class(patches: PatchSet, sample: dict[int, np.ndarray]) -> Iterator[tuple[int, np.ndarray]]:
    """The images of a sample class by class, in batches, each batch with its class."""
    for k, index in sample.items():
        for images in batches(patches, f"reading '{patches.classes[k]}'", index):
            yield k, images
