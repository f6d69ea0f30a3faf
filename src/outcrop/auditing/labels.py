"""Checks of the labels: their order, classes and names, and conflicts between neighbours."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.stats import binom

from outcrop.auditing.check import Check, Context, Finding, Severity, listed, plural, share
from outcrop.patches.patchset import PatchSet
from outcrop.splits import BUFFER, SIDES, TRAIN, VALIDATION, Split
from outcrop.splits.geometry import coordinates, largest_extent

NEIGHBOURS = 6
_END, _ALMOST = 0.2, 0.9
_SURE, _LEAST = 6.0, 10
_FEW, _UNEVEN = 10, 20
_ONE_HOT = re.compile(r"[\[(]?\s*(?:[01](?:\.0?)?[\s,]+)+[01](?:\.0?)?\s*[\])]?")
_CHANCE, _SCATTERED = 1e-3, 0.5
_SHOWN = 24


# Order


class OrderCheck(Check):
    """Labels that are sorted, almost sorted, or in runs so long that position predicts the class.

    It is critical if the split follows the order and a class is therefore on one side only. With
    positions, runs are the order of cutting, and only a note.
    """

    name, rank = "order", 10

    def run(self, context: Context) -> list[Finding]:
        """At most one finding."""
        patches = context.patches
        changes, expected, z = label_changes(patches.labels)
        gathered = gathered_classes(patches.labels, len(patches.classes))
        if not len(gathered):
            return []
        names = [patches.classes[k] for k in gathered]
        how = "sorted" if changes < 2 * len(patches.classes) else "in long runs"
        last = patches.labels[len(patches) - round(_END * len(patches)) :]
        last = np.bincount(last, minlength=len(patches.classes))
        severity, what, remedy = self._severity(patches, context.split, names)
        title = (
            f"labels are {how}: the class changes {changes:,} times from one patch to the next, "
            f"where {expected:,.0f} changes are expected in random order; {what}"
        )
        numbers = {
            "changes": changes,
            "expected": expected,
            "z": z,
            "gathered": names,
            "last fifth": dict(zip(patches.classes, last.tolist(), strict=True)),
        }
        return [Finding(self.name, severity, title, remedy, numbers)]

    @staticmethod
    def _severity(
        patches: PatchSet, split: Split | None, gathered: list[str]
    ) -> tuple[Severity, str, str]:
        by = "random" if patches.positions is None else "blocks"
        command = f"`outcrop split --by {by}`"
        if split is not None:
            lacking = _lacking(patches, split)
            if lacking and _follows_order(split):
                what = f"the split follows this order, and a side has almost no {listed(lacking)}"
                return "critical", what, f"make a new split: {command}"
            return "note", "the split does not follow this order", ""
        what = f"a split in this order would have almost all {listed(gathered)} on one side"
        if patches.positions is not None:
            return "note", what, f"use a spatial split: {command}"
        return "warning", what, f"do not split in this order: {command}"


def label_changes(labels: np.ndarray) -> tuple[int, float, float]:
    """Number of label changes from one patch to the next, and the number in random order.

    This is the runs test of Wald and Wolfowitz for several classes. Mean and variance of the number
    of runs: Barton and David (1957), Multiple runs, Biometrika 44, 168-178.

    Args:
        labels: int, `N`.

    Returns:
        Number of changes, its expectation in random order, and the difference in standard
        deviations (0 if all orders are equal).

    >>> changes, expected, z = label_changes(np.repeat([0, 1, 2], 20))
    >>> changes, expected, round(z, 1)
    (2, 40.0, -10.6)
    """
    n = len(labels)
    changes = int(np.count_nonzero(np.diff(labels)))
    if n < 2:
        return changes, 0.0, 0.0
    counts = np.bincount(labels).astype(float)
    squares, cubes = (counts**2).sum(), (counts**3).sum()
    expected = n - squares / n
    variance = (squares * (squares + n * (n + 1)) - 2 * n * cubes - n**3) / (n**2 * (n - 1))
    z = (changes - expected) / np.sqrt(variance) if variance > 0 else 0.0
    return changes, float(expected), float(z)


def gathered_classes(labels: np.ndarray, classes: int) -> np.ndarray:
    """Indices of classes that are almost absent from, or almost all in, the first or last fifth.

    Almost absent: less than a tenth of the number in random order. Almost all: nine tenths of the
    class. Classes with fewer than ten patches are left out. There are none if the number of changes
    may be random (`label_changes`: less than 6 standard deviations).
    """
    end, counts = round(_END * len(labels)), np.bincount(labels, minlength=classes)
    found = np.zeros(classes, bool)
    if label_changes(labels)[2] <= -_SURE:
        for part in (labels[:end], labels[len(labels) - end :]):
            seen = np.bincount(part, minlength=classes)
            found |= (seen <= (1 - _ALMOST) * counts * _END) | (seen >= _ALMOST * counts)
    return np.flatnonzero(found & (counts >= _LEAST))


def _lacking(patches: PatchSet, split: Split) -> list[str]:
    """Classes of which a side has less than a tenth of its proportion."""
    table = split.counts(patches.labels, len(patches.classes))[:BUFFER]
    used = table[table.any(axis=1)]
    due = used.sum(axis=1, keepdims=True) * used.sum(axis=0) / used.sum()
    lacking = ((used <= (1 - _ALMOST) * due) & (due >= 1)).any(axis=0)
    return [patches.classes[k] for k in np.flatnonzero(lacking)]


def _follows_order(split: Split) -> bool:
    """Whether each side is one or two ranges of the order."""
    sides = split.sides[split.sides != BUFFER]
    return bool(np.count_nonzero(np.diff(sides)) <= 2 * (len(np.unique(sides)) - 1))


# Classes


class BalanceCheck(Check):
    """Number of patches of each class, and classes with very few patches."""

    name, rank = "balance", 20

    def run(self, context: Context) -> Iterator[Finding]:
        """Rare classes first, then the balance."""
        patches = context.patches
        counts, classes = patches.counts, len(patches.classes)
        present = counts[counts > 0]
        largest = int(counts.argmax())
        numbers = {"patches": dict(zip(patches.classes, counts.tolist(), strict=True))}
        if len(patches) < classes:
            number = plural(len(patches), "patch", "patches")
            title = f"{number} of {classes} classes: fewer patches than classes"
            remedy = "label more patches, or use fewer classes"
            yield Finding(self.name, "critical", title, remedy, numbers)
            return
        few = [k for k in np.flatnonzero(counts < _FEW) if counts[k]]
        if few:
            yield Finding(
                self.name,
                "warning",
                f"{listed([patches.classes[k] for k in few])} "
                f"{'has' if len(few) == 1 else 'have'} fewer than {_FEW} patches",
                "label more patches of these classes, or leave the classes out",
                {"few": {patches.classes[k]: int(counts[k]) for k in few}},
                tuple(tuple(np.flatnonzero(patches.labels == k).tolist()) for k in few),
            )
        uneven = present.max() / present.min()
        span = f"{present.min():,}" + (f" to {present.max():,}" if uneven > 1 else "")
        yield Finding(
            self.name,
            "warning" if uneven >= _UNEVEN else "note",
            f"{span} patches per class; predicting '{patches.classes[largest]}' for every "
            f"patch is correct for {share(counts[largest] / len(patches))}",
            "use balanced accuracy, and sample rare classes more often"
            if uneven >= _UNEVEN
            else "",
            numbers | {"largest over smallest": float(uneven)},
        )


class SidesCheck(Check):
    """Empty sides, and classes without patches on a side.

    A class that is validated but not trained on cannot be predicted. A class that is trained on but
    not validated is an error of the split; it is a lack of labels if the class has a single spatial
    group.
    """

    name, needs, rank = "sides", ("split",), 21

    def run(self, context: Context) -> Iterator[Finding]:
        """Empty sides, or else the classes that each side lacks."""
        patches, split = context.patches, context.split
        assert split is not None
        table = split.counts(patches.labels, len(patches.classes))
        empty = [side for side in (TRAIN, VALIDATION) if not table[side].any()]
        for side in empty:
            title, remedy = (
                f"the {_word(side)} side is empty",
                "make a new split with `outcrop split`",
            )
            yield Finding(self.name, "critical", title, remedy)
        if empty:
            return
        groups = np.array(
            [len(np.unique(split.groups[patches.labels == k])) for k in range(len(patches.classes))]
        )
        for side in (side for side in range(BUFFER) if table[side].any()):
            absent = np.flatnonzero((table[side] == 0) & (patches.counts > 0))
            for alone in (False, True):
                lacking = [int(k) for k in absent if (groups[k] < 2) == alone]
                if not lacking:
                    continue
                names = [patches.classes[k] for k in lacking]
                title = f"{listed(names)} {'has' if len(names) == 1 else 'have'} no "
                title += f"{_word(side)} patches"
                remedy = "make a new split, with smaller blocks"
                if alone:
                    title += ", because all are in one spatial group"
                    remedy = "label more places of this class"
                severity: Severity = "critical" if side == TRAIN or not alone else "warning"
                numbers = {"side": SIDES[side], "classes": names}
                yield Finding(self.name, severity, title, remedy, numbers)


class NamesCheck(Check):
    """Classes without a name or without patches, and names that are one-hot rows or duplicates."""

    name, rank = "names", 22

    def run(self, context: Context) -> list[Finding]:
        """One note for each kind of problem."""
        names, counts = context.patches.classes, context.patches.counts
        unnamed = [f"{k}" for k, name in enumerate(names) if not name.strip()]
        one_hot = [name for name in names if _ONE_HOT.fullmatch(name)]
        plain = [" ".join(name.split()).casefold() for name in names]
        alike = [name for name, one in zip(names, plain, strict=True) if plain.count(one) > 1]
        unused = [name for name, count in zip(names, counts, strict=True) if not count]
        separate = "save the index of the class (argmax), and the names separately"
        problems = (
            (unnamed, "there is no name for class", "give it a name"),
            (one_hot, "class names look like one-hot rows:", separate),
            (alike, "class names differ only in spaces or case:", "make them one class"),
            (unused, "there are no patches of class", "leave it out, or label some patches of it"),
        )
        return [
            Finding(self.name, "note", f"{what} {listed(wrong)}", remedy, {"classes": wrong})
            for wrong, what, remedy in problems
            if wrong
        ]


def _word(side: int) -> str:
    return "training" if side == TRAIN else SIDES[side]


# Neighbours


@dataclass(frozen=True)
class Neighbourhood:
    """The k nearest patches of M of the patches, those that have k patches within reach.

    Attributes:
        index: int64, `M`, the patches.
        others: int64, `M × k`, their neighbours, the nearest first.
        against: int64, `M`, number of neighbours with another label.
        farthest: float64, `M`, distance to the last neighbour.
    """

    index: np.ndarray
    others: np.ndarray
    against: np.ndarray
    farthest: np.ndarray


class ConflictsCheck(Check):
    """Patches whose six nearest neighbours all have another label.

    Class borders cause such patches too. Along a border the number of patches falls with the number
    of neighbours that disagree. From all but one to all, it falls at least as steeply as before (it
    is log-concave, as for a straight border and for labels in random order). The finding is a
    warning if significantly more patches have six disagreeing neighbours (binomial test,
    p < 0.001). A class is left out if most of its patches have six disagreeing neighbours, because
    it consists of small or scattered objects.
    """

    name, needs, rank = "conflicts", ("positions",), 130

    def run(self, context: Context) -> Iterator[Finding]:
        """At most one finding."""
        patches, autocorrelation = context.patches, context.autocorrelation
        assert patches.positions is not None
        if len(patches) <= NEIGHBOURS:
            return
        reach = np.nan if autocorrelation is None else autocorrelation.range
        near = neighbourhoods(patches, float(np.fmax(reach, largest_extent(patches.positions))))
        if not len(near.index):
            return
        # Patches by class and number of disagreeing neighbours: int64, `K × (k + 1)`.
        table = np.zeros((len(patches.classes), NEIGHBOURS + 1), np.int64)
        np.add.at(table, (patches.labels[near.index], near.against), 1)
        scattered = table[:, -1] > _SCATTERED * table.sum(axis=1)
        alone = (near.against == NEIGHBOURS) & ~scattered[patches.labels[near.index]]
        number, border = int(alone.sum()), int(table[~scattered, -2].sum())
        if not number:
            return
        most = table[~scattered, -2:].sum(axis=1)
        usual = float((most * _usual_share(table[~scattered])).sum() / most.sum())
        significant = binom.sf(number - 1, number + border, usual) < _CHANCE
        due = round(border * usual / (1 - usual))
        title = (
            f"{plural(number, 'patch', 'patches')} ({share(number / len(near.index))}) "
            f"{'has' if number == 1 else 'have'} another label than all {NEIGHBOURS} nearest "
            f"neighbours; class borders explain at most about {due:,}"
        )
        order = np.lexsort((near.farthest[alone], -_agreement(near, patches)[alone]))[:_SHOWN]
        groups = np.column_stack([near.index, near.others])[alone][order]
        yield Finding(
            check=self.name,
            severity="warning" if significant else "note",
            title=title,
            remedy="inspect these patches and correct their labels" if significant else "",
            numbers={
                "looked at": len(near.index),
                "conflicts": number,
                "expected at most": due,
                "by neighbours against": table.sum(axis=0).tolist(),
                "group": f"a patch, and its {NEIGHBOURS} nearest neighbours",
                "scattered classes": [patches.classes[k] for k in np.flatnonzero(scattered)],
            },
            groups=tuple(map(tuple, groups.tolist())),
        )


def neighbourhoods(patches: PatchSet, reach: float) -> Neighbourhood:
    """The nearest neighbours of each patch whose centres are within `reach`."""
    from scipy.spatial import KDTree

    assert patches.positions is not None
    at = coordinates(patches.positions)
    distance, others = KDTree(at).query(at, NEIGHBOURS + 1, distance_upper_bound=reach)
    # A patch is its own nearest neighbour, except if others are at the same position.
    own = others == np.arange(len(at))[:, None]
    own[~own.any(axis=1), -1] = True
    distance = distance[~own].reshape(len(at), NEIGHBOURS)
    others = others[~own].reshape(len(at), NEIGHBOURS)
    index = np.flatnonzero(np.isfinite(distance).all(axis=1))
    against = (patches.labels[others[index]] != patches.labels[index][:, None]).sum(axis=1)
    return Neighbourhood(index, others[index], against, distance[index, -1])


def _usual_share(table: np.ndarray) -> np.ndarray:
    """Share of patches with k disagreeing neighbours among those with k - 1 or k, per class.

    It is the share of a log-concave decrease from two to k - 1. The constants define it for
    classes without borders.
    """
    fall = (table[:, 3:-1].sum(axis=1) + 0.5) / (table[:, 2:-2].sum(axis=1) + 1)
    return np.asarray(fall / (1 + fall))


def _agreement(near: Neighbourhood, patches: PatchSet) -> np.ndarray:
    """Number of neighbours of each patch that have their most common label."""
    labels = patches.labels[near.others]
    return (labels[:, :, None] == labels[:, None]).sum(axis=1).max(axis=1)
