"""What the page of a story says follows from its numbers, whichever way they turn out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from outcrop.auditing.audit import Audit
from outcrop.auditing.check import Finding, Severity
from outcrop.metrics.intervals import Interval
from outcrop.metrics.scores import Scores, score
from outcrop.synthetic import verdicts
from outcrop.synthetic.trainings import Outcome

NAMES = {"neighbourhood": "Cutting anew", "stochastic depth": "Dropping blocks"}
SURE, MAYBE = 0.01, 0.2


def about(value: float, spread: float) -> Interval:
    return Interval(value, value - spread, value + spread)


def scores(value: float, groups: int = 30) -> Scores:
    labels = np.arange(40) % 4
    found = score(labels, labels, tuple("abcd"), draws=2)
    return replace(found, balanced=about(value, 0.01), groups=groups)


def outcome(
    split: str,
    way: str = "plain",
    promised: float = 0.9,
    kept: float = 0.7,
    excess: Interval | None = None,
    gain: Interval | None = None,
    gain_kept: Interval | None = None,
    groups: int = 30,
) -> Outcome:
    return Outcome(
        split=split,
        way=way,
        promised=scores(promised, groups),
        kept=scores(kept),
        excess=excess or about(promised - kept, SURE),
        gain=gain,
        gain_kept=gain_kept,
        leak=about(0.2, SURE) if split == "ground" else None,
        epochs=3,
        seconds=1.0,
    )


def test_a_promise_that_was_too_high_is_called_so_and_the_nearer_one_is_named():
    said = verdicts.promises([outcome("random", promised=0.98), outcome("ground", promised=0.75)])
    assert "split at random the plain network promised 98.0\N{NO-BREAK SPACE}%" in said[0]
    assert said[0].endswith("+28.0 points [+27.0, +29.0], too much.")
    assert "that of the split by ground is the nearer: off by 5.0 points" in said[2]


def test_a_split_at_random_that_kept_its_promise_is_not_blamed():
    pair = [
        outcome("random", promised=0.71, excess=about(0.01, MAYBE)),
        outcome("ground", promised=0.5),
    ]
    said = verdicts.promises(pair)
    assert said[0].endswith("not told apart from zero.")
    assert said[1].endswith("-20.0 points [-21.0, -19.0], too little.")
    assert "that of the split at random is the nearer" in said[2]


@pytest.mark.parametrize(
    ("gain", "words"),
    [
        (about(0.05, SURE), "+5.0 points [+4.0, +6.0], better"),
        (about(-0.05, SURE), "-5.0 points [-6.0, -4.0], worse"),
        (about(0.05, MAYBE), "+5.0 points [-15.0, +25.0], not told apart from zero"),
        (Interval(0.05, np.nan, np.nan), "+5.0 points [unknown], of unknown certainty"),
    ],
    ids=["helps", "hurts", "undecided", "unknown"],
)
def test_an_augmentation_helps_hurts_or_is_undecided(gain, words):
    opposite = Interval(-gain.value, -gain.high, -gain.low)
    pair = [outcome("ground"), outcome("ground", "neighbourhood", gain=gain, gain_kept=opposite)]
    (said,) = verdicts.effects(pair, NAMES)
    start = "Cutting anew, under the split by ground: on its validation side "
    assert said.startswith(f"{start}{words}; on the new cubes {verdicts.points(opposite)}, ")
    assert ("better" in said) == ("worse" in said)


def test_the_best_on_new_ground_is_named_even_if_it_is_the_plain_one_or_at_random():
    hurt = outcome("ground", "neighbourhood", kept=0.6, gain_kept=about(-0.1, SURE))
    said = verdicts.best_on_new_ground([outcome("random", kept=0.8), outcome("ground"), hurt])
    assert said.startswith("Best on the new cubes: plain under the split at random, 80.0")
    better = replace(hurt, kept=scores(0.9), gain_kept=about(0.2, MAYBE + 0.1))
    said = verdicts.best_on_new_ground([outcome("ground"), better])
    assert said.endswith("+20.0 points [-10.0, +50.0], not told apart from zero.")


def test_cautions_come_with_what_they_warn_of_alone():
    good = [outcome("random"), outcome("ground")]
    said = verdicts.cautions(good, Audit((), {}), exact=10, patches=10)
    assert len(said) == 1
    assert said[0].startswith("Each network was trained once")
    few = [outcome("random"), outcome("ground", groups=4)]
    severities: tuple[Severity, ...] = ("critical", "warning", "note")
    doubtful = Audit(tuple(Finding(f"a {one}", one, "") for one in severities), {})
    said = verdicts.cautions(few, doubtful, exact=8, patches=10)
    assert said[0].startswith("The held-out slabs stand on 4 pieces")
    assert said[2].endswith("too: a critical (critical) and a warning (warning).")
    assert said[3] == "Not located where they were cut: 2 of the 10 patches."
