"""`Comparison`: scores and pairwise tests of several models, and its file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from outcrop.files import decoding, read_json, write_json
from outcrop.frames import Tabular, ends, frame
from outcrop.metrics.intervals import Interval
from outcrop.metrics.pairwise import PairwiseTest
from outcrop.metrics.scores import Scores

if TYPE_CHECKING:
    import pandas

_FORMAT, _VERSION = "outcrop comparison", 2
_FILE = "comparison.json"


@dataclass(frozen=True, eq=False)
class Row:
    """One model of a comparison.

    Attributes:
        model: name of the model.
        features: its features of a patch; "patch" for a network.
        scores: scores on the held-out patches over all seeds: accuracies are means over the seeds,
            the confusion matrix is their sum. Intervals are from the spatial groups only.
        random: the same under the random split; None if the split itself is random.
        gap: leak gap: overall accuracy under the random split minus that under the split.
        seconds: mean time over the seeds of tuning, training and prediction under the split, and
            of training its encoder.
        settings: settings that tuning selected, with the first seed.
        seeds: random seeds of the trainings.
        each: balanced accuracy of each seed.
        runs: folders of the trainings relative to that of the comparison; for a baseline, those of
            its encoder, or none.
    """

    model: str
    features: str
    scores: Scores
    random: Scores | None
    gap: Interval | None
    seconds: float
    settings: Mapping[str, Any]
    seeds: tuple[int, ...] = ()
    each: tuple[float, ...] = ()
    runs: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """Name of the model and its features."""
        return f"{self.model}, {self.features}"

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return vars(self) | {
            "scores": self.scores.to_json(),
            "random": self.random and self.random.to_json(),
            "gap": self.gap and self.gap.to_json(),
            "settings": dict(self.settings),
            "seeds": list(self.seeds),
            "each": list(self.each),
            "runs": list(self.runs),
        }


@dataclass(frozen=True, eq=False)
class Comparison(Tabular):
    """Models in descending order of balanced accuracy, with pairwise tests.

    Attributes:
        rows: one for each model.
        classes: class names.
        split: splitter and its parameters.
        counts: int, patches by side (rows: train, validation, test, buffer) and class; for several
            folds, scored patches are in the row of validation and the others in the last row.
        fingerprint: fingerprint of the patch set; empty in files of old versions.
        pairwise_tests: tests of each row against each row below it; empty in files of old versions.
        kind: kind of the scores, such as "one fold" or "cross-validated (5 folds)".
        folds: number of folds.
        notes: classes that are not scored, or not completely, and why; without full stops.
    """

    rows: tuple[Row, ...]
    classes: tuple[str, ...]
    split: Mapping[str, Any]
    counts: np.ndarray
    pairwise_tests: tuple[PairwiseTest, ...] = ()
    fingerprint: str = ""
    kind: str = "one fold"
    folds: int = 1
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"Comparison({len(self.rows)} models, {self.kind}; {self.recommendation})"

    def _repr_html_(self) -> str:
        return f"<p>{escape(self.recommendation)}</p>{super()._repr_html_()}"

    def to_json(self) -> dict[str, Any]:
        """Plain data, as in `comparison.json`."""
        return {
            "format": _FORMAT,
            "version": _VERSION,
            "kind": self.kind,
            "folds": self.folds,
            "notes": list(self.notes),
            "classes": list(self.classes),
            "split": dict(self.split),
            "fingerprint": self.fingerprint,
            "counts": self.counts.tolist(),
            "rows": [row.to_json() for row in self.rows],
            "contests": [one.to_json() for one in self.pairwise_tests],
        }

    def to_frame(self) -> pandas.DataFrame:
        """One row per model: accuracies and leak gap with their intervals, and seconds."""
        columns: dict[str, Any] = {
            "model": [row.model for row in self.rows],
            "features": [row.features for row in self.rows],
        }
        columns |= ends("balanced", [row.scores.balanced for row in self.rows])
        columns |= ends("overall", [row.scores.overall for row in self.rows])
        unknown = Interval(float("nan"), float("nan"), float("nan"))
        columns |= ends("leak_gap", [row.gap or unknown for row in self.rows])
        return frame(columns | {"seconds": [row.seconds for row in self.rows]})

    @property
    def network(self) -> Row | None:
        """The network; the best one if there are several."""
        return next((row for row in self.rows if row.features == "patch"), None)

    @property
    def recommended(self) -> Row:
        """Model with the highest balanced accuracy; the fastest of those that agree to 0.1 %."""
        best = round(self.rows[0].scores.balanced.value, 3)
        alike = [row for row in self.rows if round(row.scores.balanced.value, 3) == best]
        return min(alike or self.rows[:1], key=lambda row: row.seconds)

    @property
    def recommendation(self) -> str:
        """Recommended model, its score, and the result of its test against the second model."""
        one = self.recommended
        words = f"recommended: {one.title}, balanced accuracy {one.scores.balanced}, {self.kind}"
        others = [row for row in self.rows if row is not one]
        if not others:
            return words
        second = others[0].title
        pair = {one.title, second}
        test = next((t for t in self.pairwise_tests if {t.one, t.other} == pair), None)
        wins = "better" if test is not None and test.one == one.title else "worse"
        if test is None or test.verdict == "unknown":
            return f"{words}; whether it is better than the second, {second}, is unknown"
        shown = "shown" if test.verdict == wins else "not shown"
        return f"{words}; {shown} to be better than the second, {second}"

    @property
    def of_the_best(self) -> tuple[PairwiseTest, ...]:
        """Tests of the best model against each other one, in the order of the rows."""
        return tuple(one for one in self.pairwise_tests if one.one == self.rows[0].title)

    @property
    def leaders(self) -> tuple[Row, ...]:
        """The best model and all models that are not shown to be worse."""
        behind = {one.other for one in self.of_the_best if one.verdict == "better"}
        leading = tuple(row for row in self.rows if row.title not in behind)
        return leading if self.pairwise_tests else ()

    @property
    def cautions(self) -> tuple[str, ...]:
        """Limits of the pairwise tests; sentences without full stops."""
        found = []
        if not self.pairwise_tests:
            found.append(
                "this comparison has no pairwise tests, because an old version made it; "
                "resume it to add them"
            )
        elif self.of_the_best and all(one.verdict == "unknown" for one in self.of_the_best):
            found.append(
                "no test result: the held-out patches, or those of one class, are in too few "
                "spatial groups; " + ("hold out more" if self.folds == 1 else "label more areas")
            )
        if alone := [row.title for row in self.rows if len(row.seeds) == 1]:
            which = "every model was" if len(alone) == len(self.rows) else f"{', '.join(alone)}:"
            found.append(
                f"{which} trained with one seed; the intervals do not include the variation "
                "between seeds"
            )
        return tuple(found)


def write_comparison(folder: str | Path, comparison: Comparison) -> None:
    """Write `comparison.json`."""
    write_json(Path(folder) / _FILE, comparison.to_json())


def read_comparison(folder: str | Path) -> Comparison:
    """Read a comparison that `compare` or `compare_runs` wrote.

    Raises:
        OutcropError: the file is missing or damaged, or is not a comparison.
    """
    path = Path(folder) / _FILE
    content = read_json(path, "comparison", "compare")
    with decoding(path, "a comparison", "make one with `outcrop.compare`"):
        if content["format"] != _FORMAT:
            raise ValueError("another format")
        if content.get("version", 1) > _VERSION:
            raise ValueError(f"version {content['version']}, and {_VERSION} is the newest known")
        if not content["rows"]:
            raise ValueError("it has no rows")
        return Comparison(
            rows=tuple(map(_row_from_json, content["rows"])),
            classes=tuple(content["classes"]),
            split=content["split"],
            counts=np.array(content["counts"]),
            pairwise_tests=tuple(map(PairwiseTest.from_json, content.get("contests", ()))),
            fingerprint=content.get("fingerprint", ""),
            kind=content.get("kind", "one fold"),
            folds=content.get("folds", 1),
            notes=tuple(content.get("notes", ())),
        )


def is_compared(folder: Path) -> bool:
    """Whether a folder has a complete comparison, whose file is written last."""
    return (folder / _FILE).exists()


def _row_from_json(row: Mapping[str, Any]) -> Row:
    return Row(
        model=row["model"],
        features=row["features"],
        scores=Scores.from_json(row["scores"]),
        random=row["random"] and Scores.from_json(row["random"]),
        gap=row["gap"] and Interval.from_json(row["gap"]),
        seconds=row["seconds"],
        settings=row["settings"],
        seeds=tuple(row.get("seeds", ())),
        each=tuple(row.get("each", ())),
        runs=tuple(row.get("runs", ())),
    )
