"""Label conflicts: patches whose neighbours on the ground all say otherwise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import binom

from outcrop.auditing.finding import Finding
from outcrop.auditing.words import plural, share
from outcrop.patches.patchset import PatchSet
from outcrop.splits.ground import largest_extent
from outcrop.splits.places import coordinates

NEIGHBOURS = 6
_CHANCE = 1e-3
_SCATTERED = 0.5
_SHOWN = 24


@dataclass(frozen=True)
class Neighbourhood:
    """The k nearest patches on the ground of M of the patches, those that have so many in reach.

    Attributes:
        index: int64, `M`, the patches.
        others: int64, `M × k`, their neighbours, the nearest first.
        against: int64, `M`, how many of them have another label.
        farthest: float64, `M`, how far away the last of them is.
    """

    index: np.ndarray
    others: np.ndarray
    against: np.ndarray
    farthest: np.ndarray


def check_conflicts(patches: PatchSet, reach: float) -> list[Finding]:
    """Patches whose six nearest neighbours on the ground all carry other labels.

    At class borders this happens too, so it is held against what borders give: along them fewer
    and fewer patches have two, three, four neighbours against them, and from all but one to all
    the number falls no less steeply than before (it is log-concave, as for a straight border and
    for labels without any order). A warning where significantly more have all against them
    (binomial test, p < 0.001). A class most of whose patches stand alone is one of small or
    scattered things, and left out.

    Args:
        reach: largest distance to a neighbour (`Autocorrelation.range`), in the patch set's
            unit; at least the extent of a patch.
    """
    if patches.positions is None or len(patches) <= NEIGHBOURS:
        return []
    reach = float(np.fmax(reach, largest_extent(patches.positions)))
    near = neighbourhoods(patches, reach)
    if not len(near.index):
        return []
    table = _table(near, patches)
    scattered = table[:, -1] > _SCATTERED * table.sum(axis=1)
    alone = (near.against == NEIGHBOURS) & ~scattered[patches.labels[near.index]]
    number, border = int(alone.sum()), int(table[~scattered, -2].sum())
    if not number:
        return []
    most = table[~scattered, -2:].sum(axis=1)
    usual = float((most * _usual_share(table[~scattered])).sum() / most.sum())
    surprising = binom.sf(number - 1, number + border, usual) < _CHANCE
    due = round(border * usual / (1 - usual))
    title = (
        f"{plural(number, 'patch', 'patches')} ({share(number / len(near.index))}) "
        f"{'has' if number == 1 else 'have'} another label than all {NEIGHBOURS} nearest "
        f"neighbours; class borders would give no more than about {due:,}"
    )
    order = np.lexsort((near.farthest[alone], -_agreement(near, patches)[alone]))[:_SHOWN]
    groups = np.column_stack([near.index, near.others])[alone][order]
    return [
        Finding(
            check="conflicts",
            severity="warning" if surprising else "note",
            title=title,
            remedy="look at these patches, and correct their labels" if surprising else "",
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
    ]


def neighbourhoods(patches: PatchSet, reach: float) -> Neighbourhood:
    """Find each patch's nearest neighbours within `reach`, from middle to middle."""
    from scipy.spatial import KDTree

    assert patches.positions is not None
    at = coordinates(patches.positions)
    distance, others = KDTree(at).query(at, NEIGHBOURS + 1, distance_upper_bound=reach)
    # A patch is its own nearest, but for others at the very same place.
    own = others == np.arange(len(at))[:, None]
    own[~own.any(axis=1), -1] = True
    distance = distance[~own].reshape(len(at), NEIGHBOURS)
    others = others[~own].reshape(len(at), NEIGHBOURS)
    index = np.flatnonzero(np.isfinite(distance).all(axis=1))
    against = (patches.labels[others[index]] != patches.labels[index][:, None]).sum(axis=1)
    return Neighbourhood(index, others[index], against, distance[index, -1])


def _table(near: Neighbourhood, patches: PatchSet) -> np.ndarray:
    """Patches by class and number of neighbours against: int64, `K × (k + 1)`."""
    table = np.zeros((len(patches.classes), NEIGHBOURS + 1), np.int64)
    np.add.at(table, (patches.labels[near.index], near.against), 1)
    return table


def _usual_share(table: np.ndarray) -> np.ndarray:
    """Of the patches with all neighbours or all but one against them, the share that has all.

    For each class as a log-concave fall gives it, from two to all but one. What is added defines
    it for classes without borders too.
    """
    fall = (table[:, 3:-1].sum(axis=1) + 0.5) / (table[:, 2:-2].sum(axis=1) + 1)
    return np.asarray(fall / (1 + fall))


def _agreement(near: Neighbourhood, patches: PatchSet) -> np.ndarray:
    """How many of the neighbours of each patch have the label commonest among them."""
    labels = patches.labels[near.others]
    return (labels[:, :, None] == labels[:, None]).sum(axis=1).max(axis=1)
