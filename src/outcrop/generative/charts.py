"""Charts of a training: losses, measures, and the dimensions of the code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from markupsafe import Markup

from outcrop.generative.metrics import ACTIVE_NATS, VaeGanMetrics
from outcrop.generative.run import VaeGanRun
from outcrop.reporting.charts import epoch_axis, plain_decades
from outcrop.reporting.html import RANDOM, SPATIAL, TRAINING, chart, svg

_SMALL = (2.7, 2.2)
_WIDER = (3.9, 2.6)
_COLOURS = (SPATIAL, RANDOM, TRAINING)
_DASHES: tuple[Any, ...] = ("-", (0, (4, 2)), (0, (1, 1.3)))
_DASHES_IN_WORDS = ("", " (dashed)", " (dotted)")
_MARK = "#6d7984"
_FEW = 30


@dataclass(frozen=True)
class Curves:
    """A chart, with name and colour of each line; without them for a single line."""

    svg: Markup
    legend: tuple[tuple[str, str], ...] = ()


def loss_charts(run: VaeGanRun) -> list[Curves]:
    """Charts of the prior, the reconstruction loss, the GAN losses and the discriminator."""
    draw = partial(curves, run.metrics)
    compared = "features" if run.model.network.has_discriminator else "pixels"
    title = f"reconstruction loss, {compared}"
    return _existing(
        draw("prior", "nats", {"": "prior"}, from_zero=True),
        draw(title, "squared distance / 2", {"": "likeness"}, from_zero=True),
        draw("GAN losses", "nats", {"discriminator": "discriminator", "decoder": "decoder"}),
        draw(
            "accuracy of the discriminator",
            "% of the images",
            {kind: f"right_of_{kind}" for kind in ("real", "reconstructed", "sampled")},
            mark=0.5,
            percent=True,
        ),
    )


def measure_charts(run: VaeGanRun) -> list[Curves]:
    """Charts of the measures of reconstructions and samples."""
    draw = partial(curves, run.metrics)
    errors = {"pixels": "pixel_error", "features": "feature_error"}
    shares = {"precision": "precision", "recall": "recall"}
    return _existing(
        draw("error of reconstructions", "relative error", errors, mark=0.5, from_zero=True),
        draw("Fréchet distance (not FID)", "", {"": "frechet"}, from_zero=True),
        draw("precision and recall", "%", shares, percent=True),
        draw("samples that repeat", "%", {"": "repeats"}, percent=True),
    )


def code_charts(run: VaeGanRun) -> list[Markup]:
    """Charts of the divergence of each dimension, and of the number of active dimensions."""
    last = run.metrics[-1]
    if not last.divergence:
        return []
    title = f"active dimensions of {len(last.divergence)}"
    active = curves(run.metrics, title, "dimensions", {"": "awake"}, from_zero=True, inches=_WIDER)
    return [divergence_chart(last.divergence), *([active.svg] if active else [])]


def curves(
    metrics: Sequence[VaeGanMetrics],
    title: str,
    unit: str,
    lines: Mapping[str, str],
    mark: float | None = None,
    percent: bool = False,
    from_zero: bool = False,
    inches: tuple[float, float] = _SMALL,
) -> Curves | None:
    """A chart of values by epoch, with gaps for missing ones; None if all are missing.

    Args:
        lines: for each line its name in the legend and the name of the metric.
        mark: a value that a dashed line marks.
        percent: whether the values are shares.
        from_zero: whether the axis begins at 0; a few outliers are then cut off.
    """
    scale = 100 if percent else 1
    found = {
        name: scale * np.array([getattr(epoch, metric) for epoch in metrics], dtype=float)
        for name, metric in lines.items()
    }
    found = {name: values for name, values in found.items() if not np.isnan(values).all()}
    if not found:
        return None
    with chart(title, inches) as (figure, axes):
        if mark is not None:
            axes.axhline(scale * mark, color=_MARK, lw=1.2, ls=(0, (2, 2)), zorder=1)
        epochs = [epoch.epoch for epoch in metrics]
        few = len(epochs) <= _FEW
        for values, colour, dash in zip(found.values(), _COLOURS, _DASHES, strict=False):
            axes.plot(epochs, values, marker="o" if few else "", ls=dash, color=colour, ms=2.5)
        epoch_axis(axes, epochs)
        if few:
            axes.set_xlim(0.5, max(2, epochs[-1]) + 0.5)
        if percent:
            axes.set_ylim(-3, 103)
        elif from_zero:
            axes.set_ylim(0, _top([*np.concatenate(list(found.values())), mark or 0]))
        axes.set_ylabel(unit)
    names = found if len(found) > 1 else ()
    legend = tuple(
        (name + words, colour)
        for name, colour, words in zip(names, _COLOURS, _DASHES_IN_WORDS, strict=False)
    )
    return Curves(svg(figure, f"{title}, by epoch"), legend)


def divergence_chart(divergence: Sequence[float]) -> Markup:
    """A chart of the divergence of each dimension of the code from the prior, in falling order."""
    from matplotlib.ticker import MaxNLocator

    ordered = np.sort(divergence)[::-1]
    rank = np.arange(1, len(ordered) + 1)
    active = ordered > ACTIVE_NATS
    with chart("divergence of each dimension, last epoch", _WIDER) as (figure, axes):
        axes.axhline(ACTIVE_NATS, color=_MARK, lw=1, ls=(0, (2, 2)), zorder=1)
        shown = np.maximum(ordered, ACTIVE_NATS / 100)
        for which, colour in ((active, SPATIAL), (~active, TRAINING)):
            axes.plot(rank[which], shown[which], "o", color=colour, ms=3.5 if len(rank) < 65 else 2)
        axes.set_yscale("log")
        plain_decades(axes.yaxis)
        axes.set_ylim(min(ACTIVE_NATS / 2, shown.min() / 1.5), 2 * max(ACTIVE_NATS, shown.max()))
        axes.set_xlim(0.5, max(2, len(ordered)) + 0.5)
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.set_xlabel("dimensions, sorted")
        axes.set_ylabel("nats")
    return svg(
        figure, f"{active.sum()} of {len(active)} dimensions have more than {ACTIVE_NATS} nats"
    )


def _top(values: Sequence[float]) -> float:
    """The upper end of an axis from 0, without far outliers."""
    known = np.array(values)[~np.isnan(values)]
    return float(1.05 * min(known.max(), 2 * np.percentile(known, 95))) or 1.0


def _existing(*charts: Curves | None) -> list[Curves]:
    return [one for one in charts if one is not None]
