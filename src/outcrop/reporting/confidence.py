"""How sure the network is, how right, and where it had better not be asked."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from outcrop.metrics.applicability import Applicability
from outcrop.metrics.calibration import Calibration, Reliability
from outcrop.reporting.charts import GROUND, RANDOM, TRAINING
from outcrop.reporting.held_out import HeldOut
from outcrop.reporting.svg import FAINT, chart, svg

_SIZE = (3.6, 3.0)


@dataclass(frozen=True)
class ConfidencePart:
    """The section on confidence.

    Attributes:
        calibration: of what is held out.
        charts: reliability before and, if it is known, after.
        applied: whether the run's probabilities are at the temperature.
        threshold: the dissimilarity above which a patch lies outside the area of applicability; NaN
            where each fold has its own.
        applicability: what is held out, inside and outside; None for a run of before.
    """

    calibration: Calibration
    charts: tuple[Markup, ...]
    applied: bool
    threshold: float
    applicability: Applicability | None


def confidence_part(held_out: HeldOut) -> ConfidencePart:
    """What the held-out patches tell of a network's confidence.

    Raises:
        OutcropError: nothing is held out; an area of applicability is damaged.
    """
    found = held_out.calibration
    charts = [reliability_chart("as the model gives it", found.before, RANDOM)]
    if found.after is not None:
        holds = "calibrated" if found.temperature != 1 else "at another's temperature"
        charts.append(reliability_chart(holds, found.after, GROUND))
    return ConfidencePart(
        calibration=found,
        charts=tuple(charts),
        applied=held_out.is_calibrated,
        threshold=held_out.threshold,
        applicability=held_out.applicability,
    )


def reliability_chart(title: str, found: Reliability, colour: str) -> Markup:
    """Accuracy by confidence with intervals, the line where both are the same, and counts."""
    words = f"{title}: error {100 * found.error:.1f} %"
    bins = len(found.counts)
    middle, width = 100 * (np.arange(bins) + 0.5) / bins, 100 / bins
    with chart(words, _SIZE) as (figure, axes):
        counts = axes.twinx()
        counts.bar(middle, found.counts, 0.9 * width, color=FAINT)
        counts.set_ylim(0, 2.5 * found.counts.max())
        counts.set_yticks([0, found.counts.max()])
        counts.set_ylabel("patches (grey)")
        counts.grid(visible=False)
        axes.set_zorder(counts.get_zorder() + 1)
        axes.patch.set_visible(False)
        axes.plot((0, 100), (0, 100), color=TRAINING, lw=1, ls=(0, (4, 2)))
        for certain, one in zip(100 * found.confidence, found.accuracy, strict=True):
            ends = (100 * one.low, 100 * one.high)
            axes.plot((certain, certain), ends, color=colour, lw=2.2, alpha=0.45)
        accuracy = [100 * one.value for one in found.accuracy]
        axes.plot(100 * found.confidence, accuracy, "o", color=colour, ms=5)
        axes.set_xlim(0, 102)
        axes.set_ylim(0, 104)
        axes.set_xlabel("confidence (%)")
        axes.set_ylabel("right (%)")
    return svg(figure, f"accuracy by confidence, {words}")
