"""Which held-out pictures are shown."""

from __future__ import annotations

import numpy as np

from outcrop.experiment.generating.material import Material


def two_pictures(material: Material, random: np.random.Generator) -> tuple[int, int] | None:
    """Two held-out pictures, of different classes if there are; None if there are no two."""
    m = material
    if not m.can_reconstruct or len(m.held_out) < 2:
        return None
    one = random.choice(m.held_out)
    labels = m.patches.labels
    others = m.held_out[labels[m.held_out] != labels[one]]
    if not len(others):
        others = m.held_out[m.held_out != one]
    return int(one), int(random.choice(others))


def sources_and_targets(
    material: Material, attribute: str | None, random: np.random.Generator
) -> list[tuple[int, int]]:
    """Held-out pictures, each with another class that is added to it.

    Args:
        attribute: the class that is added, to a picture of every other one; None adds every class
            to a picture of any other one.
    """
    m, known = material, material.known
    labels = m.patches.labels[m.held_out]
    if attribute is None:
        pools = [
            (m.held_out[(labels != target) & known[labels]], target)
            for target in np.flatnonzero(known)
        ]
    else:
        (target,) = np.flatnonzero(np.array(m.patches.classes) == attribute)
        pools = [
            (m.held_out[labels == source], target)
            for source in np.flatnonzero(known)
            if source != target
        ]
    return [(int(random.choice(pool)), int(target)) for pool, target in pools if len(pool)]
