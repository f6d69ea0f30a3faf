"""The figures of these pages: `python docs/explanation/figures.py` writes them beside this file.

They need no data. What they show is simulated here with a fixed random seed, or is a table of the
benchmarks, which is named.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from outcrop.metrics.calibration import fit_temperature, reliability, tempered
from outcrop.metrics.scores import score

HERE = Path(__file__).parent
# Okabe and Ito's colours, which colour-blind readers can tell apart.
BLUE, ORANGE, GREY, GREEN = "#0072b2", "#e69f00", "#8a939c", "#009e73"
BLOCK, BUFFER = 20, 4
SAVED = {"bbox_inches": "tight", "metadata": {"Date": None, "Creator": None}}


def main() -> None:
    """Write all figures."""
    mpl.rcParams.update(
        {
            "font.size": 9,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.titlesize": 9,
            "axes.titlelocation": "left",
            "svg.hashsalt": "outcrop",
        }
    )
    for name, draw in FIGURES.items():
        figure = draw()
        figure.savefig(HERE / f"{name}.svg", **SAVED)
        plt.close(figure)


def random_split() -> plt.Figure:
    """Random and spatial split of the same patches, and scores of the benchmark."""
    rng = np.random.default_rng(3)
    centres = rng.uniform(4, 96, (45, 2))
    at = np.concatenate([centre + rng.uniform(-3, 3, (12, 2)) for centre in centres])
    figure, axes = plt.subplots(1, 3, figsize=(9, 3.4), width_ratios=(1, 1, 0.9))
    chance = rng.random(len(at)) < 0.2
    _scatter(axes[0], at, chance, np.zeros(len(at), bool), "random split")
    cell = (at // BLOCK).astype(int)
    held = rng.permutation(25)[:5]
    validation = np.isin(cell[:, 0].clip(0, 4) * 5 + cell[:, 1].clip(0, 4), held)
    distance = np.abs(at[:, None] - at[None, validation]).max(axis=2).min(axis=1)
    left_out = ~validation & (distance < BUFFER)
    _scatter(axes[1], at, validation, left_out, "spatial split, blocks and buffer")
    for line in range(0, 101, BLOCK):
        axes[1].axhline(line, color=GREY, lw=0.6, zorder=0)
        axes[1].axvline(line, color=GREY, lw=0.6, zorder=0)
    # docs/benchmarks/leak-gaps.md, synthetic coasts: medians over three synthetic coasts, in %. The
    # median of the gaps is not the gap between the medians.
    models = ("SVM", "random forest", "maximum\nlikelihood", "ResNet-14")
    spatial, at_random = (83.1, 79.1, 77.2, 80.9), (97.0, 93.4, 90.5, 96.3)
    gaps = (13.9, 13.6, 12.9, 15.6)
    rows = np.arange(len(models))[::-1]
    axes[2].hlines(rows, spatial, at_random, color=GREY, lw=2, zorder=0)
    axes[2].scatter(spatial, rows, color=BLUE, zorder=2)
    axes[2].scatter(at_random, rows, color=ORANGE, marker="s", zorder=2)
    for row, low, high, gap in zip(rows, spatial, at_random, gaps, strict=True):
        middle = ((low + high) / 2, row + 0.12)
        axes[2].annotate(f"{gap} points", middle, ha="center", fontsize=8)
    axes[2].set_yticks(rows, models)
    axes[2].set_ylim(-0.4, len(models) - 0.2)
    axes[2].set_xlim(72, 100)
    axes[2].set_xlabel("overall accuracy, %")
    axes[2].set_title("the leak gap, measured")
    for x, word in ((spatial[0], "spatial"), (at_random[0], "random")):
        axes[2].annotate(word, (x, rows[0] + 0.45), ha="center", fontsize=8)
    figure.tight_layout()
    return figure


def _scatter(
    axes: Axes, at: np.ndarray, validation: np.ndarray, left_out: np.ndarray, title: str
) -> None:
    train = ~validation & ~left_out
    axes.scatter(*at[train].T, s=5, color=BLUE, label="training")
    axes.scatter(*at[validation].T, s=5, color=ORANGE, label="validation")
    if left_out.any():
        axes.scatter(*at[left_out].T, s=5, color=GREY, label="left out")
    axes.set(xlim=(0, 100), ylim=(0, 100), aspect="equal", xticks=[], yticks=[])
    axes.set_title(title)
    for side in axes.spines.values():
        side.set_visible(False)
    axes.legend(
        frameon=False, loc="upper center", bbox_to_anchor=(0.5, 0), ncols=3, fontsize=8,
        markerscale=2, handletextpad=0, columnspacing=0.8,
    )  # fmt: skip


def intervals() -> plt.Figure:
    """Intervals from patches and from blocks, of the same simulated predictions."""
    rng = np.random.default_rng(1)
    truth, blocks, each = 0.8, 12, 40
    figure, axes = plt.subplots(1, 2, figsize=(8, 3.1), sharey=True)
    groups = np.repeat(np.arange(blocks), each)
    found: list[list[tuple[float, float, float]]] = [[], []]
    for _ in range(25):
        # The accuracy differs from block to block: mean 0.8, standard deviation 0.16.
        accuracy = rng.beta(4.2, 1.05, blocks)
        right = rng.random(blocks * each) < accuracy[groups]
        labels = np.zeros(blocks * each, int)
        for k, given in enumerate((None, groups)):
            one = score(labels, 1 - right, ("right", "wrong"), given, draws=400).overall
            found[k].append((one.value, one.low, one.high))
    for k, title in enumerate(("each patch by itself", "whole blocks")):
        values, low, high = np.array(found[k]).T * 100
        missed = (low > 100 * truth) | (high < 100 * truth)
        for world in range(len(values)):
            colour = ORANGE if missed[world] else BLUE
            axes[k].plot([low[world], high[world]], [world, world], color=colour, lw=1.6)
        axes[k].scatter(values, range(len(values)), s=8, color="black", zorder=3)
        axes[k].axvline(100 * truth, color=GREY, lw=1, zorder=0)
        inside = len(values) - missed.sum()
        axes[k].set_title(f"{title}: {inside} of {len(values)} contain the truth")
        axes[k].set(xlabel="overall accuracy, %", yticks=[], xlim=(50, 100))
    axes[0].set_ylabel("25 simulated validation sets")
    figure.tight_layout()
    return figure


def padding() -> plt.Figure:
    """Two patches that share a pixel, with and without padding."""
    figure, axes = plt.subplots(1, 2, figsize=(8, 2.9))
    titles = ("zeros around each patch", "no padding")
    for k, title in enumerate(titles):
        for number, (left, colour, side) in enumerate(((0, BLUE, "left"), (3, ORANGE, "right"))):
            if k == 0:
                around = Rectangle((left - 1, -1), 11, 11, color=colour, alpha=0.18, lw=0)
                axes[k].add_patch(around)
                x = left - 0.5 if side == "left" else left + 9.5
                axes[k].annotate("zeros", (x, 4.5), color=colour, rotation=90, ha="center",
                                 va="center", fontsize=8)  # fmt: skip
            axes[k].add_patch(Rectangle((left, 0), 9, 9, fill=False, ec=colour, lw=2))
            x = left + (0.3 if side == "left" else 8.7)
            axes[k].annotate(f"patch {number + 1}", (x, 8), color=colour, ha=side)
        axes[k].add_patch(Rectangle((5.5, 4), 1, 1, color="black"))
        said = "two different results" if k == 0 else "one result for both"
        axes[k].annotate(said, (6, 3.6), ha="center", va="top", fontsize=8)
        axes[k].set(xlim=(-2, 14), ylim=(-1.5, 10.2), aspect="equal", xticks=[], yticks=[])
        axes[k].set_title(title)
        for side in axes[k].spines.values():
            side.set_visible(False)
    figure.tight_layout()
    return figure


def areas() -> plt.Figure:
    """Mapped, estimated and true areas: the numbers of the page on area estimates."""
    figure, axes = plt.subplots(figsize=(7, 2.9))
    rows = np.arange(len(AREAS))[::-1]
    mapped, estimate, margin, truth = np.array([one[1:] for one in AREAS]).T
    axes.errorbar(
        estimate,
        rows,
        xerr=margin,
        fmt="o",
        color=BLUE,
        capsize=3,
        label="estimated, 95 % interval",
    )
    axes.scatter(mapped, rows + 0.22, marker="s", color=ORANGE, label="pixels of the map")
    axes.scatter(truth, rows - 0.22, marker="|", s=120, color="black", label="truth")
    axes.set_yticks(rows, [one[0] for one in AREAS])
    axes.set_xlabel("area, ha")
    axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    figure.tight_layout()
    return figure


# class; map, estimate, 1.96 standard errors and truth in ha (see area-estimates.md).
AREAS = (
    ("aquaculture", 145, 212, 45, 232),
    ("built-up", 271, 75, 29, 90),
    ("mangrove", 194, 242, 40, 203),
    ("mudflat", 254, 114, 36, 101),
    ("rice field", 197, 366, 56, 388),
    ("water", 388, 440, 31, 436),
)


def calibration() -> plt.Figure:
    """Confidence and accuracy of a simulated model that is too sure, before and after."""
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 1.5, (6000, 4))
    true = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    truth = (true.cumsum(axis=1) < rng.random((len(true), 1))).sum(axis=1)
    sure = tempered(true, 0.5)
    half = len(truth) // 2
    temperature = fit_temperature(truth[:half], sure[:half])
    figure, axes = plt.subplots(1, 2, figsize=(7, 3.3), sharey=True)
    shown_as = {
        "as the model gives it": sure,
        f"temperature {temperature:.2f}": tempered(sure, temperature),
    }
    for k, (title, said) in enumerate(shown_as.items()):
        found = reliability(truth[half:], said[half:], bins=10, draws=200)
        shown = np.flatnonzero(found.counts >= 20)
        value = np.array([found.accuracy[b].value for b in shown])
        ends = np.array([(found.accuracy[b].low, found.accuracy[b].high) for b in shown]).T
        axes[k].plot([0, 100], [0, 100], "--", color=GREY, lw=1)
        axes[k].errorbar(
            100 * found.confidence[shown], 100 * value, yerr=100 * np.abs(ends - value),
            fmt="o-", color=BLUE, capsize=2, ms=4,
        )  # fmt: skip
        axes[k].set(xlim=(20, 102), ylim=(20, 102), aspect="equal", xlabel="confidence, %")
        axes[k].set_title(f"{title}: calibration error {100 * found.error:.1f} %")
    axes[0].set_ylabel("accuracy, %")
    figure.tight_layout()
    return figure


FIGURES = {
    "random-split": random_split,
    "intervals": intervals,
    "padding": padding,
    "areas": areas,
    "calibration": calibration,
}

if __name__ == "__main__":
    main()
