"""`Assessment`: accuracy and areas of a class map, with the design, the estimator and notes."""

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
    "raster": "all pixels with a class in a raster of true classes, which is no probability sample",
}
_ESTIMATORS: dict[Basis, str] = {
    "stratified": "stratified (Olofsson et al. 2014)",
    "simple": "post-stratified by the map's classes (Olofsson et al. 2014)",
    "other strata": "stratified, ratios for the classes (Stehman 2014)",
    "polygons": "pixels, each class of the map weighted by its area",
    "raster": "pixels, each class of the map weighted by its area where the reference has gaps",
}


@dataclass(frozen=True)
class Assessment(Tabular):
    """Comparison of a class map with reference data.

    Attributes:
        map, reference: names of the files.
        classes: the K class names: those of the map, then those that only the reference has.
        pixels: int64, `K`, pixels of each class in the map.
        hectares: float64, `K`, true area of each class in the map; NaN if it is unknown.
        counts: int64, `K × K`, compared points or pixels; rows are the map, columns the reference.
        accuracy: the estimates.
        basis: kind of the reference data.
        pieces: number of independent points, polygons or blocks.
        block: side of a block in metres, if there are blocks.
        design_known: whether the design of the points was given; otherwise it was assumed.
        left_out: number of points or pixels that were not compared, by reason.
        trained_on: number of points or pixels inside training patches; None if no patch set was
            given.
        unequal: whether the map's pixels differ in area and are weighted by it.
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
    design_known: bool = True
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
        """Unit of the areas."""
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
        """Unit of `counts`."""
        return "pixels" if self.basis in ("polygons", "raster") else "points"

    @property
    def design(self) -> str:
        """Sampling design of the reference, in words."""
        return f"{_DESIGNS[self.basis]}; {self.counts.sum():,} {self.units}"

    @property
    def estimator(self) -> str:
        """Estimator of the values and their intervals, in words."""
        if self.units == "points":
            return f"{_ESTIMATORS[self.basis]}; ± is 1.96 standard errors, a 95 % interval"
        kind = "polygons" if self.block is None else f"blocks of {self.block:g} m"
        return (
            f"{_ESTIMATORS[self.basis]}; 95 % intervals from a bootstrap of {self.pieces:,} whole "
            f"{kind} (Korn and Graubard 1998)"
        )

    @property
    def notes(self) -> list[str]:
        """Limits of the values that a reader must know, one line each."""
        return [*self._left_out(), *self._strange(), *self._unsure()]

    def _left_out(self) -> list[str]:
        lines = [f"left out: {n:,} {self.units} {why}" for why, n in self.left_out.items()]
        if self.trained_on:
            lines.append(
                f"{self.trained_on:,} of {self.counts.sum():,} {self.units} are inside patches of "
                "the patch set: if the model was trained on them, the accuracy is too high"
            )
        elif self.trained_on == 0:
            lines.append(f"no {self.units[:-1]} is inside a patch of the patch set")
        return lines

    def _strange(self) -> list[str]:
        lines = []
        if self.units == "points" and not self.design_known:
            lines.append(
                "the file has no sampling design of its points: the intervals hold only if they "
                "are a random sample of this design"
            )
        if self.basis == "raster":
            known = self.counts.sum() / self.pixels.sum()
            lines.append(
                f"the reference covers {100 * known:.1f} % of the map and represents the rest"
                if known < 1
                else "all pixels are compared: areas are counted, and the intervals show how much "
                "accuracies would vary in other areas like this one"
            )
        if self.unit == "pixels":
            lines.append(
                "the map's coordinates are not on the earth: areas are in pixels, as if all had "
                "the same size"
            )
        if self.unequal:
            lines.append(
                "pixels differ in area in the map's coordinate reference system: areas are those "
                f"on the ellipsoid, and {self.units} are weighted by the area of their pixel"
            )
        alone = (self.pixels == 0) & (self.counts.sum(axis=0) > 0)
        lines += [
            f"the map has no '{self.classes[k]}': its {self.counts[:, k].sum():,} {self.units} "
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
                    f"no point is in '{name}', {100 * share:.2f} % of the map: values that "
                    "depend on it are unknown"
                )
            elif np.isnan(self.accuracy.users[k].error):
                kind = "point" if self.units == "points" else "polygon or block"
                lines.append(
                    f"'{name}' has at most one {kind}: the uncertainty of its values is unknown"
                )
            elif self.units == "points" and self.accuracy.users[k].error == 0:
                lines.append(
                    f"all {n} points in '{name}' are {'right' if self.counts[k, k] else 'wrong'}: "
                    "the interval is that of Clopper and Pearson"
                )
        if self.units == "pixels" and self.pieces < FEW_GROUPS:
            lines.append(
                f"there are only {self.pieces} polygons or blocks: the coverage of the intervals "
                f"was not verified for fewer than {FEW_GROUPS}"
            )
        if self.basis == "raster":
            lines.append(
                "if the model was trained in this area, the accuracy is too high: the training "
                "pixels are among those compared"
            )
        return lines

    def to_json(self) -> dict[str, Any]:
        """Plain data for `outcrop.files.write_json`; design, estimator and notes are for people."""
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
            "told": self.design_known,
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
        """The assessment from the result of `to_json`."""
        return cls(
            map=content["map"],
            reference=content["reference"],
            classes=tuple(content["classes"]),
            pixels=np.array(content["pixels"], dtype=np.int64),
            hectares=np.array(content["hectares"] or [np.nan] * len(content["classes"])),
            unequal=content["unequal"],
            counts=np.array(content["counts"], dtype=np.int64),
            accuracy=MapAccuracy.from_json(content["accuracy"]),
            basis=content["basis"],
            pieces=content["pieces"],
            block=content["block"],
            design_known=content["told"],
            left_out=content["left_out"],
            trained_on=content["trained_on"],
        )


def write_assessment(path: str | Path, assessment: Assessment) -> None:
    """Write an assessment as JSON; an incomplete file is never left."""
    write_json(path, assessment.to_json())


def write_assessment_table(path: str | Path, assessment: Assessment) -> None:
    """Write an assessment as CSV, one row per class; an incomplete file is never left.

    Columns: class; pixels and hectares in the map; value, standard error and ends of the 95 %
    interval of users, producers and area (share of the map), empty if unknown; and the row of the
    error matrix, as "reference NAME".
    """
    with new_file(path) as temporary:
        assessment.to_frame().to_csv(temporary, float_format="%.7g")


def read_assessment(path: str | Path) -> Assessment:
    """Read an assessment that `write_assessment` wrote.

    Raises:
        OutcropError: the file is missing, or is not an assessment.
    """
    content = read_json(path, "assessment", "assess")
    with decoding(path, "an assessment", "make one with `outcrop.assess`"):
        if (content["format"], content["version"]) != (_FORMAT, _VERSION):
            raise ValueError("another format or version")
        return Assessment.from_json(content)
