"""What the numbers say, in sentences that do not oversell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from outcrop.evaluation.intervals import Interval
from outcrop.evaluation.scores import Scores
from outcrop.experiment.compare import Row
from outcrop.report.material import Material

_FEW = 20


@dataclass(frozen=True)
class Tile:
    """A number to read first: what it is, the number, and what goes with it."""

    name: str
    value: str
    note: str


def percent(value: float, digits: int = 1) -> str:
    """A fraction in per cent.

    >>> percent(0.7831), percent(float("nan"))
    ('78.3 %', '–')
    """
    return "–" if np.isnan(value) else f"{100 * value:.{digits}f} %"


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
    scores = material.scores
    network = Tile(
        f"{material.network} on {material.held_out}",
        percent(scores.overall.value),
        f"overall accuracy {ends(scores.overall)}; balanced {percent(scores.balanced.value)} "
        f"{ends(scores.balanced)}",
    )
    if material.comparison is None:
        return [network]
    best = material.comparison.rows[0]
    found = [
        Tile(
            f"Best on {material.held_out}: {best.title}",
            percent(best.scores.overall.value),
            f"overall accuracy {ends(best.scores.overall)}; balanced "
            f"{percent(best.scores.balanced.value)} {ends(best.scores.balanced)}",
        )
    ]
    row = material.network_row
    if row is not None and row is not best:
        found.append(network)
    if row is not None and row.gap is not None:
        found.append(
            Tile(
                f"Leak gap of {material.network}",
                f"{100 * row.gap.value:+.1f} points",
                f"{ends(row.gap, '+')}; by how much a split at random flatters",
            )
        )
    return found


def sentences(material: Material) -> list[str]:
    """What to take home, the most important first."""
    said = []
    if material.comparison is not None:
        said.append(ranking(material.comparison.rows, material.network_row, material.held_out))
        said += [leak(row) for row in _leaks(material)]
    said.append(extremes(material))
    said += cautions(material)
    return [sentence for sentence in said if sentence]


def ranking(rows: Sequence[Row], network: Row | None, held_out: str) -> str:
    """Which model leads by balanced accuracy, and which ones are not told apart from it."""
    best = rows[0]
    score = f"{percent(best.scores.balanced.value)} {ends(best.scores.balanced)}"
    equals = [row for row in rows[1:] if _overlap(best.scores.balanced, row.scores.balanced)]
    first = f"On {held_out} {best.title} has the highest balanced accuracy, {score}"
    if network is not None and best is not network:
        own = network.scores.balanced
        first = (
            f"The network does not lead: on {held_out} {best.title} has the highest balanced "
            f"accuracy, {score}, and {network.model} has {percent(own.value)} {ends(own)}"
        )
    if not equals:
        return f"{first}; its interval overlaps no other model's." if len(rows) > 1 else first + "."
    if len(equals) == len(rows) - 1:
        return f"{first}; but every model's interval overlaps its own: they are not told apart."
    names = listed([row.title for row in equals])
    return f"{first}; not told apart from it, their intervals overlap: {names}."


def leak(row: Row) -> str:
    """The leak gap of a model in plain words."""
    if row.random is None or row.gap is None:
        return ""
    promised, kept = percent(row.random.overall.value), percent(row.scores.overall.value)
    points, spread = abs(100 * row.gap.value), ends(row.gap, "+")
    if np.isnan(row.gap.low) or row.gap.low > 0:
        return (
            f"{row.title}: a split at random would have promised an overall accuracy of "
            f"{promised}; on new ground it is {kept}, {points:.1f} points less {spread}."
        )
    return (
        f"{row.title}: a split at random gives an overall accuracy of {promised}, new ground "
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
        f"{material.network} knows {scores.classes[best]} best "
        f"(F1 {percent(scores.f1[best].value)}) and {scores.classes[worst]} least "
        f"(F1 {percent(scores.f1[worst].value)})"
    )
    if not mixed.any():
        return sentence + "."
    share = percent(mixed.max() / scores.confusion[worst].sum(), 0)
    other = scores.classes[int(mixed.argmax())]
    return f"{sentence}: it takes {share} of the {scores.classes[worst]} patches for {other}."


def cautions(material: Material) -> list[str]:
    """What weakens the numbers."""
    said = []
    scores = material.scores
    if not material.split.by_ground and material.from_ground:
        said.append(
            "The split was made at random: neighbours of the validation patches were trained on, "
            "so these numbers flatter. Split by ground to know how the model does elsewhere."
        )
    if scores.groups < _FEW and material.from_ground:
        said.append(
            f"The validation side stands on {scores.groups} pieces of ground only; below about "
            f"{_FEW} the intervals are too narrow. Label more separate places to be surer."
        )
    if material.patches is not None:
        said += [f"{warning[0].upper()}{warning[1:]}." for warning in
                 material.split.warnings(material.patches)]  # fmt: skip
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


def _overlap(one: Interval, other: Interval) -> bool:
    """Whether two intervals share a point; unknown ones may."""
    if np.isnan([one.low, other.low]).any():
        return True
    return one.low <= other.high and other.low <= one.high
