"""How networks learnt the pictures, and what their code says, as charts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup

from outcrop.generative.metrics import ASLEEP, VaeGanMetrics
from outcrop.generative.run import VaeGanRun
from outcrop.reporting.charts import RANDOM, SPATIAL, TRAINING, epoch_axis, plain_decades
from outcrop.reporting.html import chart, svg

_SMALL = (2.7, 2.2)
_WIDER = (3.9, 2.6)
_COLOURS = (SPATIAL, RANDOM, TRAINING)
_DASHES: tuple[Any, ...] = ("-", (0, (4, 2)), (0, (1, 1.3)))
_DASHES_IN_WORDS = ("", " (dashed)", " (dotted)")
_MARK = "#6d7984"
_FEW = 30


@dataclass(frozen=True)
class Curves:
    """A chart, and what its lines are.

    Attributes:
        picture: the chart.
        legend: name and colour of each line; empty if there is one alone.
    """

    picture: Markup
    legend: tuple[tuple[str, str], ...] = ()


def loss_charts(run: VaeGanRun) -> list[Curves]:
    """Prior, likeness, and how discriminator and decoder did against each other."""
    metrics = run.metrics
    alike = "features" if run.model.network.has_discriminator else "pixels"
    return _there(
        curves(metrics, "prior", "nats", {"": "prior"}, from_zero=True),
        curves(
            metrics, f"likeness, {alike}", "squared distance / 2", {"": "likeness"}, from_zero=True
        ),
        curves(
            metrics,
            "losses of the GAN",
            "nats",
            {"discriminator": "discriminator", "decoder": "decoder"},
        ),
        curves(
            metrics,
            "the discriminator is right of",
            "% of the pictures",
            {
                "real": "right_of_real",
                "reconstructed": "right_of_reconstructed",
                "sampled": "right_of_sampled",
            },
            mark=0.5,
            percent=True,
        ),
    )


def measure_charts(run: VaeGanRun) -> list[Curves]:
    """What was measured of reconstructions and samples."""
    metrics = run.metrics
    return _there(
        curves(
            metrics,
            "error of reconstructions",
            "of another picture",
            {"pixels": "pixel_error", "features": "feature_error"},
            mark=0.5,
            from_zero=True,
        ),
        curves(metrics, "Fréchet distance, no FID", "", {"": "frechet"}, from_zero=True),
        curves(
            metrics,
            "precision and recall",
            "%",
            {"precision": "precision", "recall": "recall"},
            percent=True,
        ),
        curves(metrics, "samples that repeat", "%", {"": "repeats"}, percent=True),
    )


def code_charts(run: VaeGanRun) -> list[Markup]:
    """What each dimension of the code says in the end, and how many do, by epoch."""
    last = run.metrics[-1]
    if not last.divergence:
        return []
    awake = curves(
        run.metrics,
        f"dimensions awake, of {len(last.divergence)}",
        "dimensions",
        {"": "awake"},
        from_zero=True,
        inches=_WIDER,
    )
    return [divergence_chart(last.divergence), *([awake.picture] if awake else [])]


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
    """Values by epoch, with gaps where one is missing; None where all are.

    Args:
        unit: of the values.
        lines: for each its name in the legend, and that of the metric.
        mark: a value that is marked.
        percent: whether the values are shares.
        from_zero: whether the axis begins at 0; then a few wild epochs do not press it flat.
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
    """How much each dimension of a code says, the most talkative first.

    Args:
        divergence: of each dimension from the prior, in nats.
    """
    ordered = np.sort(divergence)[::-1]
    rank = np.arange(1, len(ordered) + 1)
    says = ordered > ASLEEP
    with chart("what each dimension says, in the last epoch", _WIDER) as (figure, axes):
        axes.axhline(ASLEEP, color=_MARK, lw=1, ls=(0, (2, 2)), zorder=1)
        shown = np.maximum(ordered, ASLEEP / 100)
        for which, colour in ((says, SPATIAL), (~says, TRAINING)):
            axes.plot(rank[which], shown[which], "o", color=colour, ms=3.5 if len(rank) < 65 else 2)
        axes.set_yscale("log")
        plain_decades(axes.yaxis)
        axes.set_ylim(min(ASLEEP / 2, shown.min() / 1.5), 2 * max(ASLEEP, shown.max()))
        axes.set_xlim(0.5, max(2, len(ordered)) + 0.5)
        _whole_numbers(axes)
        axes.set_xlabel("dimensions, sorted")
        axes.set_ylabel("nats")
    return svg(figure, f"{says.sum()} of {len(says)} dimensions say more than {ASLEEP} nats")


def _top(values: Sequence[float]) -> float:
    """The upper end of an axis from 0: of nearly all values, if the others are far above."""
    known = np.array(values)[~np.isnan(values)]
    return float(1.05 * min(known.max(), 2 * np.percentile(known, 95))) or 1.0


def _there(*charts: Curves | None) -> list[Curves]:
    return [one for one in charts if one is not None]


def _whole_numbers(axes: Any) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
