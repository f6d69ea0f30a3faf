"""Sentences and headline numbers that state the results, with their uncertainty."""

from __future__ import annotations

import numpy as np

from outcrop.metrics.calibration import Calibration
from outcrop.metrics.intervals import FEW_GROUPS
from outcrop.metrics.pairwise import PairwiseTest
from outcrop.metrics.scores import Scores
from outcrop.metrics.significance import written
from outcrop.reporting.html import Tile, ends, listed, percent
from outcrop.reporting.material import Material
from outcrop.workflow.comparison import Comparison, Row


def tiles(material: Material) -> list[Tile]:
    """Headline numbers: the recommended model, the network, the leak gap of the network."""
    if material.comparison is None:
        name = f"{material.held.title} on {material.held_out}"
        return [_tile(name, material.held.scores, material.folds.kind)]
    best, network = material.comparison.recommended, material.comparison.network
    kind = material.comparison.kind
    found = [_tile(f"Recommended model: {called(best)}", best.scores, kind)]
    if network is not None and network is not best:
        found.append(_tile(f"Network: {called(network)}", network.scores, kind))
    if network is not None and network.gap is not None and network.random is not None:
        found.append(
            Tile(
                f"Leak gap of {called(network)}",
                f"{100 * network.gap.value:+.1f} points",
                f"95 % interval {ends(network.gap, '+')}; overall accuracy "
                f"{percent(network.random.overall.value)} under a random split, "
                f"{percent(network.scores.overall.value)} on {material.held_out}",
            )
        )
    return found


def _tile(name: str, scores: Scores, kind: str) -> Tile:
    return Tile(
        name,
        percent(scores.balanced.value),
        f"balanced accuracy, 95 % interval {ends(scores.balanced)}; overall accuracy "
        f"{percent(scores.overall.value)} {ends(scores.overall)}; {kind}",
    )


def sentences(material: Material) -> list[str]:
    """The main results in sentences, the most important first."""
    found = []
    if material.comparison is not None:
        found += ranking(material.comparison, material.held_out)
        found += [leak(row, material.held_out) for row in _leaks(material.comparison)]
    found.append(extremes(material))
    found.append(confidence(material.held.title, material.held.calibration, material.held_out))
    found += cautions(material)
    return [sentence[0].upper() + sentence[1:] for sentence in found if sentence]


def called(row: Row) -> str:
    """Name of a model, with its features unless it is the network."""
    return row.model if row.features == "patch" else f"{row.model} ({row.features})"


def ranking(comparison: Comparison, held_out: str) -> list[str]:
    """Which model is recommended and why; how the network and the others compare with the best."""
    best, others, network = comparison.rows[0], comparison.rows[1:], comparison.network
    found = [f"Recommended model: {called(comparison.recommended)}. {why(comparison, held_out)}"]
    tests = {test.other: test for test in comparison.of_the_best}
    if not tests:
        return found
    if network is not None and network is not best:
        difference = against(tests[network.title], called(best), len(comparison.pairwise_tests))
        found.append(
            f"The network is not the best model: {called(network)} has {_balanced(network)}. "
            f"{difference[0].upper()}{difference[1:]}"
        )
    alike = [called(row) for row in others if row in comparison.leaders]
    if any(test.verdict == "unknown" for test in tests.values()):
        found.append(
            "Whether the differences between the models are due to chance is unknown: the held-out "
            "patches, or those of one class, are in too few spatial groups."
        )
    elif not alike:
        found.append(f"Every other model is shown to be worse than {called(best)}.")
    elif len(alike) == len(others):
        found.append(f"No other model is shown to be worse than {called(best)}.")
    else:
        rest = len(others) - len(alike)
        found.append(
            f"Not shown to be worse than {called(best)}: {listed(alike)}. The other "
            f"{'model is' if rest == 1 else f'{rest} models are'} shown to be worse."
        )
    return found


def why(comparison: Comparison, held_out: str) -> str:
    """Why a model is recommended, in one sentence."""
    one, best = comparison.recommended, comparison.rows[0]
    if one is best:
        return f"It has the highest balanced accuracy on {held_out}, {_balanced(one)}."
    return (
        f"Its balanced accuracy on {held_out}, {_balanced(one)}, equals that of {called(best)} to "
        f"0.1 %, and its training takes less time ({one.seconds:,.1f} s instead of "
        f"{best.seconds:,.1f} s)."
    )


def against(test: PairwiseTest, best: str, pairs: int) -> str:
    """Result of the pairwise test of the best model against another, with the numbers.

    Args:
        pairs: number of pairs that the p value is corrected for.
    """
    points = test.balanced.points
    lead = f"{best} is {100 * points.value:.1f} points {ends(points, '+')} better"
    if test.verdict == "unknown":
        return f"{lead}; whether this is due to chance is unknown."
    corrected = f" after correction for {pairs} pairs" if pairs > 1 else ""
    p = f"p {written(test.balanced.adjusted)}{corrected}"
    if test.verdict == "better":
        return f"{lead}; the difference is significant ({p})."
    return f"{lead}; the difference may be due to chance ({p})."


def _balanced(row: Row) -> str:
    return f"{percent(row.scores.balanced.value)} {ends(row.scores.balanced)}"


def leak(row: Row, held_out: str) -> str:
    """The leak gap of a model in plain words; empty if it was not measured."""
    if row.random is None or row.gap is None:
        return ""
    random, spatial = percent(row.random.overall.value), percent(row.scores.overall.value)
    points, spread = f"{100 * row.gap.value:+.1f} points", ends(row.gap, "+")
    return (
        f"{called(row)}: under a random split the overall accuracy is {random}, on {held_out} "
        f"{spatial}. The leak gap of {points} {spread} {_leak_verdict(row)}"
    )


def _leak_verdict(row: Row) -> str:
    assert row.gap is not None
    if row.gap.low > 0:
        return (
            "means that a random split overestimates the accuracy, by this much or more: new areas "
            "are farther from the training patches than the held-out ones."
        )
    if row.gap.high < 0:
        return (
            "means that a random split underestimates the accuracy here: its validation patches "
            "are more difficult than the held-out ones."
        )
    if np.isnan(row.gap.low):
        return (
            "has no interval, because there are too few spatial groups: whether it is due to "
            "chance is unknown."
        )
    return "is not significantly different from zero."


def extremes(material: Material) -> str:
    """The class with the highest and the one with the lowest F1 score; empty below two classes."""
    scores = material.held.scores
    known = [k for k, one in enumerate(scores.f1) if not np.isnan(one.value)]
    if len(known) < 2:
        return ""
    known.sort(key=lambda k: scores.f1[k].value)
    worst, best = known[0], known[-1]
    confused = scores.confusion[worst].copy()
    confused[worst] = 0
    sentence = (
        f"{material.held.title}: {scores.classes[best]} has the highest F1 score, "
        f"{_f1(scores, best)}, and {scores.classes[worst]} the lowest, {_f1(scores, worst)}"
    )
    if not confused.any():
        return sentence + "."
    share = percent(confused.max() / scores.confusion[worst].sum(), 0)
    other = scores.classes[int(confused.argmax())]
    return f"{sentence}; {share} of the {scores.classes[worst]} patches are classified as {other}."


def _f1(scores: Scores, k: int) -> str:
    return f"{percent(scores.f1[k].value)} {ends(scores.f1[k])}"


def confidence(model: str, calibration: Calibration, held_out: str) -> str:
    """Mean confidence of a model minus its accuracy, and the effect of a temperature."""
    before, after = calibration.before, calibration.after
    excess = before.excess
    verdict = f"{model} is not shown to be over- or underconfident"
    if excess.low > 0:
        verdict = f"{model} is overconfident"
    elif excess.high < 0:
        verdict = f"{model} is underconfident"
    elif np.isnan(excess.low):
        verdict = f"Whether {model} is over- or underconfident is unknown"
    sentence = (
        f"{verdict}: on {held_out} its mean confidence is {abs(100 * excess.value):.1f} points "
        f"{'above' if excess.value >= 0 else 'below'} its accuracy {ends(excess, '+')}, and its "
        f"expected calibration error is {percent(before.error)}"
    )
    if after is None:
        return f"{sentence}."
    kept = ""
    if calibration.temperature == 1:
        kept = " It does not make the true classes more likely, so the confidence is not changed."
    return (
        f"{sentence}. With a temperature that was fitted on other spatial groups the error is "
        f"{percent(after.error)}.{kept}"
    )


def cautions(material: Material) -> list[str]:
    """Limits of the numbers."""
    found = []
    scores = material.held.scores
    if not material.split.spatial and not material.without_positions:
        found.append(
            "The split is random: if the patches were cut from scenes or volumes, neighbours of "
            "the validation patches were used for training, and these numbers are too high. Use a "
            "spatial split to estimate the accuracy in new areas."
        )
    if scores.groups < FEW_GROUPS and material.has_positions:
        found.append(
            f"The held-out patches are in only {scores.groups} spatial groups. The coverage of the "
            f"95 % intervals was not verified for fewer than {FEW_GROUPS}. Label more separate "
            "areas to get reliable intervals."
        )
    if material.comparison is not None:
        notes = (*material.comparison.notes, *material.comparison.cautions)
        found += [f"{note}." for note in notes]
    if len(material.folds) > 1:
        return found
    if material.patches is not None:
        found += [f"{warning}." for warning in material.split.warnings(material.patches)]
    elif missing := _absent(scores):
        found.append(f"No validation patches of {listed(missing)}: their accuracy is unknown.")
    return found


def _absent(scores: Scores) -> list[str]:
    counts = scores.confusion.sum(axis=1)
    return [name for name, count in zip(scores.classes, counts, strict=True) if count == 0]


def _leaks(comparison: Comparison) -> list[Row]:
    """The recommended model and, if it is another, the network."""
    best, network = comparison.recommended, comparison.network
    return [best] if network is None or network is best else [best, network]
