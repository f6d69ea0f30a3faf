"""`audit`: run all checks on a patch set and its split."""

from __future__ import annotations

import pkgutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import outcrop.auditing
from outcrop.auditing.check import CHECKS, Check, Context, Finding, Severity, open_to_map
from outcrop.errors import OutcropError
from outcrop.frames import Tabular, frame
from outcrop.models.architectures import ResidualNet
from outcrop.patches.collection import AnyPatches, open_patches
from outcrop.patches.patchset import PatchSet
from outcrop.sources.memory import as_list
from outcrop.splits import SIDES, Split
from outcrop.splits.split import AnySplit, read_split
from outcrop.training.recipe import Recipe
from outcrop.typed import typed

if TYPE_CHECKING:
    import pandas

SEVERITIES: tuple[Severity, ...] = ("critical", "warning", "note")


@dataclass(frozen=True)
class Audit(Tabular):
    """The findings of an audit, the most severe first.

    Attributes:
        findings: findings by severity, then in the order of the checks.
        about: description of the patch set: number of patches, classes, fingerprint, its split.
    """

    findings: tuple[Finding, ...]
    about: Mapping[str, Any]

    def __repr__(self) -> str:
        return f"Audit({self.summary})"

    def to_frame(self) -> pandas.DataFrame:
        """One row per finding: check, severity, title and remedy."""
        names = ("check", "severity", "title", "remedy")
        return frame({name: [getattr(one, name) for one in self.findings] for name in names})

    @property
    def failed(self) -> bool:
        """Whether a finding is critical."""
        return any(finding.severity == "critical" for finding in self.findings)

    @property
    def summary(self) -> str:
        """Number of findings of each severity, in words.

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
        """Inverse of `to_json`.

        Raises:
            KeyError, TypeError, ValueError: the content is not an audit.
        """
        if content["format"] != "outcrop audit":
            raise KeyError("format")
        return cls(typed(tuple[Finding, ...], content["findings"], "findings"), content["about"])

    def __str__(self) -> str:
        lines = [f"{f.severity:9}{f.check:14}{f.title}" for f in self.findings]
        return "\n".join([*lines, self.summary])


def audit(
    patches: AnyPatches,
    split: AnySplit | None = None,
    *,
    to_map: Sequence[str | Path] = (),
    network: ResidualNet | None = None,
    recipe: Recipe = Recipe(),
    seed: int = 0,
) -> Audit:
    """Check whether a patch set and its split can be trusted.

    The checks are about the order of the labels, classes and their names, constant patches,
    brightness and marks that reveal a class or a side, copies and overlaps. With positions they are
    also about distances between the sides, spatial autocorrelation, the difficulty of the map, the
    leak gap, and labels that contradict their neighbours. Images are read several times, in
    batches. A check that lacks what it needs is skipped (`outcrop.auditing.check.Check`).

    Args:
        patches: patch set, or its name.
        split: split of the patches, or the name of its file. Default: the split that the collection
            was published with, if there is one.
        to_map: scenes or volumes that will be mapped. Default: those of the patches.
        network: network whose leak gap is measured too; it is trained three times.
        recipe: how the network is trained.
        seed: random seed of the samples that some checks draw.

    Raises:
        OutcropError: there are no patches; the labels are not one index per patch; the split was
            made for another patch set; a scene to be mapped cannot be read; positions or a split
            are missing that `to_map` or `network` need.
    """
    patches = open_patches(patches)
    split = None if split is None else read_split(split)
    if patches.labels.ndim != 1:
        raise OutcropError(
            "labels", f"are {patches.labels.shape}, such as one-hot rows; pass labels.argmax(1)"
        )
    if not len(patches):
        raise OutcropError("patch set", "contains no patches; pass a set with patches")
    if seed < 0:
        raise OutcropError("`seed`", f"must be 0 or more, not {seed}")
    split = split or _published(patches)
    if split is not None and (
        split.fingerprint != patches.fingerprint or len(split.sides) != len(patches)
    ):
        raise OutcropError(
            "`split`", "was made for another patch set; make a new one with `outcrop.splits`"
        )
    to_map = as_list(to_map)
    for option, given in (("`to_map`", to_map), ("`network`", network)):
        if given and patches.positions is None:
            raise OutcropError(option, "needs positions, and these patches have none; leave it out")
    if to_map and split is None:
        raise OutcropError("`to_map`", "needs `split`, to compare its validation side with the map")
    opened = open_to_map(to_map, patches) if to_map else ()
    context = Context(patches, split, opened, network, recipe, seed)
    found = [finding for check in _checks() for finding in run_check(check, context)]
    found.sort(key=lambda finding: SEVERITIES.index(finding.severity))
    return Audit(tuple(found), _about(patches, split))


def run_check(check: type[Check], context: Context) -> list[Finding]:
    """The findings of one check; none if the context lacks what it needs."""
    return [] if any(map(context.lacks, check.needs)) else list(check().run(context))


def _checks() -> list[type[Check]]:
    """All checks of this package and all others that have been defined, by rank."""
    for module in pkgutil.iter_modules(outcrop.auditing.__path__, "outcrop.auditing."):
        import_module(module.name)
    return sorted(CHECKS, key=lambda check: check.rank)


def _published(patches: PatchSet) -> Split | None:
    """The split that a collection was published with, not checked; None without one."""
    side = patches.columns.get("side")
    if side is None or not set(side.names) <= set(SIDES):
        return None
    return Split(
        sides=np.array([SIDES.index(name) for name in side.names], np.int8)[side.codes],
        groups=np.arange(len(patches)),
        fingerprint=patches.fingerprint,
        how={"splitter": "as delivered"},
        spatial=False,
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
