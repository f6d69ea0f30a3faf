"""The trainings of a story as charts: how they learned, what they promised, what they kept."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from markupsafe import Markup

from outcrop.reporting.charts import RANDOM, SPATIAL, TRAINING, epoch_axis, interval_marks, left_end
from outcrop.reporting.html import chart, svg
from outcrop.synthetic.trainings import Outcome
from outcrop.training.run import Run

_SMALL = (2.7, 2.3)
_SPLITS = {"random": "split at random", "ground": "split by ground"}


def learning_curves(runs: dict[str, Run], title: str) -> Markup:
    """Accuracy by epoch of one way under both splits: on training patches, and on validation.

    Args:
        runs: by split, "random" and "ground".
    """
    with chart(title, _SMALL) as (figure, axes):
        for name, colour in (("random", RANDOM), ("ground", SPATIAL)):
            metrics = runs[name].metrics
            epochs = [one.epoch for one in metrics]
            trained = [100 * one.train.accuracy for one in metrics]
            judged = [100 * one.validation.accuracy for one in metrics if one.validation]
            axes.plot(epochs, trained, color=colour, lw=1.1, ls=(0, (4, 2)), alpha=0.7)
            axes.plot(epochs, judged, color=colour)
        epoch_axis(axes, epochs)
        axes.set_ylim(0, 103)
        axes.set_ylabel("accuracy (%)")
    return svg(figure, f"accuracy by epoch under both splits, {title}")


def promise_chart(outcomes: Sequence[Outcome]) -> Markup:
    """Balanced accuracy of each training, promised and kept, with intervals."""
    with chart("", (6.6, 1.0 + 0.46 * len(outcomes))) as (figure, axes):
        promised = [one.promised.balanced for one in outcomes]
        kept = [one.kept.balanced for one in outcomes]
        at = np.arange(len(outcomes))
        for y, one in zip(at, outcomes, strict=True):
            ends = (100 * one.promised.balanced.value, 100 * one.kept.balanced.value)
            axes.plot(ends, (y + 0.12, y + 0.12), color="#b9c3cc", lw=1, zorder=1)
            place, words = axes.get_yaxis_transform(), f"{one.way}, {_SPLITS[one.split]}"
            axes.text(0, y - 0.3, words, transform=place, va="center", fontsize=9.5)
        for found, colour, mark, name, shift in (
            (promised, TRAINING, "D", "promised: validation side of its split", 0.02),
            (kept, SPATIAL, "o", "kept: new cubes", 0.24),
        ):
            interval_marks(axes, at + shift, found, colour, mark, name)
        axes.set_yticks([])
        axes.spines.left.set_visible(False)
        axes.set_ylim(len(outcomes) - 0.5, -0.6)
        axes.set_xlim(left_end([*promised, *kept]), 102)
        axes.grid(axis="y", visible=False)
        axes.set_xlabel("balanced accuracy (%), with 95 % intervals")
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, borderpad=0)
    return svg(figure, "what each training promised and kept")
