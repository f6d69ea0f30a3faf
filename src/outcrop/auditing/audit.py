"""`audit`: all checks on a patch set and its split, and what they found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from outcrop.auditing.classes import check_classes, check_names
from outcrop.auditing.duplicates import check_duplicates, check_overlaps
from outcrop.auditing.finding import Finding, Severity
from outcrop.auditing.gaps import check_gaps
from outcrop.auditing.ground import check_ground
from outcrop.auditing.intensity import check_intensity
from outcrop.auditing.marks import check_levels, check_marks
from outcrop.auditing.order import check_order
from outcrop.auditing.origin import open_to_map
from outcrop.auditing.pixels import measure
from outcrop.errors import OutcropError
from outcrop.frames import Tabular, frame
from outcrop.models.architectures import ResidualNet
from outcrop.patches.patchset import PatchSet
from outcrop.sources.memory import as_list
from outcrop.splits import SIDES, Split
from outcrop.training.recipe import Recipe

if TYPE_CHECKING:
    import pandas

SEVERITIES: tuple[Severity, ...] = ("critical", "warning", "note")


@dataclass(frozen=True)
class Audit(Tabular):
    """What was found, the most severe first.

    Attributes:
        findings: by severity, then in the order of the checks.
        about: what was looked at: number of patches, classes, fingerprint, the split in words.
    """

    findings: tuple[Finding, ...]
    about: Mapping[str, Any]

    def __repr__(self) -> str:
        return f"Audit({self.summary})"

    def to_frame(self) -> pandas.DataFrame:
        """One row per finding: check, severity, what was found, and what to do."""
        names = ("check", "severity", "title", "remedy")
        return frame({name: [getattr(one, name) for one in self.findings] for name in names})

    @property
    def failed(self) -> bool:
        """Whether anything is critical."""
        return any(finding.severity == "critical" for finding in self.findings)

    @property
    def summary(self) -> str:
        """How many findings of each severity, in words.

        >>> Audit((), {}).summary
        'nothing found'
        """
        counts = Counter(finding.severity for finding in self.findings)
        words = [f"{counts[s]} {s}" for s in SEVERITIES if counts[s]]
        return ", ".join(words) or "nothing found"

    def to_json(self) -> dict[str, Any]:
        """Plain data for `outcrop.files.write_json`."""
        return {
            "format": "outcrop audit",
            "failed": self.failed,
            "about": dict(self.about),
            "findings": [asdict(finding) for finding in self.findings],
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Audit:
        """The audit that `to_json` gave.

        Raises:
            KeyError, TypeError: it is something else.
        """
        if content["format"] != "outcrop audit":
            raise KeyError("format")
        return cls(
            tuple(
                Finding(**{**one, "groups": tuple(map(tuple, one["groups"]))})
                for one in content["findings"]
            ),
            content["about"],
        )

    def __str__(self) -> str:
        lines = [f"{f.severity:9}{f.check:14}{f.title}" for f in self.findings]
        return "\n".join([*lines, self.summary])


def audit(
    patches: PatchSet,
    split: Split | None = None,
    *,
    to_map: Sequence[str | Path] = (),
    network: ResidualNet | None = None,
    recipe: Recipe = Recipe(),
    seed: int = 0,
) -> Audit:
    """Can this patch set be trusted, and this split?

    Order of the labels, classes and their names, empty patches, brightness and marks that give
    away a class or a side, copies and overlaps; and where positions are known, overlap and
    distance between the sides, how far the ground resembles itself, whether the map will be
    harder, the leak gap, and labels that neighbours contradict. The images are read several times,
    in batches.

    Args:
        patches: in memory or on disk.
        split: without it, the sides that a collection came with, if any.
        to_map: scenes or volumes that are to be mapped; those that the patches were cut from, if
            not given.
        network: train it under the split by ground and under one at random, and tell its leak gap.
        recipe: how to train it.
        seed: of the samples that some checks draw.

    Raises:
        OutcropError: there are no patches, the labels are not one index each, or the split was
            made for another patch set; what is to be mapped cannot be read; positions or a split
            are missing where `to_map` or `network` need them.
    """
    if patches.labels.ndim != 1:
        raise OutcropError(
            "labels", f"are {patches.labels.shape}, such as one-hot rows; pass labels.argmax(1)"
        )
    if not len(patches):
        raise OutcropError("patch set", "holds no patches; there is nothing to audit")
    if seed < 0:
        raise OutcropError("--seed", f"must be 0 or more, not {seed}")
    split = split or _delivered(patches)
    if split is not None and (
        split.fingerprint != patches.fingerprint or len(split.sides) != len(patches)
    ):
        raise OutcropError(
            "split", "was made for another patch set; make it anew with `outcrop split`"
        )
    to_map = as_list(to_map)
    for option, given in (("--to-map", to_map), ("--full", network)):
        if given and patches.positions is None:
            raise OutcropError(option, "needs positions, and these patches have none; leave it out")
    if to_map and split is None:
        raise OutcropError("--to-map", "needs --split, whose validation is held against the map")
    origins = open_to_map(to_map, patches) if to_map else ()
    pixels = measure(patches)
    found = [
        *check_order(patches, split),
        *check_classes(patches, split),
        *check_names(patches),
        *check_gaps(patches, split, pixels),
        *check_intensity(patches, split, pixels, seed),
        *check_marks(patches, seed),
        *check_levels(patches, seed),
        *check_duplicates(patches, split, pixels, seed),
        *check_overlaps(patches, split, pixels, seed),
        *check_ground(patches, split, origins, network, recipe, seed),
    ]
    found.sort(key=lambda finding: SEVERITIES.index(finding.severity))
    return Audit(tuple(found), _about(patches, split))


def _delivered(patches: PatchSet) -> Split | None:
    """The sides that a collection came with, however unfit."""
    side = patches.columns.get("side")
    if side is None or not set(side.names) <= set(SIDES):
        return None
    return Split(
        sides=np.array([SIDES.index(name) for name in side.names], np.int8)[side.codes],
        groups=np.arange(len(patches)),
        fingerprint=patches.fingerprint,
        how={"splitter": "as delivered"},
        by_ground=False,
    )


def _about(patches: PatchSet, split: Split | None) -> dict[str, Any]:
    return {
        "patches": len(patches),
        "fingerprint": patches.fingerprint,
        "bands": list(patches.bands),
        "size": list(patches.size),
        "classes": list(patches.classes),
        "positions": patches.positions is not None,
        "split": None if split is None else dict(split.how),
    }
