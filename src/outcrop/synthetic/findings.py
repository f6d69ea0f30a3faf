"""Sentences about the trainings of a story, which follow from the scores alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from outcrop.auditing.audit import Audit
from outcrop.metrics.intervals import FEW_GROUPS, Interval
from outcrop.reporting.html import ends, listed, percent
from outcrop.synthetic.trainings import PLAIN, Outcome

UNDER = {"random": "the random split", "spatial": "the spatial split"}


def points(one: Interval) -> str:
    """A difference in percentage points with its interval.

    >>> points(Interval(0.25, 0.1, 0.4))
    '+25.0 points [+10.0, +40.0]'
    """
    return f"{100 * one.value:+.1f} points {ends(one, '+')}"


def sign_of(one: Interval, above: str, below: str) -> str:
    """`above` or `below` if the whole interval is on that side of zero.

    >>> sign_of(Interval(0.02, -0.01, 0.05), "better", "worse")
    'not significant'
    """
    if one.low > 0:
        return above
    if one.high < 0:
        return below
    return "of unknown uncertainty" if np.isnan(one.low) else "not significant"


def plain(outcomes: Sequence[Outcome], split: str) -> Outcome:
    """The outcome of the plain variant under a split."""
    return next(one for one in outcomes if (one.split, one.variant) == (split, PLAIN))


def validation_scores(outcomes: Sequence[Outcome]) -> list[str]:
    """The scores of the plain network under both splits, compared with those on new cubes."""
    pair = [plain(outcomes, split) for split in ("random", "spatial")]
    off = [abs(one.excess.value) for one in pair]
    closer, further = np.argsort(off, kind="stable")
    kinds = [UNDER[one.split] for one in pair]
    return [
        *map(_score, pair),
        f"The validation score of {kinds[closer]} is closer to the score on new cubes: it differs "
        f"by {100 * off[closer]:.1f} points, that of {kinds[further]} by {100 * off[further]:.1f}.",
    ]


def _score(one: Outcome) -> str:
    what = sign_of(one.excess, "too high", "too low")
    return (
        f"Under {UNDER[one.split]} the plain network has a validation score of "
        f"{_balanced(one.validation.balanced)} and a score of {_balanced(one.new_cubes.balanced)} "
        f"on the new cubes: {points(one.excess)}, {what}."
    )


def _balanced(one: Interval) -> str:
    return f"{percent(one.value)} {ends(one)}"


def leak_gap_sentence(outcomes: Sequence[Outcome]) -> str:
    """The leak gap of the plain network."""
    gap = plain(outcomes, "spatial").leak_gap
    assert gap is not None
    sign = sign_of(gap, "above zero", "below zero")
    return f"The leak gap of the plain network is {points(gap)}, {sign}."


def effects(outcomes: Sequence[Outcome], names: dict[str, str]) -> list[str]:
    """The effect of each variant on the score, compared with the plain one on the same patches."""
    return [
        f"{names[one.variant]}, under {UNDER[one.split]}: on its validation side "
        f"{_effect(one.gain)}; on the new cubes {_effect(one.gain_new)}."
        for one in outcomes
        if one.gain is not None and one.gain_new is not None
    ]


def _effect(gain: Interval) -> str:
    return f"{points(gain)}, {sign_of(gain, 'better', 'worse')}"


def best_on_new_cubes(outcomes: Sequence[Outcome]) -> str:
    """The training with the best score on the new cubes, compared with the plain one."""
    best = max(outcomes, key=lambda one: one.new_cubes.balanced.value)
    words = (
        f"Best on the new cubes: {best.variant} under {UNDER[best.split]}, "
        f"{_balanced(best.new_cubes.balanced)}"
    )
    if best.gain_new is None:
        return f"{words}."
    return f"{words}; against the plain variant under the same split {_effect(best.gain_new)}."


def cautions(outcomes: Sequence[Outcome], audited: Audit, exact: int, patches: int) -> list[str]:
    """The limits of the scores.

    Args:
        audited: the audit of the spatial split.
        exact: number of patches located at their true position.
        patches: number of all patches.
    """
    spatial, lines = plain(outcomes, "spatial"), []
    few = [
        f"the {name} on {scores.groups}"
        for name, scores in (
            ("validation score is based", spatial.validation),
            ("score on new cubes", spatial.new_cubes),
        )
        if scores.groups < FEW_GROUPS
    ]
    if few:
        lines.append(
            f"{listed(few)} spatial groups; below {FEW_GROUPS} groups it was not tested whether "
            "intervals contain the truth in 95 of 100 cases."
        )
    lines.append(
        "Each network was trained once; the intervals do not include the variation between seeds "
        "of the training."
    )
    doubts = [
        f"{finding.check} ({finding.severity})"
        for finding in audited.findings
        if finding.severity != "note"
    ]
    if doubts:
        lines.append(f"The audit of the spatial split has findings too: {listed(doubts)}.")
    if exact < patches:
        lines.append(
            f"{patches - exact:,} of the {patches:,} patches were not located at their true "
            "position."
        )
    return [sentence[0].upper() + sentence[1:] for sentence in lines]
