"""Copies of patches, across sides and within, and what their labels say."""

from __future__ import annotations

import numpy as np

from outcrop.auditing.copies import Pairs, exact_copies, near_copies
from outcrop.auditing.finding import Finding
from outcrop.auditing.overlaps import overlapping
from outcrop.auditing.pixels import Pixels
from outcrop.auditing.words import plural, share
from outcrop.patches.patchset import PatchSet
from outcrop.splits import BUFFER, TRAIN, Split

_SURE = 0.7
_GROUPS, _MEMBERS, _SIZES = 24, 12, 20


def check_duplicates(
    patches: PatchSet, split: Split | None, pixels: Pixels, seed: int = 0
) -> list[Finding]:
    """Exact copies, and near ones up to flips, turns, brightness, contrast, polarity, mild damage.

    Critical across sides, and where copies carry different labels; else a warning. Patches whose
    positions say that they overlap on the ground are alike for that reason, and count as copies
    only if they are exact. Patches that share their detail without being copies, such as
    neighbouring slices of a volume, are a warning across sides, else a note.
    """
    exact = exact_copies(patches, pixels.flat)
    kept = np.setdiff1d(np.flatnonzero(~pixels.flat), exact.second)
    near = near_copies(patches, kept, seed)
    pairs = exact + near.pairs
    alike = _alike(patches, split, near.alike)
    if not len(pairs):
        return alike
    clusters = pairs.clusters(len(patches))
    crossing = [split is not None and _crosses(split, cluster) for cluster in clusters]
    across = [cluster for cluster, crosses in zip(clusters, crossing, strict=True) if crosses]
    within = [cluster for cluster, crosses in zip(clusters, crossing, strict=True) if not crosses]
    searched = {"exact copies": len(exact), "near pairs": len(near.pairs)}
    if len(near.asked) < len(kept):
        searched["patches held against all"] = len(near.asked)
    found = _conflicts(patches, pairs)
    if split is not None and across:
        found.append(_across(split, across, exact, searched))
    if within:
        found.append(_within(patches, split, within, searched))
    return found + alike


def _alike(patches: PatchSet, split: Split | None, pairs: Pairs) -> list[Finding]:
    if not len(pairs):
        return []
    crossing = np.zeros(len(pairs), bool)
    if split is not None:
        sides = split.sides[pairs.first], split.sides[pairs.second]
        crossing = (sides[0] != sides[1]) & (sides[0] != BUFFER) & (sides[1] != BUFFER)
    across, number = int(crossing.sum()), len(np.union1d(pairs.first, pairs.second))
    title = (
        f"{plural(number, 'patch', 'patches')} ({share(number / len(patches))} of all) show "
        "nearly what another one shows, in other pixels, as neighbouring slices of a volume do"
    )
    if across:
        title += f"; {plural(across, 'pair')} across sides"
    return [
        Finding(
            "duplicates",
            "warning" if across else "note",
            title,
            "keep them on one side: split by blocks; `outcrop locate` finds lost positions",
            {"patches": number, "pairs": len(pairs), "pairs across sides": across},
            _pairs_shown(pairs, crossing),
        )
    ]


def check_overlaps(
    patches: PatchSet, split: Split | None, pixels: Pixels, seed: int = 0
) -> list[Finding]:
    """Patches without positions that were cut some pixels apart; critical across sides.

    With positions, overlap on the ground is known and told by the checks on ground.
    """
    if patches.positions is not None:
        return []
    found = overlapping(patches, np.flatnonzero(~pixels.flat), seed)
    if not len(found.pairs):
        return []
    both = np.concatenate([found.pairs.first, found.pairs.second])
    number = int(np.isin(found.asked, both).sum())
    crossing = np.zeros(len(found.pairs), bool)
    if split is not None:
        sides = split.sides[found.pairs.first], split.sides[found.pairs.second]
        crossing = (sides[0] != sides[1]) & (sides[0] != BUFFER) & (sides[1] != BUFFER)
    across = int(crossing.sum())
    clusters = found.pairs.clusters(len(patches))
    asked = plural(len(found.asked), "patch", "patches")
    if len(found.asked) < len(patches):
        asked += " drawn at random"
    apart = float(np.median(np.hypot(*found.shifts.T)))
    title = (
        f"of {asked}, at least {share(number / len(found.asked))} overlap another, "
        f"{plural(round(apart), 'pixel')} apart in the median"
    )
    if across:
        title += f"; {plural(across, 'pair')} across sides"
    return [
        Finding(
            "overlaps",
            "critical" if across else "warning",
            title,
            "find where they were cut with `outcrop locate`, then split by ground",
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
    ]


def _crosses(split: Split, cluster: np.ndarray) -> bool:
    sides = np.unique(split.sides[cluster])
    return len(sides[sides != BUFFER]) > 1


def _conflicts(patches: PatchSet, pairs: Pairs) -> list[Finding]:
    labels = patches.labels
    wrong = pairs[(labels[pairs.first] != labels[pairs.second]) & (pairs.likeness >= _SURE)]
    if not len(wrong):
        return []
    clusters = wrong.clusters(len(patches))
    one, other = (patches.classes[labels[i]] for i in (wrong.first[0], wrong.second[0]))
    return [
        Finding(
            "duplicates",
            "critical",
            f"{plural(len(clusters), 'cluster')} of copies with more than one label, such as "
            f"'{one}' and '{other}'",
            "look at them, and keep the right label",
            {"clusters": len(clusters), "patches": sum(map(len, clusters))},
            _shown(clusters),
        )
    ]


def _across(
    split: Split, clusters: list[np.ndarray], exact: Pairs, searched: dict[str, int]
) -> Finding:
    judged = np.flatnonzero((split.sides != TRAIN) & (split.sides != BUFFER))
    copies = np.intersect1d(judged, _taught(split, clusters))
    exactly = np.intersect1d(copies, _taught(split, exact.clusters(len(split.sides))))
    if len(copies):
        title = (
            f"{len(copies):,} of {len(judged):,} patches that judge "
            f"({share(len(copies) / len(judged))}) have a copy in training: {len(exactly):,} exact "
            f"up to flips and turns, {len(copies) - len(exactly):,} in other brightness or damaged"
        )
    else:
        title = f"{plural(len(clusters), 'cluster')} of copies on validation and test side"
    return Finding(
        "duplicates",
        "critical",
        title,
        "keep one of each cluster, or keep clusters on one side",
        {
            "judged": len(judged),
            "judged with a copy in training": len(copies),
            "of them exact": len(exactly),
            **_sizes(clusters),
            **searched,
        },
        _shown(clusters),
    )


def _taught(split: Split, clusters: list[np.ndarray]) -> np.ndarray:
    """The members of the clusters that have a member in training."""
    taught = [cluster for cluster in clusters if (split.sides[cluster] == TRAIN).any()]
    return np.concatenate([np.zeros(0, np.int64), *taught])


def _within(
    patches: PatchSet, split: Split | None, clusters: list[np.ndarray], searched: dict[str, int]
) -> Finding:
    number = sum(map(len, clusters))
    return Finding(
        "duplicates",
        "warning",
        f"{plural(number, 'patch', 'patches')} in {plural(len(clusters), 'cluster')} of copies "
        f"({share(number / len(patches))} of all)"
        + ("" if split is None else ", each on one side"),
        "keep one of each cluster; a split at random would put copies on both sides",
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
