"""`audit`: all checks on a patch set and its split, and what they found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from outcrop.audit.classes import check_classes, check_names
from outcrop.audit.duplicates import check_duplicates, check_overlaps
from outcrop.audit.finding import Finding, Severity
from outcrop.audit.gaps import check_gaps
from outcrop.audit.intensity import check_intensity
from outcrop.audit.marks import check_levels, check_marks
from outcrop.audit.order import check_order
from outcrop.audit.pixels import measure
from outcrop.errors import OutcropError
from outcrop.patches.patchset import PatchSet
from outcrop.splits import SIDES, Split

SEVERITIES: tuple[Severity, ...] = ("critical", "warning", "note")


@dataclass(frozen=True)
class Audit:
    """What was found, the most severe first.

    Attributes:
        findings: by severity, then in the order of the checks.
        about: what was looked at: number of patches, classes, fingerprint, the split in words.
    """

    findings: tuple[Finding, ...]
    about: Mapping[str, Any]

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
        lines = [f"{f.severity:9}{f.check:12}{f.title}" for f in self.findings]
        return "\n".join([*lines, self.summary])


def audit(patches: PatchSet, split: Split | None = None, *, seed: int = 0) -> Audit:
    """Can this patch set be trusted, and this split?

    Order of the labels, classes and their names, empty patches, brightness and marks that give
    away a class or a side, copies and overlaps. The images are read several times, in batches.

    Args:
        patches: in memory or on disk.
        split: without it, the sides that a collection came with, if any.
        seed: of the samples that some checks draw.

    Raises:
        OutcropError: there are no patches, the labels are not one index each, or the split was
            made for another patch set.
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
