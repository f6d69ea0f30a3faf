"""The sentences about a story follow from its scores."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from outcrop.auditing.audit import Audit
from outcrop.auditing.check import Finding, Severity
from outcrop.metrics.intervals import Interval
from outcrop.metrics.scores import Scores, score
from outcrop.synthetic import findings
from outcrop.synthetic.trainings import Outcome

NAMES = {"neighbourhood": "Shifted crops", "stochastic depth": "Skipped blocks"}
SURE, MAYBE = 0.01, 0.2


def about(value: float, spread: float) -> Interval:
    return Interval(value, value - spread, value + spread)


def scores(value: float, groups: int = 30) -> Scores:
    labels = np.arange(40) % 4
    found = score(labels, labels, tuple("abcd"), draws=2)
    return replace(found, balanced=about(value, 0.01), groups=groups)


def outcome(
    split: str,
    variant: str = "plain",
    validation: float = 0.9,
    new_cubes: float = 0.7,
    excess: Interval | None = None,
    gain: Interval | None = None,
    gain_new: Interval | None = None,
    groups: int = 30,
) -> Outcome:
    return Outcome(
        split=split,
        variant=variant,
        validation=scores(validation, groups),
        new_cubes=scores(new_cubes),
        excess=excess or about(validation - new_cubes, SURE),
        gain=gain,
        gain_new=gain_new,
        leak_gap=about(0.2, SURE) if split == "spatial" else None,
        epochs=3,
        seconds=1.0,
    )


def test_a_validation_score_that_is_too_high_is_named_and_the_closer_one():
    pair = [outcome("random", validation=0.98), outcome("spatial", validation=0.75)]
    said = findings.validation_scores(pair)
    assert (
        "random split the plain network has a validation score of 98.0\N{NO-BREAK SPACE}%"
        in said[0]
    )
    assert said[0].endswith("+28.0 points [+27.0, +29.0], too high.")
    assert "of the spatial split is closer to the score on new cubes: it differs by 5.0" in said[2]


def test_a_random_split_with_the_right_score_is_not_criticised():
    pair = [
        outcome("random", validation=0.71, excess=about(0.01, MAYBE)),
        outcome("spatial", validation=0.5),
    ]
    said = findings.validation_scores(pair)
    assert said[0].endswith("not significant.")
    assert said[1].endswith("-20.0 points [-21.0, -19.0], too low.")
    assert "of the random split is closer" in said[2]


@pytest.mark.parametrize(
    ("gain", "words"),
    [
        (about(0.05, SURE), "+5.0 points [+4.0, +6.0], better"),
        (about(-0.05, SURE), "-5.0 points [-6.0, -4.0], worse"),
        (about(0.05, MAYBE), "+5.0 points [-15.0, +25.0], not significant"),
        (Interval(0.05, np.nan, np.nan), "+5.0 points [unknown], of unknown uncertainty"),
    ],
    ids=["helps", "hurts", "undecided", "unknown"],
)
def test_an_augmentation_helps_hurts_or_is_undecided(gain, words):
    opposite = Interval(-gain.value, -gain.high, -gain.low)
    pair = [outcome("spatial"), outcome("spatial", "neighbourhood", gain=gain, gain_new=opposite)]
    (said,) = findings.effects(pair, NAMES)
    start = "Shifted crops, under the spatial split: on its validation side "
    assert said.startswith(f"{start}{words}; on the new cubes {findings.points(opposite)}, ")
    assert ("better" in said) == ("worse" in said)


def test_the_best_on_new_cubes_may_be_plain_or_under_the_random_split():
    hurt = outcome("spatial", "neighbourhood", new_cubes=0.6, gain_new=about(-0.1, SURE))
    said = findings.best_on_new_cubes([outcome("random", new_cubes=0.8), outcome("spatial"), hurt])
    assert said.startswith("Best on the new cubes: plain under the random split, 80.0")
    better = replace(hurt, new_cubes=scores(0.9), gain_new=about(0.2, MAYBE + 0.1))
    said = findings.best_on_new_cubes([outcome("spatial"), better])
    assert said.endswith("+20.0 points [-10.0, +50.0], not significant.")


def test_cautions_appear_only_where_they_apply():
    good = [outcome("random"), outcome("spatial")]
    said = findings.cautions(good, Audit((), {}), exact=10, patches=10)
    assert len(said) == 1
    assert said[0].startswith("Each network was trained once")
    few = [outcome("random"), outcome("spatial", groups=4)]
    severities: tuple[Severity, ...] = ("critical", "warning", "note")
    doubtful = Audit(tuple(Finding(f"a {one}", one, "") for one in severities), {})
    said = findings.cautions(few, doubtful, exact=8, patches=10)
    assert said[0].startswith("The validation score is based on 4 spatial groups")
    assert said[2].endswith("too: a critical (critical) and a warning (warning).")
    assert said[3] == "2 of the 10 patches were not located at their true position."
