"""What the trainings of a story come to, in sentences that follow from the numbers alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from outcrop.auditing.audit import Audit
from outcrop.metrics.intervals import FEW_GROUPS, Interval
from outcrop.reporting.html import ends, listed, percent
from outcrop.synthetic.trainings import PLAIN, Outcome

UNDER = {"random": "the split at random", "ground": "the split by ground"}


def points(one: Interval) -> str:
    """A difference in points with its interval.

    >>> points(Interval(0.25, 0.1, 0.4))
    '+25.0 points [+10.0, +40.0]'
    """
    return f"{100 * one.value:+.1f} points {ends(one, '+')}"


def verdict(one: Interval, above: str, below: str) -> str:
    """`above` or `below` where the whole interval is on that side of zero.

    >>> verdict(Interval(0.02, -0.01, 0.05), "better", "worse")
    'not told apart from zero'
    """
    if one.low > 0:
        return above
    if one.high < 0:
        return below
    return "of unknown certainty" if np.isnan(one.low) else "not told apart from zero"


def plain(outcomes: Sequence[Outcome], split: str) -> Outcome:
    """The plain way under a split."""
    return next(one for one in outcomes if (one.split, one.way) == (split, PLAIN))


def promises(outcomes: Sequence[Outcome]) -> list[str]:
    """What the plain network promised under either split, what it kept, and which is nearer."""
    pair = [plain(outcomes, split) for split in ("random", "ground")]
    said = [_promise(one) for one in pair]
    off = [abs(one.excess.value) for one in pair]
    nearer, further = np.argsort(off, kind="stable")
    kinds = [UNDER[one.split] for one in pair]
    said.append(
        f"Of the two promises that of {kinds[nearer]} is the nearer: off by "
        f"{100 * off[nearer]:.1f} points, where that of {kinds[further]} is off by "
        f"{100 * off[further]:.1f}."
    )
    return said


def _promise(one: Outcome) -> str:
    what = verdict(one.excess, "too much", "too little")
    return (
        f"Under {UNDER[one.split]} the plain network promised {_balanced(one.promised.balanced)} "
        f"and kept {_balanced(one.kept.balanced)} on the new cubes: {points(one.excess)}, {what}."
    )


def _balanced(one: Interval) -> str:
    return f"{percent(one.value)} {ends(one)}"


def leak_gap_words(outcomes: Sequence[Outcome]) -> str:
    """The leak gap of the plain network."""
    gap = plain(outcomes, "ground").leak
    assert gap is not None
    return f"The leak gap of the plain network is {points(gap)}, {_told(gap)}."


def _told(gap: Interval) -> str:
    return verdict(gap, "above zero", "below zero")


def effects(outcomes: Sequence[Outcome], names: dict[str, str]) -> list[str]:
    """What each way does to the score, against the plain way on the same patches.

    Args:
        names: of the ways, as a sentence calls them.
    """
    return [
        f"{names[one.way]}, under {UNDER[one.split]}: on its validation side {_effect(one.gain)}; "
        f"on the new cubes {_effect(one.gain_kept)}."
        for one in outcomes
        if one.gain is not None and one.gain_kept is not None
    ]


def _effect(gain: Interval) -> str:
    return f"{points(gain)}, {verdict(gain, 'better', 'worse')}"


def best_on_new_ground(outcomes: Sequence[Outcome]) -> str:
    """Which training did best on the new cubes, and whether it is told apart from the plain one."""
    best = max(outcomes, key=lambda one: one.kept.balanced.value)
    words = (
        f"Best on the new cubes: {best.way} under {UNDER[best.split]}, "
        f"{_balanced(best.kept.balanced)}"
    )
    if best.gain_kept is None:
        return f"{words}."
    return f"{words}; against the plain way under the same split {_effect(best.gain_kept)}."


def cautions(outcomes: Sequence[Outcome], audited: Audit, exact: int, patches: int) -> list[str]:
    """What weakens the numbers.

    Args:
        audited: the audit of the split by ground.
        exact: patches that were located exactly.
        patches: that were handed over.
    """
    ground, said = plain(outcomes, "ground"), []
    few = [
        f"the {name} on {scores.groups}"
        for name, scores in (("held-out slabs stand", ground.promised), ("new cubes", ground.kept))
        if scores.groups < FEW_GROUPS
    ]
    if few:
        said.append(
            f"{listed(few)} pieces of ground; on fewer than {FEW_GROUPS} it was not checked that "
            "intervals hold the truth in 95 of 100 cases."
        )
    said.append(
        "Each network was trained once; how another seed of training would move its score is not "
        "in the intervals."
    )
    doubts = [
        f"{finding.check} ({finding.severity})"
        for finding in audited.findings
        if finding.severity != "note"
    ]
    if doubts:
        said.append(f"The audit has doubts about the split by ground too: {listed(doubts)}.")
    if exact < patches:
        said.append(
            f"Not located where they were cut: {patches - exact:,} of the {patches:,} patches."
        )
    return [sentence[0].upper() + sentence[1:] for sentence in said]
