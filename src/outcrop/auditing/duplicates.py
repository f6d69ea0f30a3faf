"""Checks for copies of patches and for overlapping patches, across sides and within sides."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from outcrop.auditing.check import Check, Context, Finding, plural, share
from outcrop.auditing.copies import Pairs, exact_copies, near_copies
from outcrop.auditing.overlaps import overlapping
from outcrop.patches.patchset import PatchSet
from outcrop.splits import BUFFER, TRAIN, Split

_SURE = 0.7
_GROUPS, _MEMBERS, _SIZES = 24, 12, 20
_NAME = "duplicates"


class DuplicatesCheck(Check):
    """Exact copies, and copies up to flips, rotations, brightness, contrast, sign and mild damage.

    Copies on different sides, and copies with different labels, are critical. Other copies are a
    warning. Patches whose positions overlap look alike for that reason, and count only if they are
    exact copies. Patches that look alike without being copies, such as neighbouring slices of a
    volume, are a warning across sides, and otherwise a note.
    """

    name, needs, rank = _NAME, ("images",), 70

    def run(self, context: Context) -> Iterator[Finding]:
        """Conflicting labels, copies across sides, copies within sides, similar patches."""
        patches, split, flat = context.patches, context.split, context.pixels.flat
        exact = exact_copies(patches, flat)
        kept = np.setdiff1d(np.flatnonzero(~flat), exact.second)
        near = near_copies(patches, kept, context.seed)
        pairs = exact + near.pairs
        clusters = pairs.clusters(len(patches))
        across = [one for one in clusters if split is not None and _crosses(split, one)]
        within = [one for one in clusters if split is None or not _crosses(split, one)]
        searched = {"exact copies": len(exact), "near pairs": len(near.pairs)}
        if len(near.asked) < len(kept):
            searched["patches held against all"] = len(near.asked)
        yield from _conflicts(patches, pairs)
        if split is not None and across:
            yield _across(split, across, exact, searched)
        if within:
            yield _within(patches, split, within, searched)
        yield from _similar(patches, split, near.alike)


class OverlapsCheck(Check):
    """Patches without positions that overlap; critical across sides.

    If positions are known, `DistanceCheck` reports the overlaps.
    """

    name, needs, rank = "overlaps", ("images",), 80

    def run(self, context: Context) -> Iterator[Finding]:
        """At most one finding."""
        patches, split = context.patches, context.split
        if patches.positions is not None:
            return
        found = overlapping(patches, np.flatnonzero(~context.pixels.flat), context.seed)
        if not len(found.pairs):
            return
        both = np.concatenate([found.pairs.first, found.pairs.second])
        number = int(np.isin(found.asked, both).sum())
        crossing = _crossing(split, found.pairs)
        across = int(crossing.sum())
        clusters = found.pairs.clusters(len(patches))
        asked = plural(len(found.asked), "patch", "patches")
        if len(found.asked) < len(patches):
            asked = f"{len(found.asked):,} random patches"
        apart = float(np.median(np.hypot(*found.shifts.T)))
        title = (
            f"at least {share(number / len(found.asked))} of {asked} overlap another patch, with "
            f"a median shift of {plural(round(apart), 'pixel')}"
        )
        if across:
            title += f"; {plural(across, 'pair')} across sides"
        yield Finding(
            self.name,
            "critical" if across else "warning",
            title,
            "find their positions with `outcrop locate`, then use a spatial split",
            {
                "asked": len(found.asked),
                "overlapping": number,
                "pairs": len(found.pairs),
                "pairs across sides": across,
                "median shift": apart,
                **_sizes(clusters),
            },
            _pairs_shown(found.pairs, crossing),
        )


def _similar(patches: PatchSet, split: Split | None, pairs: Pairs) -> Iterator[Finding]:
    if not len(pairs):
        return
    crossing = _crossing(split, pairs)
    across, number = int(crossing.sum()), len(np.union1d(pairs.first, pairs.second))
    title = (
        f"{plural(number, 'patch looks', 'patches look')} almost like another patch "
        f"({share(number / len(patches))} of all) without being copies, as neighbouring slices of "
        "a volume do"
    )
    if across:
        title += f"; {plural(across, 'pair')} across sides"
    yield Finding(
        _NAME,
        "warning" if across else "note",
        title,
        "keep them on one side: split by blocks; `outcrop locate` finds lost positions",
        {"patches": number, "pairs": len(pairs), "pairs across sides": across},
        _pairs_shown(pairs, crossing),
    )


def _crossing(split: Split | None, pairs: Pairs) -> np.ndarray:
    """Mask of the pairs on different sides."""
    if split is None:
        return np.zeros(len(pairs), bool)
    one, other = split.sides[pairs.first], split.sides[pairs.second]
    return np.asarray((one != other) & (one != BUFFER) & (other != BUFFER))


def _crosses(split: Split, cluster: np.ndarray) -> bool:
    sides = np.unique(split.sides[cluster])
    return len(sides[sides != BUFFER]) > 1


def _conflicts(patches: PatchSet, pairs: Pairs) -> Iterator[Finding]:
    labels = patches.labels
    wrong = pairs[(labels[pairs.first] != labels[pairs.second]) & (pairs.likeness >= _SURE)]
    if not len(wrong):
        return
    clusters = wrong.clusters(len(patches))
    one, other = (patches.classes[labels[i]] for i in (wrong.first[0], wrong.second[0]))
    yield Finding(
        _NAME,
        "critical",
        f"{plural(len(clusters), 'cluster')} of copies with different labels, such as '{one}' "
        f"and '{other}'",
        "inspect them, and correct the labels",
        {"clusters": len(clusters), "patches": sum(map(len, clusters))},
        _shown(clusters),
    )


def _across(
    split: Split, clusters: list[np.ndarray], exact: Pairs, searched: dict[str, int]
) -> Finding:
    held_out = np.flatnonzero((split.sides != TRAIN) & (split.sides != BUFFER))
    copies = np.intersect1d(held_out, _with_training(split, clusters))
    exactly = np.intersect1d(copies, _with_training(split, exact.clusters(len(split.sides))))
    if len(copies):
        title = (
            f"{len(copies):,} of {len(held_out):,} validation and test patches "
            f"({share(len(copies) / len(held_out))}) have a copy in training: {len(exactly):,} "
            f"exact up to flips and rotations, {len(copies) - len(exactly):,} with other "
            "brightness or damage"
        )
    else:
        title = f"{plural(len(clusters), 'cluster')} of copies in both validation and test"
    return Finding(
        _NAME,
        "critical",
        title,
        "keep one patch of each cluster, or keep each cluster on one side",
        {
            "judged": len(held_out),
            "judged with a copy in training": len(copies),
            "of them exact": len(exactly),
            **_sizes(clusters),
            **searched,
        },
        _shown(clusters),
    )


def _with_training(split: Split, clusters: list[np.ndarray]) -> np.ndarray:
    """The members of the clusters that have a training patch."""
    some = [cluster for cluster in clusters if (split.sides[cluster] == TRAIN).any()]
    return np.concatenate([np.zeros(0, np.int64), *some])


def _within(
    patches: PatchSet, split: Split | None, clusters: list[np.ndarray], searched: dict[str, int]
) -> Finding:
    number = sum(map(len, clusters))
    return Finding(
        _NAME,
        "warning",
        f"{plural(number, 'patch', 'patches')} in {plural(len(clusters), 'cluster')} of copies "
        f"({share(number / len(patches))} of all)"
        + ("" if split is None else ", each cluster on one side"),
        "keep one patch of each cluster; a random split would put copies on different sides",
        {"patches": number, **_sizes(clusters), **searched},
        _shown(clusters),
    )


def _sizes(clusters: list[np.ndarray]) -> dict[str, object]:
    return {
        "clusters": len(clusters),
        "largest clusters": [len(cluster) for cluster in clusters[:_SIZES]],
    }


def _shown(clusters: list[np.ndarray]) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(cluster[:_MEMBERS].tolist()) for cluster in clusters[:_GROUPS])


def _pairs_shown(pairs: Pairs, crossing: np.ndarray) -> tuple[tuple[int, ...], ...]:
    order = np.lexsort((-pairs.likeness, ~crossing))[:_GROUPS]
    return tuple((int(pairs.first[i]), int(pairs.second[i])) for i in order)
