"""Draw the figures of the benchmark pages: `python docs/benchmarks/figures.py`.

Every number comes from a file `benchmarks/*.jsonl` or from a table of the page that shows the
figure. The SVG names a fingerprint of these numbers, so a test can tell when it has to be redrawn.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter

HERE = Path(__file__).parent
LINES = HERE.parent.parent / "benchmarks"
# Okabe and Ito's colours, which colour-blind readers can tell apart.
BLUE, ORANGE, SKY, GREEN, GREY = "#0072b2", "#e69f00", "#56b4e9", "#009e73", "#6b747c"
WIDTH = 7.5  # inches: 720 px on a page
Rows = list[list[Any]]


def main() -> None:
    """Write all figures beside this file."""
    mpl.rcParams.update(
        {
            "font.size": 10,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.axisbelow": True,
            "grid.color": "#e2e7ec",
            "svg.hashsalt": "outcrop",
        }
    )
    for name, (numbers, draw) in FIGURES.items():
        rows = numbers()
        figure = draw(rows)
        said = {"Date": None, "Creator": None, "Description": fingerprint(rows)}
        figure.savefig(HERE / f"{name}.svg", metadata=said)
        plt.close(figure)


def fingerprint(rows: Rows) -> str:
    """What changes when the numbers of a figure change."""
    return "numbers " + hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:16]


def lines(name: str) -> list[dict[str, Any]]:
    """The lines of a benchmark."""
    text = (LINES / f"{name}.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def table(page: str, first: str) -> list[list[str]]:
    """The rows of the table of a page whose header begins with a text."""
    text = (HERE / f"{page}.md").read_text(encoding="utf-8")
    found = re.search(rf"^\| {re.escape(first)}.*\n\|[-| ]+\n((?:\|.*\n)+)", text, re.M)
    if found is None:
        raise ValueError(f"{page}.md has no table that begins with {first!r}")
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in found[1].splitlines()]


def value(cell: str) -> float:
    """The first number of a cell."""
    found = re.search(r"[-+]?\d[\d,]*\.?\d*", cell)
    if found is None:
        raise ValueError(f"no number in {cell!r}")
    return float(found[0].replace(",", ""))


def spread(cell: str) -> list[float]:
    """Value, low and high of a cell such as `+1.5 [-1.9, +5.0]`."""
    return [float(one) for one in re.findall(r"[-+]?\d+\.?\d*", cell)]


def rows_of(height: float, names: list[str], label: str) -> tuple[Figure, Axes]:
    """A figure with a named row for each line of a chart, the first on top."""
    figure, axes = plt.subplots(figsize=(WIDTH, height), layout="constrained")
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xlabel(label)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.grid(axis="x")
    return figure, axes


def key(axes: Axes, *entries: tuple[str, str, str], **how: Any) -> None:
    """A legend above the chart, of markers, colours and what they mean."""
    handles = [
        Line2D(
            [], [], color=colour, marker=marker, linestyle="none", markersize=7, label=text,
            markerfacecolor="none" if "weaker" in text else colour, markeredgewidth=1.5,
        )
        for marker, colour, text in entries
    ]  # fmt: skip
    axes.figure.legend(
        handles=handles, loc="outside upper left", ncols=len(entries), frameon=False,
        handletextpad=0.3, **how,
    )  # fmt: skip


def scene_differences() -> Rows:
    """Scene, verdict, and the network minus the best classical model in points."""
    found = [
        [line["scene"], line["against"]["verdict"], *(100 * x for x in line["against"]["points"])]
        for line in lines("real_ground")
    ]
    return sorted(found, key=lambda row: -row[2])


def real_scenes(rows: Rows) -> Figure:
    """Differences and their intervals, one row per scene."""
    label = "balanced accuracy of the network minus the best classical model, points"
    figure, axes = rows_of(4.3, [row[0] for row in rows], label)
    axes.axvline(0, color="black", linewidth=1)
    for at, (_, verdict, difference, low, high) in enumerate(rows):
        shown = verdict == "better"
        axes.plot([low, high], [at, at], color=BLUE if shown else GREY, linewidth=2)
        axes.plot(difference, at, "o" if shown else "D", color=BLUE if shown else GREY)
    key(axes, ("o", BLUE, "network shown to be better"), ("D", GREY, "no difference shown"))
    return figure


def forest_gaps() -> Rows:
    """Scene, overall accuracy with interval under spatial folds, and under random folds, in %."""
    forests = [one for one in lines("leak_gaps") if "forest" in one["model"]]
    return [
        [one["scene"], *(100 * x for x in one["spatial"]), 100 * one["random"][0]]
        for one in sorted(forests, key=lambda one: -one["gap"][0])
    ]


def leak_gaps(rows: Rows) -> Figure:
    """Accuracy under spatial and random folds, one row per scene, largest gap on top."""
    figure, axes = rows_of(4.3, [row[0] for row in rows], "overall accuracy, %")
    for at, (_, spatial, low, high, random) in enumerate(rows):
        axes.plot([low, high], [at, at], color="#b9d3e6", linewidth=7, solid_capstyle="butt")
        axes.plot([spatial, random], [at, at], color=GREY, linewidth=1)
        axes.plot(spatial, at, "o", color=BLUE)
        axes.plot(random, at, "D", color=ORANGE, markeredgecolor="#8a5a00")
    axes.set_xlim(0, 102)
    key(axes, ("o", BLUE, "spatial folds"), ("D", ORANGE, "random folds"))
    return figure


def map_speeds() -> Rows:
    """What is mapped, how, and pixels per second."""
    dense, padded, whole = (value(row[1]) for row in table("maps", "way | pixels/s | dense"))
    forest = {line["way"]: line["pixels_per_second"] for line in lines("forest_map")}
    compiled = forest["compiled, read and written by tiles"]
    return [
        ["ResNet-20", "outcrop, dense", dense],
        ["ResNet-20", "PyTorch, patches of 32 × 32", padded],
        ["ResNet-20", "PyTorch, patches of 109 × 109", whole],
        ["random forest", "outcrop, compiled, by tiles", compiled],
        ["random forest", "scikit-learn, in memory", forest["scikit-learn, in memory"]],
        ["random forest", "OTB", forest["OTB"]],
    ]  # fmt: skip


def maps(rows: Rows) -> Figure:
    """Pixels per second, logarithmic."""
    names = [f"{what}: {how}" for what, how, _ in rows]
    figure, axes = rows_of(2.9, names, "pixels per second on two cores (logarithmic)")
    for at, (_, how, speed) in enumerate(rows):
        ours = how.startswith("outcrop")
        axes.plot(speed, at, "o" if ours else "D", color=BLUE if ours else GREY, markersize=8)
        axes.annotate(
            f"{speed:,.0f}", (speed, at), xytext=(9, 0), textcoords="offset points", va="center"
        )
    axes.set_xscale("log")
    axes.set_xlim(300, 4e6)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.0f}"))
    axes.axhline(2.5, color=GREY, linewidth=0.6)
    return figure


def speeds() -> Rows:
    """Network and machine, loop, and median, least and greatest multiple of the plain loop."""
    names = {"resnet20": "ResNet-20", "resnet110": "ResNet-110", "ror3-110": "RoR-3-ResNet-110",
             "resnet110-sd": "ResNet-110 + stochastic depth"}  # fmt: skip
    found: dict[tuple[str, str], list[float]] = {}
    for line in lines("throughput"):
        where = "H100" if "H100" in line["machine"] else "two cores"
        for loop, speed in line["speeds"].items():
            if loop != "plain loop":
                row = (f"{names[line['network']]}, {where}", loop)
                found.setdefault(row, []).append(speed / line["speeds"]["plain loop"])
    return [[*row, median(of), min(of), max(of)] for row, of in found.items()]


def training(rows: Rows) -> Figure:
    """Multiples of the plain loop, one row per network and machine."""
    names = list(dict.fromkeys(row[0] for row in rows))
    figure, axes = rows_of(3.1, names, "images per second, as a multiple of the plain loop")
    for name, loop, middle, low, high in rows:
        auto = loop == "ours, auto"
        colour, at = (BLUE, names.index(name)) if auto else (ORANGE, names.index(name))
        axes.plot([low, high], [at, at], color=colour, linewidth=3)
        axes.plot(middle, at, "o" if auto else "s", color=colour, markersize=7)
        axes.annotate(
            f"{middle:.2f}", (high if auto else low, at), xytext=(7 if auto else -7, 0),
            textcoords="offset points", ha="left" if auto else "right", va="center", fontsize=9,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.8},
        )  # fmt: skip
    axes.axvline(1, color="black", linewidth=1, zorder=0)
    axes.set_xlim(0, 9.2)
    key(
        axes, ("|", "black", "plain loop"), ("s", ORANGE, "outcrop, float32"),
        ("o", BLUE, "outcrop, automatic precision (bfloat16)"),
    )  # fmt: skip
    return figure


def changes() -> Rows:
    """What was changed in the recipe of 602 layers, and the accuracy in %."""
    named = {"the recipe": "the recipe as published", "blocks begin at zero": "--zero-init",
             "pre-activation": "--order pre-activation",
             "blocks begin at zero + dropped blocks decay too":
             "--zero-init, dropped blocks decay too",
             "drawn for each picture": "blocks dropped image by image"}  # fmt: skip
    found = [
        [named.get(line["change"], line["change"]), line["accuracy"]]
        for line in lines("depth")
        if line["depth"] == 602 and line["seed"] == 0
    ]
    return sorted(found, key=lambda row: -row[1])


def deep_networks(rows: Rows) -> Figure:
    """Accuracy by change of the recipe."""
    figure, axes = rows_of(3.5, [row[0] for row in rows], "accuracy after 4 epochs, %")
    for at, (_, accuracy) in enumerate(rows):
        learns = accuracy > 20
        axes.plot(accuracy, at, "o" if learns else "D", color=BLUE if learns else GREY)
        axes.annotate(
            f"{accuracy:.2f}", (accuracy, at), xytext=(8 if accuracy > 10 else -8, 0),
            textcoords="offset points", ha="left" if accuracy > 10 else "right", va="center",
            fontsize=9,
        )  # fmt: skip
    axes.axvline(10, color="black", linewidth=1, linestyle="--")
    axes.annotate("chance", (10, -0.5), xytext=(4, 0), textcoords="offset points", va="top")
    axes.set_xlim(0, 55)
    return figure


def rare_gains() -> Rows:
    """How patches were kept, what was added, and the gain in F1 in points."""
    text = (HERE / "generated-patches.md").read_text(encoding="utf-8")
    tables = re.findall(r"^\| difference, points.*\n\|[-| ]+\n((?:\|.*\n)+)", text, re.M)
    rows: Rows = []
    for kept, body in zip(("kept at random", "kept in few places"), tables, strict=True):
        for line in body.splitlines():
            name, cell = (one.strip() for one in line.strip("|").split("|")[:2])
            rows.append([kept, name.replace(" - ", " minus "), *spread(cell)])
    return rows


def generated_patches(rows: Rows) -> Figure:
    """Gains in F1, both ways of making classes rare."""
    names = list(dict.fromkeys(row[1] for row in rows))
    figure, axes = rows_of(2.7, names, "difference in F1 of the rare classes, points")
    for kept, name, difference, low, high in rows:
        random = kept == "kept at random"
        at, colour = names.index(name) + (-0.14 if random else 0.14), BLUE if random else ORANGE
        axes.plot([low, high], [at, at], color=colour, linewidth=2)
        axes.plot(difference, at, "o" if random else "D", color=colour)
    axes.axvline(0, color="black", linewidth=1)
    key(
        axes, ("o", BLUE, "patches kept at random"), ("D", ORANGE, "patches kept in few places"),
    )  # fmt: skip
    return figure


def faults() -> Rows:
    """Fault, whether it is stated to be found, share found in %, and strength."""
    return [
        [row[0], row[3] == "yes", 100 * value(row[4]) / float(row[4].split(" of ")[1]), row[2]]
        for row in table("audit", "planted fault | severity")
    ]


def audit(rows: Rows) -> Figure:
    """Share of planted faults found, by fault; weaker strengths with their name."""
    names = list(dict.fromkeys(row[0] for row in rows))
    figure, axes = rows_of(5.2, names, "found, % of 24 patch sets")
    for name, stated, share, strength in rows:
        at = names.index(name)
        if stated:
            axes.plot(share, at, "o", color=BLUE, markersize=6)
        else:
            axes.plot(share, at, "D", color=ORANGE, markerfacecolor="none", markersize=9,
                      markeredgewidth=1.8)  # fmt: skip
            left = share > 50
            axes.annotate(
                strength, (share, at), xytext=(-11 if left else 11, 0), textcoords="offset points",
                ha="right" if left else "left", va="center", fontsize=8.5,
            )  # fmt: skip
    axes.set_xlim(-3, 103)
    key(
        axes, ("o", BLUE, "stated strengths"), ("D", ORANGE, "weaker, with its strength"),
    )  # fmt: skip
    return figure


def alarms() -> Rows:
    """Worlds, and the share of false alarms of three tests in %."""
    return [[row[0], *map(value, row[1:])] for row in table("statistics", "worlds | `outcrop")]


def statistics(rows: Rows) -> Figure:
    """False alarms of three tests, one row per kind of worlds."""
    names = [row[0] for row in rows]
    figure, axes = rows_of(4.3, names, "equally good models called different, % of worlds")
    tests = (("o", BLUE, "outcrop compare"), ("s", GREEN, "intervals of pairs"),
             ("D", ORANGE, "McNemar's test"))  # fmt: skip
    for at, (_, *shares) in enumerate(rows):
        axes.plot([min(shares), max(shares)], [at, at], color="#c5ccd3", linewidth=1, zorder=1)
        for share, (marker, colour, _) in reversed(list(zip(shares, tests, strict=True))):
            axes.plot(share, at, marker, color=colour, markersize=7)
    axes.axvline(5, color="black", linewidth=1, linestyle="--", zorder=0)
    axes.set_xlim(0, 100)
    key(axes, *tests)
    return figure


RESULTS = ("exact", "exact, ambiguous", "elsewhere, ambiguous", "not found", "elsewhere, believed")


def places() -> Rows:
    """Change, patches, and how many of them have each result, over all sources."""
    found: dict[str, list[int]] = {}
    for row in table("locating", "source | change"):
        counts = found.setdefault(row[1], [0] * 6)
        for k, cell in enumerate(row[2:8]):
            counts[k] += int(cell)
    return [[change, *counts] for change, counts in found.items()]


def locating(rows: Rows) -> Figure:
    """Shares of results, one bar per change."""
    figure, axes = rows_of(4.1, [row[0] for row in rows], "share of the patches, %")
    colours = (BLUE, SKY, ORANGE, "#d5dade", "black")
    for at, (_, patches, *counts) in enumerate(rows):
        left = 0.0
        for count, colour in zip(counts, colours, strict=True):
            axes.barh(at, 100 * count / patches, left=left, color=colour, height=0.7)
            left += 100 * count / patches
    axes.set_xlim(0, 100)
    axes.grid(visible=False)
    shown = [("s", colour, text) for colour, text in zip(colours, RESULTS, strict=True)]
    key(axes, *shown, fontsize=8.5, columnspacing=1.0)
    return figure


def curves() -> Rows:
    """Panel, run, and test accuracy after each epoch in %."""
    ours = [
        ["left" if one["epochs"] == 6 else "right", f"{one['name']}, {one['epochs']}", one["curve"]]
        for one in lines("results")
        if one.get("curve")
    ]
    plain = [
        ["left", "plain loop", one["accuracy"]] for one in lines("plain") if one["epochs"] == 6
    ]
    return ours + plain


def published_recipes(rows: Rows) -> Figure:
    """Accuracy by epoch: against the plain loop, and the longer runs."""
    figure, panels = plt.subplots(
        1, 2, figsize=(WIDTH, 3.2), width_ratios=(1, 1.4), layout="constrained"
    )
    styles = {
        "resnet20, 6": (BLUE, "-", "outcrop"),
        "plain loop": (ORANGE, "--", "plain loop, 3 seeds"),
        "fast, 20": (GREEN, "--", "fast, 20 epochs"),
        "resnet20, 50": (BLUE, "-", "ResNet-20, 50 epochs"),
    }
    drawn = set()
    for panel, run, accuracy in rows:
        colour, line, text = styles[run]
        panels[int(panel == "right")].plot(
            range(1, len(accuracy) + 1), accuracy, line, color=colour,
            label=None if run in drawn else text,
        )  # fmt: skip
        drawn.add(run)
    for axes in panels:
        axes.set_ylim(40, 92)
        axes.set_xlabel("epoch")
        axes.grid(visible=True)
        axes.legend(loc="lower right", frameon=False, fontsize=9)
    panels[0].set_ylabel("test accuracy, %")
    return figure


Drawing = tuple[Callable[[], Rows], Callable[[Rows], Figure]]
FIGURES: dict[str, Drawing] = {
    "real-scenes": (scene_differences, real_scenes),
    "leak-gaps": (forest_gaps, leak_gaps),
    "maps": (map_speeds, maps),
    "training": (speeds, training),
    "deep-networks": (changes, deep_networks),
    "generated-patches": (rare_gains, generated_patches),
    "audit": (faults, audit),
    "statistics": (alarms, statistics),
    "locating": (places, locating),
    "published-recipes": (curves, published_recipes),
}


if __name__ == "__main__":
    main()
