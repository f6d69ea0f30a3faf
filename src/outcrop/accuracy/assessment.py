"""How good a class map is, as it can be reported: figures, what stands behind them, and notes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from outcrop.accuracy.areas import MapAccuracy
from outcrop.files import decoding, new_file, read_json, write_json
from outcrop.frames import Tabular, frame
from outcrop.metrics.intervals import FEW_GROUPS

if TYPE_CHECKING:
    import pandas

Basis = Literal["stratified", "simple", "other strata", "polygons", "raster"]

_FORMAT = "outcrop assessment"
_VERSION = 2
_DESIGNS: dict[Basis, str] = {
    "stratified": "stratified random points, strata are the map's classes",
    "simple": "simple random points",
    "other strata": "stratified random points, strata are not the map's classes",
    "polygons": "labelled polygons, which are no probability sample",
    "raster": "all pixels that a raster of true classes knows, which is no probability sample",
}
_ESTIMATORS: dict[Basis, str] = {
    "stratified": "stratified (Olofsson et al. 2014)",
    "simple": "post-stratified by the map's classes (Olofsson et al. 2014)",
    "other strata": "stratified, ratios for the classes (Stehman 2014)",
    "polygons": "pixels, each class of the map weighed by its area",
    "raster": "pixels, each class of the map weighed by its area where the reference has gaps",
}


@dataclass(frozen=True)
class Assessment(Tabular):
    """A class map held against reference data.

    Attributes:
        map, reference: the files.
        classes: the K class names, those of the map and then those of the reference alone.
        pixels: int64, `K`, of each class in the map.
        hectares: float64, `K`, true area of each class in the map; NaN if it is unknown.
        counts: int64, `K × K`, points, or pixels, that were compared; rows are the map, columns the
            reference.
        accuracy: what follows from them.
        basis: what stands behind that.
        pieces: points, polygons or blocks that are independent of each other.
        block: side of a block in metres, if there are blocks.
        told: whether the reference tells the design of its points, or it had to be supposed.
        left_out: points or pixels that were not compared, by reason.
        trained_on: points or pixels that lie within a patch of the patch set that was given; None
            if none was.
        unequal: whether the map's pixels differ in area, so that they count by their area.
    """

    map: str
    reference: str
    classes: tuple[str, ...]
    pixels: np.ndarray
    hectares: np.ndarray
    counts: np.ndarray
    accuracy: MapAccuracy
    basis: Basis
    pieces: int
    block: float | None = None
    told: bool = True
    left_out: Mapping[str, int] = field(default_factory=dict)
    trained_on: int | None = None
    unequal: bool = False

    def __repr__(self) -> str:
        return (
            f"Assessment({Path(self.map).name}: overall accuracy {self.accuracy.overall} %, "
            f"{self.counts.sum():,} {self.units}, {len(self.classes)} classes)"
        )

    def _repr_html_(self) -> str:
        return f"<p>{escape(repr(self))}</p>{super()._repr_html_()}"

    def to_frame(self) -> pandas.DataFrame:
        """One row per class: pixels and hectares in the map; user's and producer's accuracy and
        area with standard error and the ends of the 95 % interval; the row of the error matrix.
        """
        columns: dict[str, Any] = {"class": list(self.classes), "pixels": self.pixels}
        columns["hectares"] = self.hectares
        for name in ("users", "producers", "area"):
            estimates = getattr(self.accuracy, name)
            for end in ("value", "error", "low", "high"):
                suffix = "" if end == "value" else f"_{end}"
                columns[f"{name}{suffix}"] = [getattr(one, end) for one in estimates]
        for k, name in enumerate(self.classes):
            columns[f"reference {name}"] = self.counts[:, k]
        return frame(columns, "class")

    @property
    def unit(self) -> Literal["ha", "pixels"]:
        """What areas are counted in."""
        return "ha" if np.isfinite(self.hectares).all() else "pixels"

    @property
    def mapped(self) -> np.ndarray:
        """Area of each class in the map, in `unit`: float64, `K`."""
        return np.asarray(self.hectares if self.unit == "ha" else self.pixels, np.float64)

    @property
    def whole(self) -> float:
        """Area of the map, in `unit`."""
        return float(self.mapped.sum())

    @property
    def units(self) -> Literal["points", "pixels"]:
        """What `counts` counts."""
        return "pixels" if self.basis in ("polygons", "raster") else "points"

    @property
    def design(self) -> str:
        """Where the reference comes from, in words."""
        return f"{_DESIGNS[self.basis]}; {self.counts.sum():,} {self.units}"

    @property
    def estimator(self) -> str:
        """How the figures were computed, and their intervals."""
        if self.units == "points":
            return f"{_ESTIMATORS[self.basis]}; ± is 1.96 standard errors, for 95 %"
        kind = "polygons" if self.block is None else f"blocks of {self.block:g} m"
        return (
            f"{_ESTIMATORS[self.basis]}; 95 % intervals from {self.pieces:,} whole {kind} (Korn "
            "and Graubard 1998)"
        )

    @property
    def notes(self) -> list[str]:
        """What a reader of the figures has to know beside them, one line each."""
        return [*self._left_out(), *self._strange(), *self._unsure()]

    def _left_out(self) -> list[str]:
        lines = [f"left out: {n:,} {self.units} {why}" for why, n in self.left_out.items()]
        if self.trained_on:
            lines.append(
                f"{self.trained_on:,} of {self.counts.sum():,} {self.units} lie within a patch of "
                "the patch set: if the model was trained on it, they flatter the map"
            )
        elif self.trained_on == 0:
            lines.append(f"no {self.units[:-1]} lies within a patch of the patch set")
        return lines

    def _strange(self) -> list[str]:
        lines = []
        if self.units == "points" and not self.told:
            lines.append(
                "the file does not tell how its points were chosen: unless it was as the design "
                "says, and at random, the intervals do not hold"
            )
        if self.basis == "raster":
            known = self.counts.sum() / self.pixels.sum()
            lines.append(
                f"the reference knows {known:.1%} of the map, and stands for the rest"
                if known < 1
                else "all pixels are compared: areas are counted, and the intervals say how far "
                "accuracies would move on other ground like it"
            )
        if self.unit == "pixels":
            lines.append(
                "the map's coordinates lie nowhere on the earth: areas are pixels, as if all were "
                "of one size"
            )
        if self.unequal:
            lines.append(
                "pixels differ in area in the map's coordinate reference system: areas are those "
                f"on the ellipsoid, and {self.units} count by the area of their pixel"
            )
        alone = (self.pixels == 0) & (self.counts.sum(axis=0) > 0)
        lines += [
            f"the map has no '{self.classes[k]}': {self.counts[:, k].sum():,} {self.units} of it "
            "count as wrong"
            for k in np.flatnonzero(alone)
        ]
        return lines

    def _unsure(self) -> list[str]:
        lines = []
        for k in np.flatnonzero(self.pixels):
            name, n = self.classes[k], int(self.counts[k].sum())
            share = self.mapped[k] / self.whole
            if self.units == "points" and n == 0:
                lines.append(
                    f"no point lies in '{name}', {share:.2%} of the map: what depends on it is "
                    "unknown"
                )
            elif np.isnan(self.accuracy.users[k].error):
                kind = "point" if self.units == "points" else "piece of ground"
                lines.append(
                    f"'{name}' stands on one {kind} or none: how sure the figures are is unknown"
                )
            elif self.units == "points" and self.accuracy.users[k].error == 0:
                lines.append(
                    f"all {n} points in '{name}' are {'right' if self.counts[k, k] else 'wrong'}: "
                    "the interval is that of Clopper and Pearson"
                )
        if self.units == "pixels" and self.pieces < FEW_GROUPS:
            lines.append(
                f"{self.pieces} pieces of ground are few: on fewer than {FEW_GROUPS} it was not "
                "checked that intervals hold the truth in 95 of 100 cases"
            )
        if self.basis == "raster":
            lines.append("if the model was trained on this ground, that is among the pixels")
        return lines

    def to_json(self) -> dict[str, Any]:
        """Plain data for `outcrop.files.write_json`; `notes` and the like are for other readers."""
        return {
            "format": _FORMAT,
            "version": _VERSION,
            "map": self.map,
            "reference": self.reference,
            "design": self.design,
            "estimator": self.estimator,
            "notes": self.notes,
            "basis": self.basis,
            "pieces": self.pieces,
            "block": self.block,
            "told": self.told,
            "left_out": dict(self.left_out),
            "trained_on": self.trained_on,
            "classes": list(self.classes),
            "pixels": self.pixels.tolist(),
            "hectares": self.hectares.tolist() if self.unit == "ha" else None,
            "unequal": self.unequal,
            "counts": self.counts.tolist(),
            "accuracy": self.accuracy.to_json(),
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Assessment:
        """The assessment that `to_json` gave."""
        return cls(
            map=content["map"],
            reference=content["reference"],
            classes=tuple(content["classes"]),
            pixels=np.array(content["pixels"], dtype=np.int64),
            hectares=np.array(
                [np.nan] * len(content["classes"])
                if content["hectares"] is None
                else content["hectares"]
            ),
            unequal=content["unequal"],
            counts=np.array(content["counts"], dtype=np.int64),
            accuracy=MapAccuracy.from_json(content["accuracy"]),
            basis=content["basis"],
            pieces=content["pieces"],
            block=content["block"],
            told=content["told"],
            left_out=content["left_out"],
            trained_on=content["trained_on"],
        )


def write_assessment(path: str | Path, assessment: Assessment) -> None:
    """Write an assessment as JSON, whole or not at all."""
    write_json(path, assessment.to_json())


def write_assessment_table(path: str | Path, assessment: Assessment) -> None:
    """Write an assessment as CSV, one row a class, whole or not at all.

    Columns: class; pixels and hectares in the map; of users, producers and area (a share of the
    map) the value, its standard error and the ends of its 95 % interval, empty where unknown; and
    the row of the error matrix, as "reference NAME".
    """
    with new_file(path) as temporary:
        assessment.to_frame().to_csv(temporary, float_format="%.7g")


def read_assessment(path: str | Path) -> Assessment:
    """Read an assessment that `write_assessment` wrote.

    Raises:
        OutcropError: the file is missing, or is no assessment.
    """
    content = read_json(path, "assessment", "assess")
    with decoding(path, "an assessment", "make one with `outcrop assess`"):
        if (content["format"], content["version"]) != (_FORMAT, _VERSION):
            raise ValueError("another format or version")
        return Assessment.from_json(content)
