"""Checks of an audit: the base class that registers them, what they run on, and what they find.

A new check is one subclass of `Check` in any module of this package; `audit` finds it there.
CONTRIBUTING.md has an example.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from outcrop.auditing.autocorrelation import (
    Autocorrelation,
    Blocks,
    Sources,
    advise_blocks,
    measure_autocorrelation,
)
from outcrop.auditing.pixels import Pixels, batches, measure
from outcrop.errors import OutcropError
from outcrop.models.architectures import ResidualNet
from outcrop.models.features import statistics
from outcrop.patches.patchset import PatchSet
from outcrop.patches.reopen import reopen, with_bands
from outcrop.sources.kinds import are_volumes
from outcrop.sources.opening import open_scenes
from outcrop.sources.volumes import open_volume
from outcrop.splits import Split
from outcrop.training.recipe import Recipe

Severity = Literal["critical", "warning", "note"]
Need = Literal["images", "positions", "sources", "split", "network"]

_MOST_NAMES = 5


@dataclass(frozen=True)
class Finding:
    """One result of a check.

    Attributes:
        check: name of the check, one or two words with a hyphen, such as "order".
        severity: "critical" if scores are false or training fails, which makes the audit fail;
            "warning" if the patches should be inspected; "note" for a measurement.
        title: what was found, in one sentence with its numbers.
        remedy: what to do, in one sentence; empty if nothing needs to be done.
        numbers: the evidence as plain numbers, text and lists, ready for JSON.
        groups: patches to inspect. Each group has the indices of patches that belong together,
            such as a cluster of duplicates or a patch and its neighbours; the worst group is first.
    """

    check: str
    severity: Severity
    title: str
    remedy: str = ""
    numbers: Mapping[str, Any] = field(default_factory=dict)
    groups: tuple[tuple[int, ...], ...] = ()


@dataclass(frozen=True)
class Context:
    """What checks run on: a patch set, its split, and measurements that several checks share.

    A measurement is made when a check first uses it, and kept.

    Attributes:
        patches: patch set to be audited.
        split: its split, if there is one.
        to_map: scenes or volumes that will be mapped; those of the patches if empty.
        network: network whose leak gap is measured, if any.
        recipe: how it is trained.
        seed: random seed of samples.
    """

    patches: PatchSet
    split: Split | None = None
    to_map: Sources = ()
    network: ResidualNet | None = None
    recipe: Recipe = Recipe()
    seed: int = 0

    def lacks(self, need: Need) -> bool:
        """Whether something that a check needs is missing."""
        present: dict[Need, object] = {
            "images": min(self.patches.size) > 0,
            "positions": self.patches.positions is not None,
            "sources": self.patches.sources,
            "split": self.split is not None,
            "network": self.network is not None,
        }
        return not present[need]

    @cached_property
    def pixels(self) -> Pixels:
        """Brightness, contrast and gaps of every patch."""
        return measure(self.patches)

    @cached_property
    def features(self) -> np.ndarray:
        """`outcrop.models.features.statistics` of every patch, `N × F`; 0 without data."""
        parts = [statistics(images) for images in batches(self.patches, "describing patches")]
        return np.nan_to_num(np.concatenate(parts))

    @cached_property
    def sources(self) -> Sources:
        """The scenes or volumes of the patches; empty if one is missing or has changed."""
        if self.patches.positions is None:
            return ()
        try:
            return reopen(self.patches)
        except OutcropError:
            return ()

    @cached_property
    def autocorrelation(self) -> Autocorrelation | None:
        """Spatial autocorrelation of pixels and labels; None if it cannot be estimated."""
        if self.lacks("images"):
            return None
        return measure_autocorrelation(self.patches, self.sources, self.seed)

    @cached_property
    def ranges(self) -> np.ndarray | None:
        """`Autocorrelation.ranges`, if they could be estimated."""
        return None if self.autocorrelation is None else self.autocorrelation.ranges

    @cached_property
    def blocks(self) -> Blocks | None:
        """Recommended blocks and buffer; None if the labelled area is too small for any."""
        if self.autocorrelation is None or self.patches.positions is None:
            return advise_blocks(self.patches, seed=self.seed)
        least = float(self.autocorrelation.through(self.patches.positions).max())
        return advise_blocks(self.patches, self.ranges, least, self.seed)


class Check(ABC):
    """One check of an audit; a subclass with a name registers itself in `CHECKS`.

    Attributes:
        name: name of the check, which its findings usually have too.
        needs: what the check cannot run without; if it is missing, the audit skips the check.
        rank: position of its findings among others of the same severity, the lowest first.
    """

    name: ClassVar[str]
    needs: ClassVar[tuple[Need, ...]] = ()
    rank: ClassVar[int] = 1000

    def __init_subclass__(cls) -> None:
        if "name" in vars(cls):
            CHECKS.append(cls)

    @abstractmethod
    def run(self, context: Context) -> Iterable[Finding]:
        """What the check finds, in the order of the report."""


CHECKS: list[type[Check]] = []
"""All checks that have been imported."""


def open_to_map(paths: Sequence[str | Path], patches: PatchSet) -> Sources:
    """Open the scenes or volumes that will be mapped, with the bands of the patches.

    Raises:
        OutcropError: one cannot be read or lacks a band; volumes are given for patches of scenes,
            or scenes for patches of volumes.
    """
    if are_volumes(paths) != patches.from_volume:
        own, other = ("volumes", "scene") if patches.from_volume else ("scenes", "volume")
        raise OutcropError(paths[0], f"is a {other}, but the patches are from {own}; give {own}")
    if patches.from_volume:
        return [open_volume(path, **vars(patches.sources[0].segy)) for path in paths]
    remedy = "use a scene that has them"
    reading = replace(patches.reading, band_names=[])
    scenes = open_scenes(paths, reading=reading)
    return [with_bands(scene, patches.bands, remedy) for scene in scenes]


# Words in findings


def listed(names: Sequence[str]) -> str:
    """Names as a list in a sentence, shortened if there are many.

    >>> listed(["rice"]), listed(["rice", "mud"]), listed(list("abcdefg"))
    ("'rice'", "'rice' and 'mud'", "'a', 'b', 'c', 'd', 'e' and 2 more")
    """
    quoted = [f"'{name}'" for name in names[:_MOST_NAMES]]
    if len(names) > _MOST_NAMES:
        quoted.append(f"{len(names) - _MOST_NAMES} more")
    return quoted[0] if len(quoted) == 1 else f"{', '.join(quoted[:-1])} and {quoted[-1]}"


def plural(number: int, one: str, many: str = "") -> str:
    """A number with its noun.

    >>> plural(1, "patch", "patches"), plural(1200, "class", "classes"), plural(2, "pair")
    ('1 patch', '1,200 classes', '2 pairs')
    """
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def share(part: float) -> str:
    """A fraction as a percentage.

    >>> share(0.254), share(0.004)
    ('25 %', '0.4 %')
    """
    return f"{100 * part:.0f} %" if part >= 0.1 or part == 0 else f"{100 * part:.1f} %"
