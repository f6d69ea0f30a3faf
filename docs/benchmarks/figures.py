"""Draw the figures of the benchmark pages: `python docs/benchmarks/figures.py`."""

from __future__ import annotations

import json
from pathlib import Path

import matplotlib.pyplot as plt

HERE = Path(__file__).parent
RESULTS = HERE.parent.parent / "benchmarks"


def leak_gaps() -> None:
    """Accuracy of a random forest under spatial and random folds, one row per scene."""
    lines = [json.loads(line) for line in (RESULTS / "leak_gaps.jsonl").open()]
    forests = sorted((one for one in lines if "forest" in one["model"]), key=lambda o: o["gap"][0])
    figure, axes = plt.subplots(figsize=(7.5, 4.2), layout="constrained")
    for row, one in enumerate(forests):
        value, low, high = (100 * x for x in one["spatial"])
        axes.plot([low, high], [row, row], color="#9db7cc", linewidth=6, solid_capstyle="butt")
        axes.plot([value, 100 * one["random"][0]], [row, row], color="#555555", linewidth=1)
        axes.plot(value, row, "o", color="#1b5e8c", label="spatial folds" if row == 0 else None)
        axes.plot(
            100 * one["random"][0], row, "D", color="#c44e1c",
            label="random folds" if row == 0 else None,
        )  # fmt: skip
    axes.set_yticks(range(len(forests)), [one["scene"] for one in forests])
    axes.set_xlabel("overall accuracy, %; bars: 95 % intervals of the spatial folds")
    axes.set_xlim(0, 102)
    axes.grid(axis="x", color="#e2e7ec")
    axes.set_axisbelow(True)
    axes.legend(loc="lower left", frameon=False)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    figure.savefig(HERE / "leak-gaps.svg", metadata={"Date": None})


if __name__ == "__main__":
    plt.rcParams["svg.hashsalt"] = "outcrop"
    leak_gaps()
