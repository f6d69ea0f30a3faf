"""Tables that commands print."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from rich.markup import escape
from rich.table import Table

from outcrop.accuracy.allocation import SamplePlan
from outcrop.accuracy.assessment import Assessment
from outcrop.auditing.audit import Audit
from outcrop.cli.console import console, say, table_of
from outcrop.metrics.intervals import FEW_GROUPS, Interval
from outcrop.metrics.scores import Scores
from outcrop.metrics.significance import written
from outcrop.models.architectures import NETWORKS, ResidualNet
from outcrop.models.cost import cost_of, short
from outcrop.patches.patchset import PatchSet
from outcrop.sources.features import dropped_text
from outcrop.splits import BUFFER, SIDES, TRAIN, VALIDATION, Folds, Split, read_split
from outcrop.training.run import Run
from outcrop.workflow.comparison import Comparison
from outcrop.workflow.evaluate import Evaluation
from outcrop.workflow.published import COLUMNS, Published, Result, figures, notes, tabulate

_LARGE = 64
_READABLE = 100


def class_table(patches: PatchSet, path: Path) -> None:
    """Patches of each class, and dropped labels."""
    counted = zip(patches.classes, patches.counts, strict=True)
    rows = [(name, f"{n:,}", f"{100 * n / len(patches):.1f} %") for name, n in counted]
    say_table(("class", "patches", "share"), rows)
    for reason, count in patches.dropped.items():
        dropped = dropped_text(reason, count)
        say(f"dropped {dropped.replace('pixels', 'voxels') if patches.from_volume else dropped}")
    height, width = patches.size
    if not patches.from_volume and patches.crs is None:
        say("the scenes are far apart: distances are measured in one system per group of scenes")
    elif patches.crs is not None and all(source.crs != patches.crs for source in patches.sources):
        from pyproj import CRS

        say(f"distances are measured in {CRS.from_wkt(patches.crs).name}")
    say(f"{path}: {len(patches):,} patches of {len(patches.bands)} × {height} × {width}")


def split_table(patches: PatchSet, split: Split, path: Path) -> None:
    """Patches of each class and side, and classes that are missing on a side."""
    counts = split.counts(patches.labels, len(patches.classes))
    used = [side for side in range(len(SIDES)) if counts[side].any()]
    table = table_of("class", *(SIDES[side] for side in used))
    for k, name in enumerate(patches.classes):
        table.add_row(name, *(f"{counts[side, k]:,}" for side in used))
    table.add_row("all", *(f"{counts[side].sum():,}" for side in used), style="bold")
    console.print(table)
    say(", ".join(f"{key}: {value}" for key, value in split.how.items()))
    for warning in split.warnings(patches):
        say(f"note: {warning}")
    say(str(path))


def fold_table(patches: PatchSet, folds: Folds, path: Path) -> None:
    """Held-out patches of each class and fold, and the size of each training side."""
    labels, classes = patches.labels, len(patches.classes)
    counts = folds.counts(labels, classes)
    scored = np.bincount(labels[folds.scored(labels)], minlength=classes)
    names = [f"fold {number}" for number in range(len(folds))]
    table = table_of("held out", *names, "all", "scored", "spatial groups")
    for k, name in enumerate(patches.classes):
        held = counts[:, VALIDATION, k]
        pieces = len(np.unique(folds.groups[labels == k]))
        table.add_row(escape(name), *(f"{n:,}" for n in (*held, held.sum(), scored[k], pieces)))
    for side, word in ((VALIDATION, "all"), (TRAIN, "trains on"), (BUFFER, "buffer")):
        row = counts[:, side].sum(axis=1)
        more = (row.sum(), scored.sum(), len(np.unique(folds.groups)))
        rest = [f"{n:,}" for n in more] if side == VALIDATION else []
        table.add_row(word, *(f"{n:,}" for n in row), *rest, style="bold")
    console.print(table)
    say(", ".join(f"{key}: {value}" for key, value in folds.how.items()))
    for note in folds.notes(patches):
        say(f"note: {note}")
    say(str(path))


def finding_table(audit: Audit) -> None:
    """One row per finding: severity, check, finding, remedy."""
    colours = {"critical": "bold red", "warning": "yellow", "note": "dim"}
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name, ratio in (("severity", None), ("check", None), ("found", 3), ("remedy", 2)):
        table.add_column(name, ratio=ratio, overflow="fold")
    for one in audit.findings:
        row = one.severity, one.check, one.title, one.remedy
        table.add_row(*map(escape, row), style=colours[one.severity])
    # Sentences are wrapped, also in a pipe: very wide columns are hard to read.
    console.print(table, width=min(console.width, _READABLE), soft_wrap=False)
    say(audit.summary)


def say_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table on standard output."""
    table = table_of(*columns)
    for row in rows:
        table.add_row(*map(escape, row))
    console.print(table)


def score_table(scores: Scores, kind: str) -> None:
    """Precision, recall and F1 of every class, with intervals.

    Args:
        kind: kind of the score, such as "one spatial fold".
    """
    patches = [f"{count:,}" for count in scores.confusion.sum(axis=1)]
    measures = (map(str, measure) for measure in (scores.precision, scores.recall, scores.f1))
    rows = list(zip(scores.classes, patches, *measures, strict=True))
    say_table(("class", "patches", "precision", "recall", "F1"), rows)
    say(f"overall accuracy   {scores.overall}")
    say(f"balanced accuracy  {scores.balanced}")
    say(f"95 % intervals from {scores.groups:,} spatial groups")
    say(f"score: {kind}")


def sample_table(plan: SamplePlan, path: Path) -> None:
    """Points of each map class, and the expected standard errors."""
    table = table_of("class", "pixels", "share", "points", "expected", "standard error")
    error = plan.users_error
    for k, name in enumerate(plan.classes):
        share = plan.share[k]
        table.add_row(
            escape(name), f"{plan.pixels[k]:,}", f"{100 * share:.2f} %", f"{plan.points[k]:,.0f}",
            _percent(plan.expected[k]), _percent(error[k]),
        )  # fmt: skip
    console.print(table)
    most = "at most " if plan.is_worst_case else ""
    say(f"standard error of the overall accuracy: {most}{_percent(plan.overall_error)}, all in %")
    if plan.is_worst_case:
        say("classes without an expected accuracy use 50 %, the worst case")
    if plan.simple:
        say("simple random sample: the numbers of points by class are expectations")
    say(f"{path}: {plan.points.sum():,.0f} points; fill the column class, then `outcrop assess`")


def assessment_table(found: Assessment) -> None:
    """Error matrix in counts and in area, accuracy and area of each class, design, estimator."""
    accuracy, names = found.accuracy, [escape(name) for name in found.classes]
    table = table_of(f"{found.units}: map, then reference", *names)
    for name, row in zip(names, found.counts, strict=True):
        table.add_row(name, *(f"{count:,}" for count in row))
    console.print(table)
    table = table_of("% of the area", *names)
    for name, shares in zip(names, accuracy.proportions, strict=True):
        table.add_row(name, *(f"{100 * share:.2f}".replace("nan", "–") for share in shares))
    console.print(table)
    unit, whole = found.unit, found.whole
    table = table_of("class", "user's", "producer's", f"map, {unit}", f"area, {unit}")
    for k, name in enumerate(names):
        table.add_row(
            name, str(accuracy.users[k]), str(accuracy.producers[k]), f"{found.mapped[k]:,.0f}",
            accuracy.area[k].scaled(whole),
        )  # fmt: skip
    console.print(table)
    say(f"overall accuracy {accuracy.overall}; accuracies in %")
    say(f"design: {found.design}")
    say(f"estimator: {found.estimator}")
    for note in found.notes:
        say(f"note: {note}")


def evaluation_table(evaluation: Evaluation, kind: str) -> None:
    """Scores on other patches, calibration, and accuracy inside and outside the applicable area.

    Args:
        kind: kind of the score, such as "one spatial fold".
    """
    score_table(evaluation.scores, kind)
    found, applicability = evaluation.reliability, evaluation.applicability
    accuracy = evaluation.scores.overall.value
    say(
        f"mean confidence    {100 * (accuracy + found.excess.value):.1f} %, "
        f"{in_points(found.excess)} points above the accuracy; "
        f"expected calibration error {100 * found.error:.1f} %"
    )
    if applicability is None:
        say("area of applicability      none: the run is of an older version; train it again")
        return
    say(f"outside the area of applicability  {applicability.outside} of the patches")
    say(f"accuracy inside    {applicability.accuracy_inside}")
    say(f"accuracy outside   {applicability.accuracy_outside}")


def cost_table(
    networks: Sequence[ResidualNet], bands: int, size: tuple[int, int], classes: int
) -> None:
    """One row per network: parameters, and the cost of one image."""
    names = {network: name for name, network in NETWORKS.items()}
    table = table_of(
        "name", "network", "parameters", "multiply-adds", "activations", "saving", "footprint"
    )
    table.columns[1].justify = "left"
    for network in networks:
        cost = cost_of(network, bands, size, classes)
        table.add_row(
            names.get(network, ""), network.title, short(cost.parameters),
            short(cost.multiply_adds), short(cost.activations, 1024),
            f"{100 * cost.expected_saving:.1f} %" if cost.expected_saving else "",
            str(network.footprint),
        )  # fmt: skip
    console.print(table)
    height, width = size
    say(f"multiply-adds and activations: forward pass of one image, {bands} × {height} × {width}")
    say("activations: memory that training needs for the gradients of one image, in float32")
    say("saving: expected share of the multiply-adds that stochastic depth skips in training")
    say("footprint: receptive field in pixels; the smallest patch for --padding none")
    first = networks[0]
    if max(size) >= _LARGE and first.stem == "small":
        small, large = (
            short(cost_of(network, bands, size, classes).multiply_adds)
            for network in (first, replace(first, stem="large"))
        )
        say(f"note: with --stem large {first.title} needs {large} multiply-adds instead of {small}")


def run_table(run: Run) -> None:
    """Scores of a run on its validation side."""
    split = read_split(run.folder / "split.json")
    kept = "; the test side is not used" if len(split.test) else ""
    score_table(run.scores, f"{Folds((split,)).kind}, its validation side{kept}")
    say(str(run.folder))


def comparison_table(comparison: Comparison) -> None:
    """Accuracies of all models, F1 by class, and tests of the best model against the others."""
    seeds = max(len(row.seeds) for row in comparison.rows)
    over = [f"over {seeds} seeds"] if seeds > 1 else []
    leak = ["leak gap"] if any(row.gap for row in comparison.rows) else []
    table = table_of("model", "sees", "overall", "balanced", *over, *leak, "seconds", "")
    for row in comparison.rows:
        table.add_row(
            row.model, row.features, str(row.scores.overall), str(row.scores.balanced),
            *[_range(row.each)] * len(over),
            *["" if row.gap is None else in_points(row.gap)] * len(leak),
            f"{row.seconds:.1f}", "leading" if row in comparison.leaders else "",
        )  # fmt: skip
    console.print(table)
    f1 = [(row.title, *(_percent(one.value) for one in row.scores.f1)) for row in comparison.rows]
    say_table(("F1 by class", *comparison.classes), f1)
    scored = comparison.counts[VALIDATION].sum()
    say(f"score: {comparison.kind}, {scored:,} held-out patches")
    say("overall and balanced: accuracy in held-out areas, in %, with 95 % intervals")
    if over:
        say("over seeds: lowest and highest balanced accuracy; other scores are means over seeds")
    if leak:
        say(
            "leak gap: overall accuracy under a random split minus under this split, in points; a "
            "lower bound, because new areas are farther from the training patches"
        )
    if comparison.pairwise_tests:
        _pairwise_table(comparison)
    groups = comparison.rows[0].scores.groups
    if groups < FEW_GROUPS:
        say(
            f"note: {groups} spatial groups; the coverage of the intervals was not verified for "
            f"fewer than {FEW_GROUPS}"
        )
    for caution in (*comparison.notes, *comparison.cautions):
        say(f"note: {caution}")
    say(comparison.recommendation)


def _pairwise_table(comparison: Comparison) -> None:
    best = comparison.rows[0].title
    table = table_of("against", "balanced", "p", "overall", "p", "McNemar's p", f"{best} is")
    for one in comparison.of_the_best:
        table.add_row(
            one.other,
            *(in_points(one.balanced.points), written(one.balanced.adjusted)),
            *(in_points(one.overall.points), written(one.overall.adjusted)),
            *(written(one.mcnemar.adjusted), one.verdict),
        )
    console.print(table)
    say(f"leading: not shown to be worse than {best} by balanced accuracy")
    say("against: differences in points with 95 % intervals from spatial groups and seeds")
    pairs = len(comparison.pairwise_tests)
    say(f"p: after Holm's correction for {pairs} pairs; a difference is shown if p is below 0.05")
    say("McNemar's p: of the first seeds; it treats patches of one spatial group as independent")


def recipe_table(recipes: Sequence[Published]) -> None:
    """One row per recipe, with its published accuracies."""
    table = table_of("recipe", "epochs", "paper", "report", "source")
    table.columns[-1].justify = "left"
    for one in recipes:
        table.add_row(
            one.name, str(one.recipe.epochs), figures(one.paper), figures(*one.report), one.source
        )
    console.print(table)
    say("paper: test accuracy on CIFAR-10 in %, with flips and crops")
    say("report: the same in the report that outcrop is based on")


def result_table(results: Sequence[Result]) -> None:
    """One row for all seeds of a recipe with the same settings, and explanations."""
    say_table(COLUMNS, tabulate(results))
    for note in notes(results):
        say(note)


def in_points(gap: Interval) -> str:
    """A difference of scores in points, with its 95 % interval if there is one."""
    if np.isnan(gap.low):
        return f"{100 * gap.value:+.1f}"
    return f"{100 * gap.value:+.1f} [{100 * gap.low:+.1f}, {100 * gap.high:+.1f}]"


def _range(values: Sequence[float]) -> str:
    return f"{100 * min(values):.1f} to {100 * max(values):.1f}" if len(values) > 1 else ""


def _percent(value: float) -> str:
    return "–" if np.isnan(value) else f"{100 * value:.1f}"
