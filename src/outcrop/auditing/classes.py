"""How many patches of each class there are, on each side; and whether the names are names."""

from __future__ import annotations

import re
from collections import Counter

import numpy as np

from outcrop.auditing.finding import Finding
from outcrop.auditing.words import listed, plural, share
from outcrop.patches.patchset import PatchSet
from outcrop.splits import BUFFER, SIDES, TRAIN, VALIDATION, Split

_FEW = 10
_UNEVEN = 20
_ONE_HOT = re.compile(r"[\[(]?\s*(?:[01](?:\.0?)?[\s,]+)+[01](?:\.0?)?\s*[\])]?")


def check_classes(patches: PatchSet, split: Split | None) -> list[Finding]:
    """Class balance, classes with hardly any patches, and classes that a side lacks."""
    return [*_balance(patches), *([] if split is None else _sides(patches, split))]


def check_names(patches: PatchSet) -> list[Finding]:
    """Notes on classes without a name or without patches, and on names that are no names."""
    names = patches.classes
    unused = [name for name, count in zip(names, patches.counts, strict=True) if not count]
    bare = Counter(" ".join(name.split()).casefold() for name in names)
    twins = [name for name in names if bare[" ".join(name.split()).casefold()] > 1]
    found = []
    for wrong, what, remedy in (
        (
            [f"{k}" for k, name in enumerate(names) if not name.strip()],
            "no name is given to class",
            "name it",
        ),
        (
            [name for name in names if _ONE_HOT.fullmatch(name)],
            "names look like one-hot rows:",
            "save the index of the class (argmax), and the names apart",
        ),
        (twins, "names differ in spaces or capitals only:", "make them one class"),
        (unused, "no patch has the class", "leave it out, or label some of it"),
    ):
        if wrong:
            found.append(
                Finding("names", "note", f"{what} {listed(wrong)}", remedy, {"classes": wrong})
            )
    return found


def _balance(patches: PatchSet) -> list[Finding]:
    counts, classes = patches.counts, len(patches.classes)
    present = counts[counts > 0]
    largest = int(counts.argmax())
    numbers = {"patches": dict(zip(patches.classes, counts.tolist(), strict=True))}
    if len(patches) < classes:
        return [
            Finding(
                "balance",
                "critical",
                f"{plural(len(patches), 'patch', 'patches')} of {classes} classes: fewer patches "
                "than classes",
                "label more patches, or take fewer classes",
                numbers,
            )
        ]
    found = []
    few = [k for k in np.flatnonzero(counts < _FEW) if counts[k]]
    if few:
        found.append(
            Finding(
                "balance",
                "warning",
                f"{listed([patches.classes[k] for k in few])} "
                f"{'has' if len(few) == 1 else 'have'} fewer than {_FEW} patches",
                "label more of it, or leave the class out",
                {"few": {patches.classes[k]: int(counts[k]) for k in few}},
                tuple(tuple(np.flatnonzero(patches.labels == k).tolist()) for k in few),
            )
        )
    uneven = present.max() / present.min()
    span = f"{present.min():,}" + (f" to {present.max():,}" if uneven > 1 else "")
    found.append(
        Finding(
            "balance",
            "warning" if uneven >= _UNEVEN else "note",
            f"{span} patches a class; always answering '{patches.classes[largest]}' is right in "
            f"{share(counts[largest] / len(patches))}",
            "judge by balanced accuracy, and draw rare classes more often"
            if uneven >= _UNEVEN
            else "",
            numbers | {"largest over smallest": float(uneven)},
        )
    )
    return found


def _sides(patches: PatchSet, split: Split) -> list[Finding]:
    """Classes that the training side, or a side that judges, has no patch of.

    A class that judges but never trains cannot be answered. A class that trains and does not
    judge is a fault of the split, or of the labels if it stands on one piece of ground.
    """
    table = split.counts(patches.labels, len(patches.classes))
    found = []
    for side in (TRAIN, VALIDATION):
        if not table[side].any():
            found.append(
                Finding(
                    "sides",
                    "critical",
                    f"the {_word(side)} side is empty",
                    "split anew with `outcrop split`",
                )
            )
    if found:
        return found
    used = [side for side in range(BUFFER) if table[side].any()]
    pieces = np.array(
        [len(np.unique(split.groups[patches.labels == k])) for k in range(len(patches.classes))]
    )
    for side in used:
        absent = np.flatnonzero((table[side] == 0) & (patches.counts > 0))
        for alone in (False, True):
            lacking = [int(k) for k in absent if (pieces[k] < 2) == alone]
            if not lacking:
                continue
            trained = side == TRAIN
            names = [patches.classes[k] for k in lacking]
            title = f"{listed(names)} {'has' if len(names) == 1 else 'have'} no "
            title += f"{_word(side)} patches" + (
                ", and stand on one piece of ground" if alone else ""
            )
            found.append(
                Finding(
                    "sides",
                    "critical" if trained or not alone else "warning",
                    title,
                    "label more places of it" if alone else "split anew, with smaller blocks",
                    {"side": SIDES[side], "classes": names},
                )
            )
    return found


def _word(side: int) -> str:
    return "training" if side == TRAIN else SIDES[side]
