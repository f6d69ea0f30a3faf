"""What the numbers say, in sentences that do not oversell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from outcrop.metrics.calibration import Calibration
from outcrop.metrics.intervals import FEW_GROUPS, Interval
from outcrop.metrics.pairwise import PairwiseTest
from outcrop.metrics.scores import Scores
from outcrop.metrics.significance import written
from outcrop.reporting.material import Material
from outcrop.workflow.comparison import Comparison, Row


@dataclass(frozen=True)
class Tile:
    """A number to read first: what it is, the number, and what goes with it."""

    name: str
    value: str
    note: str


def percent(value: float, digits: int = 1) -> str:
    """A fraction in per cent.

    >>> percent(float("nan")), percent(0.7831) == "78.3\N{NO-BREAK SPACE}%"
    ('–', True)
    """
    return "–" if np.isnan(value) else f"{100 * value:.{digits}f}\N{NO-BREAK SPACE}%"


def ends(one: Interval, sign: str = "") -> str:
    """The ends of an interval in per cent.

    >>> ends(Interval(0.8, 0.75, 0.85)), ends(Interval(0.1, -0.05, 0.2), "+")
    ('[75.0, 85.0]', '[-5.0, +20.0]')
    """
    if np.isnan(one.value):
        return ""
    if np.isnan(one.low):
        return "[unknown]"
    return f"[{100 * one.low:{sign}.1f}, {100 * one.high:{sign}.1f}]"


def listed(words: Sequence[str]) -> str:
    """Words as one writes them in a sentence.

    >>> listed(["rice"]), listed(["rice", "water", "mud"])
    ('rice', 'rice, water and mud')
    """
    if len(words) < 2:
        return "".join(words)
    return f"{', '.join(words[:-1])} and {words[-1]}"


def tiles(material: Material) -> list[Tile]:
    """Best model, network, leak gap."""
    if material.comparison is None:
        name = f"{material.title} on {material.held_out}"
        return [_tile(name, material.scores, material.score_kind)]
    best, row = material.comparison.rows[0], material.network_row
    kind = material.comparison.kind
    found = [_tile(f"Best on {material.held_out}: {called(best)}", best.scores, kind)]
    if row is not None and row is not best:
        found.append(_tile(f"{called(row)} on {material.held_out}", row.scores, kind))
    if row is not None and row.gap is not None and row.random is not None:
        found.append(
            Tile(
                f"Leak gap of {called(row)}",
                f"{100 * row.gap.value:+.1f} points",
                f"{ends(row.gap, '+')}; overall accuracy {percent(row.random.overall.value)} under "
                f"a split at random, {percent(row.scores.overall.value)} on {material.held_out}",
            )
        )
    return found


def _tile(name: str, scores: Scores, kind: str) -> Tile:
    return Tile(
        name,
        percent(scores.balanced.value),
        f"balanced accuracy {ends(scores.balanced)}; overall {percent(scores.overall.value)} "
        f"{ends(scores.overall)}; {kind}",
    )


def sentences(material: Material) -> list[str]:
    """What to take home, the most important first."""
    said = []
    if material.comparison is not None:
        said += ranking(material.comparison, material.network_row, material.held_out)
        said.append(f"{material.comparison.recommendation}.")
        said += [leak(row, material.held_out) for row in _leaks(material)]
    said.append(extremes(material))
    said.append(sureness(material.title, material.held.calibration, material.held_out))
    said += cautions(material)
    return [sentence[0].upper() + sentence[1:] for sentence in said if sentence]


def called(row: Row) -> str:
    """A model by name, with what it sees unless it is the network."""
    return row.model if row.features == "patch" else f"{row.model} ({row.features})"


def ranking(comparison: Comparison, network: Row | None, held_out: str) -> list[str]:
    """Which model leads by balanced accuracy, which are not shown to be worse, and the network."""
    best, others = comparison.rows[0], comparison.rows[1:]
    said = [f"{called(best)} has the highest balanced accuracy on {held_out}, {_balanced(best)}."]
    held = {contest.other: contest for contest in comparison.of_the_best}
    if not held:
        return said
    if network is not None and network is not best:
        contest = held[network.title]
        said.append(
            f"The network does not lead: {called(network)} has {_balanced(network)}; "
            f"{against(contest, called(best), len(comparison.pairwise_tests))}."
        )
    alike = [called(row) for row in others if row in comparison.leaders]
    if any(contest.verdict == "unknown" for contest in held.values()):
        said.append(
            "Whether that is more than chance is unknown: the ground that was held out, or that of "
            "a class on it, is too little to tell."
        )
    elif not alike:
        said.append(f"Every other model is shown to be worse than {called(best)}.")
    elif len(alike) == len(others):
        said.append(f"No other model is shown to be worse than {called(best)}.")
    else:
        rest = len(others) - len(alike)
        said.append(
            f"Not shown to be worse than {called(best)}: {listed(alike)}. The other "
            f"{'one is' if rest == 1 else f'{rest} are'}."
        )
    return said


def against(contest: PairwiseTest, best: str, pairs: int) -> str:
    """What a contest, one of so many pairs, shows of the best model, with the numbers."""
    points = contest.balanced.points
    lead = f"{best} leads by {100 * points.value:.1f} points {ends(points, '+')}"
    if contest.verdict == "unknown":
        return f"{lead}, of unknown certainty"
    corrected = f" after correction for {pairs} pairs" if pairs > 1 else ""
    p = f"p {written(contest.balanced.adjusted)}{corrected}"
    if contest.verdict == "better":
        return f"{lead} and is shown to be better, {p}"
    return f"{lead}, which may be chance, {p}"


def _balanced(row: Row) -> str:
    return f"{percent(row.scores.balanced.value)} {ends(row.scores.balanced)}"


def leak(row: Row, held_out: str) -> str:
    """The leak gap of a model in plain words."""
    if row.random is None or row.gap is None:
        return ""
    promised, kept = percent(row.random.overall.value), percent(row.scores.overall.value)
    least = "At least: new ground is farther from the training side than held-out ground is."
    points, spread = abs(100 * row.gap.value), ends(row.gap, "+")
    if np.isnan(row.gap.low) or row.gap.low > 0:
        return (
            f"{called(row)}: a split at random would have promised an overall accuracy of "
            f"{promised}; on {held_out} it is {kept}, {points:.1f} points less {spread}. {least}"
        )
    return (
        f"{called(row)}: a split at random gives an overall accuracy of {promised}, {held_out} "
        f"{kept}; the leak gap of {100 * row.gap.value:+.1f} points {spread} is not told apart "
        "from zero."
    )


def extremes(material: Material) -> str:
    """The class that the network knows best, and the one it knows least."""
    scores = material.scores
    known = [k for k, one in enumerate(scores.f1) if not np.isnan(one.value)]
    if len(known) < 2:
        return ""
    known.sort(key=lambda k: scores.f1[k].value)
    worst, best = known[0], known[-1]
    mixed = scores.confusion[worst].copy()
    mixed[worst] = 0
    sentence = (
        f"{material.title} knows {scores.classes[best]} best "
        f"(F1 {percent(scores.f1[best].value)}) and {scores.classes[worst]} least "
        f"(F1 {percent(scores.f1[worst].value)})"
    )
    if not mixed.any():
        return sentence + "."
    share = percent(mixed.max() / scores.confusion[worst].sum(), 0)
    other = scores.classes[int(mixed.argmax())]
    return f"{sentence}: it takes {share} of the {scores.classes[worst]} patches for {other}."


def sureness(network: str, calibration: Calibration, held_out: str) -> str:
    """How sure the network is beside how right, and what a temperature does about it."""
    before, after = calibration.before, calibration.after
    excess = before.excess
    verdict = "is about as sure as it is right"
    if excess.low > 0:
        verdict = "is too sure of itself"
    elif excess.high < 0:
        verdict = "is not sure enough of itself"
    sentence = (
        f"{network} {verdict}: on {held_out} its mean confidence is {abs(100 * excess.value):.1f} "
        f"points {'above' if excess.value >= 0 else 'below'} its accuracy {ends(excess, '+')}, its "
        f"expected calibration error {percent(before.error)}"
    )
    if after is None:
        return f"{sentence}."
    kept = ""
    if calibration.temperature == 1:
        kept = " The truth is no likelier then, so confidence is left as it is."
    return (
        f"{sentence}; at a temperature fitted on other held-out ground the error is "
        f"{percent(after.error)}.{kept}"
    )


def cautions(material: Material) -> list[str]:
    """What weakens the numbers."""
    said = []
    scores = material.scores
    if not material.split.spatial and not material.without_ground:
        said.append(
            "The split was made at random: where patches are cut from ground, neighbours of the "
            "validation patches were trained on and these numbers flatter. Split by ground to know "
            "how the model does elsewhere."
        )
    if scores.groups < FEW_GROUPS and material.from_ground:
        said.append(
            f"What is held out stands on {scores.groups} pieces of ground only; on fewer than "
            f"{FEW_GROUPS} it was not checked that intervals hold the truth in 95 of 100 cases. "
            "Label more separate places to be surer."
        )
    if material.comparison is not None:
        notes = (*material.comparison.notes, *material.comparison.cautions)
        said += [f"{note}." for note in notes]
    if len(material.folds) > 1:
        return said
    if material.patches is not None:
        said += [f"{warning}." for warning in material.split.warnings(material.patches)]
    elif missing := _absent(scores):
        said.append(f"No validation patches of {listed(missing)}: nothing is known of them.")
    return said


def _absent(scores: Scores) -> list[str]:
    counts = scores.confusion.sum(axis=1)
    return [name for name, count in zip(scores.classes, counts, strict=True) if count == 0]


def _leaks(material: Material) -> list[Row]:
    """The network and, where it is another, the best model."""
    assert material.comparison is not None
    best, network = material.comparison.rows[0], material.network_row
    return [best] if network is None or network is best else [network, best]
