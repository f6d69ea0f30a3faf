"""Brightness and contrast that give away the class or the side."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.stats import mannwhitneyu, rankdata

from outcrop.auditing.finding import Finding
from outcrop.auditing.pixels import Pixels
from outcrop.auditing.words import share
from outcrop.patches.patchset import PatchSet
from outcrop.splits import SIDES, TEST, TRAIN, VALIDATION, Split
from outcrop.splits.splitters import pieces_of

_CHANCE = 1e-3
_STRONG, _MODERATE = 0.25, 0.15
_TELLING = 0.5
_LEAST, _MOST = 10, 20_000
_CLIPPED, _TIMES = 0.05, 5
_SHOWN = 6


def check_intensity(
    patches: PatchSet, split: Split | None, pixels: Pixels, seed: int = 0
) -> list[Finding]:
    """Intensity that differs between the sides of a class, or between classes.

    Between classes it may be natural, and is measured: how often brightness and contrast alone
    name the class, beside chance. Between the sides of the same class it is critical when strong.
    """
    found = [] if split is None else _between_sides(patches, split, pixels)
    return [*found, *_between_classes(patches, pixels, seed), *_clipped(patches, pixels)]


def side_difference(
    values: np.ndarray, labels: np.ndarray, judged: np.ndarray, units: np.ndarray
) -> tuple[float, float]:
    """How often a patch of one side has the larger value than one of the other, class by class.

    Values are ranked within each class, so that another mixture of classes is no difference. The
    test is that of Mann and Whitney (1947) on the mean ranks of independent units.

    Args:
        values: float, `N`.
        labels: int, `N`.
        judged: bool, `N`, the side.
        units: int, `N`, what is independent, such as the piece of ground.

    Returns:
        The area under the ROC curve, 0.5 where the sides are alike, and the p-value.
    """
    rank, area, weight = np.zeros(len(values)), 0.0, 0.0
    for k in np.unique(labels):
        here = labels == k
        n, m = int((here & judged).sum()), int((here & ~judged).sum())
        if n and m:
            order = rankdata(values[here])
            rank[here] = order / (n + m) - 0.5
            pairs = n * m / (n + m)
            area += pairs * (order[judged[here]].sum() - n * (n + 1) / 2) / (n * m)
            weight += pairs
    if not weight:
        return 0.5, 1.0
    independent, number = np.unique(np.stack([units, judged]), axis=1, return_inverse=True)
    mean = np.bincount(number.reshape(-1), rank) / np.bincount(number.reshape(-1))
    side = independent[1].astype(bool)
    return area / weight, float(mannwhitneyu(mean[side], mean[~side]).pvalue)


def brightness_accuracy(
    patches: PatchSet, pixels: Pixels, groups: np.ndarray, seed: int
) -> tuple[float, float]:
    """Balanced accuracy of a small decision tree that sees mean brightness and contrast alone.

    Cross-validated in five folds of whole groups; of large sets 20 000 patches drawn at random.
    Classes of fewer than ten patches, or on one group only, are left out.

    Returns:
        The accuracy and that of chance, 0 to 1; NaN where fewer than two classes are left.
    """
    from sklearn.metrics import balanced_accuracy_score
    from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
    from sklearn.tree import DecisionTreeClassifier

    bright, contrast = _looks(pixels)
    usable = np.flatnonzero(np.isfinite(bright) & np.isfinite(contrast))
    drawn = np.random.default_rng(seed).permutation(usable)[:_MOST]
    counts = np.bincount(patches.labels[drawn], minlength=len(patches.classes))
    judged = [
        k
        for k in np.flatnonzero(counts >= _LEAST)
        if len(np.unique(groups[drawn][patches.labels[drawn] == k])) > 1
    ]
    drawn = drawn[np.isin(patches.labels[drawn], judged)]
    labels = patches.labels[drawn]
    folds = min(5, len(np.unique(groups[drawn])))
    if len(judged) < 2 or folds < 2:
        return float("nan"), float("nan")
    tree = DecisionTreeClassifier(
        max_leaf_nodes=2 * len(judged),
        min_samples_leaf=3,
        class_weight="balanced",
        random_state=seed,
    )
    deal = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        # A class in fewer groups than folds is missing from some folds, which is no matter here.
        warnings.simplefilter("ignore", UserWarning)
        said = cross_val_predict(
            tree, np.stack([bright, contrast], axis=1)[drawn], labels, cv=deal, groups=groups[drawn]
        )
    return float(balanced_accuracy_score(labels, said)), 1 / len(judged)


def _looks(pixels: Pixels) -> tuple[np.ndarray, np.ndarray]:
    """Brightness and log contrast of each patch, averaged over bands on the scale of the set."""
    with warnings.catch_warnings(), np.errstate(divide="ignore", invalid="ignore"):
        warnings.simplefilter("ignore", RuntimeWarning)
        spread = np.nanstd(pixels.mean, axis=0)
        bright = np.nanmean(pixels.mean / np.where(spread > 0, spread, 1), axis=1)
        contrast = np.nanmean(np.log(np.maximum(pixels.deviation, 1e-12)), axis=1)
    return bright, contrast


@dataclass(frozen=True)
class _Difference:
    """How a side that judges differs from training: `side_difference` of one measure."""

    side: int
    measure: str
    values: np.ndarray
    area: float
    chance: float

    @property
    def effect(self) -> float:
        return abs(self.area - 0.5)


def _between_sides(patches: PatchSet, split: Split, pixels: Pixels) -> list[Finding]:
    """The surest difference of each side, if it is large enough to be told."""
    differences = sorted(_differences(patches, split, pixels), key=lambda one: one.chance)
    told: dict[int, _Difference] = {}
    # Holm (1979): the smallest p-value is held against all tests, the next against the rest.
    for left, one in zip(range(len(differences), 0, -1), differences, strict=True):
        if one.chance * left > _CHANCE:
            break
        if one.effect >= _MODERATE:
            told.setdefault(one.side, one)
    return [_side_finding(split, one) for one in told.values()]


def _differences(patches: PatchSet, split: Split, pixels: Pixels) -> Iterator[_Difference]:
    units = _units(patches, split)
    for side in (VALIDATION, TEST):
        used, judged = np.isin(split.sides, (TRAIN, side)), split.sides == side
        for what, measured in (("brightness", pixels.mean), ("contrast", pixels.deviation)):
            for band, values in zip(patches.bands, measured.T, strict=True):
                kept = used & np.isfinite(values)
                if (kept & judged).any() and (kept & ~judged).any():
                    area, chance = side_difference(
                        values[kept], patches.labels[kept], judged[kept], units[kept]
                    )
                    yield _Difference(side, f"{what} of band '{band}'", values, area, chance)


def _side_finding(split: Split, one: _Difference) -> Finding:
    name, more = SIDES[one.side], "more" if one.area > 0.5 else "less"
    return Finding(
        "intensity",
        "critical" if one.effect >= _STRONG else "warning",
        f"{one.measure} differs between sides of the same class: a {name} patch has {more} than a "
        f"training patch in {share(0.5 + one.effect)} of pairs",
        "prepare both sides alike, or standardise each patch; then train with random gain",
        {"side": name, "measure": one.measure, "area under ROC": one.area, "p": one.chance},
        tuple(
            tuple(_middle(one.values, np.flatnonzero(split.sides == side)))
            for side in (TRAIN, one.side)
        ),
    )


def _middle(values: np.ndarray, index: np.ndarray) -> list[int]:
    """A few patches about the median."""
    order = index[np.argsort(values[index], kind="stable")]
    start = max(0, len(order) // 2 - _SHOWN // 2)
    return order[start : start + _SHOWN].tolist()


def _units(patches: PatchSet, split: Split) -> np.ndarray:
    """What is independent: whole sources where the sides share none, else pieces of ground."""
    if patches.positions is not None:
        source = patches.positions.source
        if not np.isin(source[split.validation], source[split.train]).any():
            return np.asarray(source)
    return split.groups


def _between_classes(patches: PatchSet, pixels: Pixels, seed: int) -> list[Finding]:
    accuracy, chance = brightness_accuracy(patches, pixels, pieces_of(patches), seed)
    if np.isnan(accuracy):
        return []
    telling = (accuracy - chance) / (1 - chance) >= _TELLING
    bright = _looks(pixels)[0]
    groups_shown = (
        tuple(
            tuple(_middle(bright, np.flatnonzero(patches.labels == k)))
            for k in np.flatnonzero(patches.counts)[:_SHOWN]
        )
        if telling
        else ()
    )
    return [
        Finding(
            "intensity",
            "warning" if telling else "note",
            f"brightness and contrast alone name the class in {share(accuracy)} "
            f"(balanced; chance {share(chance)})",
            "if classes should not differ so, standardise each patch; a network must do better "
            "than this"
            if telling
            else "",
            {"balanced accuracy": accuracy, "chance": chance},
            groups_shown,
        )
    ]


def _clipped(patches: PatchSet, pixels: Pixels) -> list[Finding]:
    """Pixels at the set's darkest or brightest value, if one class has many more than the rest."""
    found = []
    extremes = np.fmin.reduce(pixels.low), np.fmax.reduce(pixels.high)
    for end, (own, extreme) in enumerate(zip((pixels.low, pixels.high), extremes, strict=True)):
        ends = (own == extreme) & (pixels.high > pixels.low)
        shares = np.where(ends, pixels.clipped[:, :, end], 0).max(axis=1)
        present = np.flatnonzero(patches.counts)
        of_class = np.array([shares[patches.labels == k].mean() for k in present])
        top = int(of_class.argmax())
        rest = np.delete(of_class, top)
        if len(rest) and of_class[top] >= max(_CLIPPED, _TIMES * rest.max()):
            word = ("darkest", "brightest")[end]
            worst = np.flatnonzero(patches.labels == present[top])
            worst = worst[np.argsort(-shares[worst], kind="stable")][:_SHOWN]
            found.append(
                Finding(
                    "intensity",
                    "warning",
                    f"{share(of_class[top])} of the pixels of '{patches.classes[present[top]]}' "
                    f"have the {word} value of the set, {share(rest.max())} or less of other "
                    "classes",
                    "see whether this class was clipped or filled on its way",
                    {"classes": dict(zip((patches.classes[k] for k in present),
                                         of_class.tolist(), strict=True))},
                    (tuple(worst.tolist()),),
                )
            )  # fmt: skip
    return found
