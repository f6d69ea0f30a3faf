"""Charts as inline SVG: curves, bars and intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup

from outcrop.metrics.calibration import Reliability
from outcrop.metrics.intervals import Interval
from outcrop.metrics.scores import PrecisionRecall
from outcrop.reporting.html import EDGE, FAINT, INK, RANDOM, SPATIAL, TRAINING, chart, svg
from outcrop.training.log import EpochMetrics
from outcrop.workflow.comparison import Row

_SMALL = (2.7, 2.2)
_WIDER = (3.9, 2.6)
_RELIABILITY = (3.6, 3.0)


def loss_curves(metrics: Sequence[EpochMetrics], title: str, top: float) -> Markup:
    """Training and validation loss by epoch.

    Args:
        top: upper end of the loss axis, so that several charts compare.
    """
    pairs = [(m.train.loss, m.validation.loss) for m in metrics if m.validation]
    return _by_epoch(metrics, pairs, title, top, "nats")


def accuracy_curves(metrics: Sequence[EpochMetrics], title: str) -> Markup:
    """Training and validation accuracy by epoch."""
    pairs = [(100 * m.train.accuracy, 100 * m.validation.accuracy) for m in metrics if m.validation]
    return _by_epoch(metrics, pairs, title, 103, "%")


def class_curves(metrics: Sequence[EpochMetrics], name: str) -> Markup:
    """Precision and recall of one class on the validation patches, by epoch; gaps if undefined."""
    with chart(name, _SMALL) as (figure, axes):
        epochs = [m.epoch for m in metrics]
        for measure, colour, mark in (("precision", SPATIAL, "o"), ("recall", RANDOM, "s")):
            found = [getattr(m.validation, measure)[name] for m in metrics]
            values = [np.nan if value is None else 100 * value for value in found]
            axes.plot(epochs, values, mark, ls="-", color=colour, label=measure, ms=2.5)
        epoch_axis(axes, epochs)
        axes.set(ylim=(-3, 103), ylabel="%")
    return svg(figure, f"precision and recall of {name} by epoch")


def precision_recall_chart(
    name: str, spatial: PrecisionRecall, random: PrecisionRecall | None
) -> Markup:
    """The precision-recall curve of one class, and the one under the random split."""
    area = spatial.average_precision
    words = "no validation patches" if np.isnan(area) else f"AP {100 * area:.1f} %"
    with chart(name, _SMALL) as (figure, axes):
        if random is not None:
            axes.step(
                100 * random.recall, 100 * random.precision, where="post", color=RANDOM, lw=1.2,
                ls=(0, (3, 2)),
            )  # fmt: skip
        axes.step(100 * spatial.recall, 100 * spatial.precision, where="post", color=SPATIAL)
        axes.text(0.04, 0.05, words, transform=axes.transAxes, fontsize=9)
        axes.set(xlim=(0, 102), ylim=(0, 102), xlabel="recall (%)", ylabel="precision (%)")
    return svg(figure, f"precision and recall of {name}: {words}")


def balance_chart(
    classes: Sequence[str],
    counts: np.ndarray,
    sides: Sequence[str],
    colours: Sequence[tuple[int, int, int]],
) -> Markup:
    """Number of patches of each class, by side of the split.

    Args:
        counts: int, `sides × K`.
        sides: names of the sides.
        colours: one for each side.
    """
    with chart("", (5.0, 0.75 + 0.3 * len(classes))) as (figure, axes):
        at = np.arange(len(classes))
        done = np.zeros(len(classes))
        for side, colour in enumerate(colours):
            if counts[side].any():
                shade = tuple(channel / 255 for channel in colour)
                axes.barh(at, counts[side], 0.68, done, color=shade, label=sides[side])
                done += counts[side]
        axes.set_yticks(at, classes)
        axes.invert_yaxis()
        axes.grid(axis="y", visible=False)
        axes.set_xlabel("patches")
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=4, borderpad=0)
    return svg(figure, "patches of each class, by side of the split")


def accuracy_chart(rows: Sequence[Row], split: str) -> Markup:
    """Overall accuracy of every model with its interval, under the split and the random split.

    Args:
        split: name of the split in the legend.
    """
    with chart("", (5.8, 0.9 + 0.48 * len(rows))) as (figure, axes):
        at = np.arange(len(rows))
        random = [row.random.overall for row in rows if row.random is not None]
        if len(random) == len(rows):
            for y, row, other in zip(at, rows, random, strict=True):
                ends = (100 * row.scores.overall.value, 100 * other.value)
                axes.plot(ends, (y + 0.13, y + 0.13), color=EDGE, lw=1, zorder=1)
            interval_marks(axes, at + 0.02, random, RANDOM, "D", "random split")
        interval_marks(axes, at + 0.24, [r.scores.overall for r in rows], SPATIAL, "o", split)
        axes.spines.left.set_visible(False)
        axes.set_ylim(len(rows) - 0.5, -0.6)
        found = [*random, *(row.scores.overall for row in rows)]
        _name_rows(axes, [row.title for row in rows], 0.3, found)
        if random:
            axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, borderpad=0)
    return svg(figure, "overall accuracy of every model")


def reliability_chart(title: str, found: Reliability, colour: str) -> Markup:
    """Accuracy by confidence with intervals, the line where both are equal, and counts."""
    words = f"{title}: error {100 * found.error:.1f} %"
    bins = len(found.counts)
    middle, width = 100 * (np.arange(bins) + 0.5) / bins, 100 / bins
    with chart(words, _RELIABILITY) as (figure, axes):
        counts = axes.twinx()
        counts.bar(middle, found.counts, 0.9 * width, color=FAINT)
        most = found.counts.max()
        counts.set(ylim=(0, 2.5 * most), yticks=[0, most], ylabel="patches (grey)")
        counts.grid(visible=False)
        axes.set_zorder(counts.get_zorder() + 1)
        axes.patch.set_visible(False)
        axes.plot((0, 100), (0, 100), color=TRAINING, lw=1, ls=(0, (4, 2)))
        for confidence, one in zip(100 * found.confidence, found.accuracy, strict=True):
            ends = (100 * one.low, 100 * one.high)
            axes.plot((confidence, confidence), ends, color=colour, lw=2.2, alpha=0.45)
        accuracy = [100 * one.value for one in found.accuracy]
        axes.plot(100 * found.confidence, accuracy, "o", color=colour, ms=5)
        axes.set(xlim=(0, 102), ylim=(0, 104), xlabel="confidence (%)", ylabel="accuracy (%)")
    return svg(figure, f"accuracy by confidence, {words}")


def variogram_chart(autocorrelation: Mapping[str, Any]) -> Markup:
    """The variogram of pixels, labels and errors, and the range of the pixels.

    Args:
        autocorrelation: numbers of the audit's finding of that name.
    """
    with chart("", _WIDER) as (figure, axes):
        for axis, one in enumerate(autocorrelation["pixels"]):
            if one is None:
                continue
            alone = len(autocorrelation["pixels"]) == 1
            name = "pixels" if alone else f"along axis {axis}"
            colour = (SPATIAL, RANDOM, TRAINING)[axis]
            axes.plot(one["lags"], one["gamma"], "o-", color=colour, ms=3.5, label=name)
            if one["range"]:
                axes.axvline(one["range"], color=colour, lw=1, ls=(0, (4, 2)))
        for key, dashes, name in (
            ("labels", ":", "labels"),
            ("residuals", "--", "errors of a forest"),
        ):
            if (one := autocorrelation.get(key)) is not None:
                axes.plot(one["lags"], one["gamma"], color=INK, lw=1, ls=dashes, label=name)
        axes.set_xscale("log")
        plain_decades(axes.xaxis)
        unit = autocorrelation["unit"]
        axes.set(ylim=(0, None), xlabel=f"distance ({unit})", ylabel="semivariance / variance")
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, borderpad=0, columnspacing=1)
    return svg(figure, "variogram")


def distances_chart(title: str, numbers: Mapping[str, Any]) -> Markup:
    """Distribution of the distances from validation patches and from places to be mapped to the
    nearest training patch.

    Args:
        numbers: numbers of the audit's finding "map-ground" or "map-features".
    """
    unit = numbers["unit"]
    apart = f"{float(format(numbers['wasserstein'], '.3g')):,g}"
    with chart(f"{title}: W = {apart} {unit}", _WIDER) as (figure, axes):
        percent = np.array(numbers["percent"])
        one, other = np.array(numbers["validation"]), np.array(numbers["wanted"])
        axes.fill_betweenx(percent, one, other, color=TRAINING, alpha=0.2, lw=0)
        axes.plot(one, percent, color=SPATIAL, label="validation patches")
        axes.plot(other, percent, color=RANDOM, label="places to be mapped")
        axes.set(xlim=(0, None), ylim=(0, 102), ylabel="share at most as far (%)")
        axes.set_xlabel(f"distance to nearest training patch ({unit})")
        axes.legend(loc="lower right")
    return svg(figure, f"distance to the nearest training patch, {title}")


def leak_chart(leaks: Sequence[Mapping[str, Any]]) -> Markup:
    """Accuracy of each probe model under a random and a spatial split.

    Args:
        leaks: numbers of the audit's findings "leak-gap" and "network-gap".
    """
    with chart("", (3.9, 1.3 + 0.6 * len(leaks))) as (figure, axes):
        at = np.arange(len(leaks))
        ends = []
        for key, colour, mark, name, shift in (
            ("random", RANDOM, "D", "random split", 0.05),
            ("ground", SPATIAL, "o", "spatial split", 0.3),
        ):
            found = [Interval.from_json(leak[key]) for leak in leaks]
            interval_marks(axes, at + shift, found, colour, mark, name)
            ends += found
        axes.set_ylim(len(leaks) - 0.4, -0.5)
        _name_rows(axes, [leak["model"] for leak in leaks], 0.25, ends)
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, borderpad=0)
    return svg(figure, "accuracy under a random and a spatial split")


def _name_rows(axes: Any, names: Sequence[str], above: float, found: Sequence[Interval]) -> None:
    """Write names above the rows of a chart of accuracies, and set its horizontal axis."""
    for y, name in enumerate(names):
        place = axes.get_yaxis_transform()
        axes.text(0, y - above, name, transform=place, va="center", fontsize=9.5)
    axes.set(yticks=[], xlim=(left_end(found), 102))
    axes.set_xlabel("overall accuracy (%), with 95 % intervals")
    axes.grid(axis="y", visible=False)


def plain_decades(axis: Any) -> None:
    """Label decades of a logarithmic axis, and 2 and 5 of few, without powers of ten."""

    def label(value: float, _: int) -> str:
        low, high = axis.get_view_interval()
        labelled = "125" if high < 50 * low else "1"
        return f"{value:g}" if f"{value:.0e}"[0] in labelled else ""

    axis.set_major_formatter(label)
    axis.set_minor_formatter(label)


def left_end(found: Sequence[Interval]) -> float:
    """Left end of an axis in per cent: the multiple of ten below the lowest interval."""
    lowest = np.nanmin([end for one in found for end in (one.low, one.value)])
    return float(max(0, 10 * np.floor(10 * lowest - 0.2)))


def interval_marks(
    axes: Any, at: np.ndarray, found: Sequence[Interval], colour: str, mark: str, label: str
) -> None:
    """Draw values in per cent and their intervals at the heights `at`."""
    for y, one in zip(at, found, strict=True):
        axes.plot((100 * one.low, 100 * one.high), (y, y), color=colour, lw=2.2, alpha=0.45)
    values = [100 * one.value for one in found]
    axes.plot(values, at, mark, color=colour, ms=6, label=label, ls="none")


def _by_epoch(
    metrics: Sequence[EpochMetrics],
    pairs: Sequence[tuple[float, float]],
    title: str,
    top: float,
    unit: str,
) -> Markup:
    """A chart of pairs of a training and a validation value, by epoch."""
    epochs = [m.epoch for m in metrics]
    train, validation = zip(*pairs, strict=True)
    with chart(title, _SMALL) as (figure, axes):
        axes.plot(epochs, train, color=TRAINING, ls=(0, (4, 2)))
        axes.plot(epochs, validation, color=SPATIAL)
        epoch_axis(axes, epochs)
        axes.set(ylim=(0, top), ylabel=unit)
    return svg(figure, title)


def epoch_axis(axes: Any, epochs: Sequence[int]) -> None:
    """Set the horizontal axis to whole epochs."""
    from matplotlib.ticker import MaxNLocator

    axes.set_xlim(1, max(2, epochs[-1]))
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.set_xlabel("epoch")
