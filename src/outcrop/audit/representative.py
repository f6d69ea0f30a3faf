"""Is this validation as hard as the map will be? Nearest-neighbour distances of both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from outcrop.audit.finding import Finding
from outcrop.audit.draws import open_sources
from outcrop.models.features import statistics
from outcrop.patches.patchset import PatchSet
from outcrop.patches.positions import Source, upper_left
from outcrop.sources.scene import Scene
from outcrop.splits.places import Places, coordinates, nearest, places_to_map
from outcrop.splits.split import Split

_PLACES = 1000
_TAUGHT = 10_000
_EASY, _HARD = 0.5, -1.0
_QUANTILES = tuple(range(0, 101, 5))


@dataclass(frozen=True)
class Hardness:
    """How far from the training patches the validation patches lie, and the map's pixels.

    Attributes:
        validation, wanted: float64, nearest-neighbour distances from validation patches and from
            places to be mapped to training patches.
        wasserstein: W, the area between the two distribution functions: the mean distance by
            which the one would have to be moved to become the other, in the same unit.
    """

    validation: np.ndarray
    wanted: np.ndarray
    wasserstein: float

    @property
    def easier(self) -> float:
        """By how much validation is nearer than the map on average, as a share of the latter.

        0 where both are as far, 1 where validation patches are training patches, negative where
        they are further than the map.
        """
        mean = self.wanted.mean()
        return float(1 - self.validation.mean() / mean) if mean > 0 else 0.0


def compare_distances(validation: np.ndarray, wanted: np.ndarray, taught: np.ndarray) -> Hardness:
    """Hold nearest-neighbour distances to training patches against each other.

    Source: Milà et al. (2022), Nearest neighbour distance matching leave-one-out cross-validation,
    Methods in Ecology and Evolution 13, 1304-1316; W from Linnenbrink et al. (2024), kNNDM,
    Geoscientific Model Development 17, 5897-5912, equation 4.

    Args:
        validation, wanted, taught: `V × D`, `M × D`, `T × D`, coordinates or features.
    """
    from scipy.stats import wasserstein_distance

    one, other = nearest(validation, taught), nearest(wanted, taught)
    return Hardness(one, other, float(wasserstein_distance(one, other)))


def check_representative(
    patches: PatchSet, split: Split | None, scenes: Sequence[Scene] | None = None, seed: int = 0
) -> list[Finding]:
    """Whether validation patches are as far from training patches as what is to be mapped.

    Looked at on the ground, and among features where the scenes can be opened: those of
    `outcrop.models.features.statistics`, brought to mean 0 and variance 1 on the training side.

    Args:
        split: whose validation side is looked at; without it there is nothing to say.
        scenes: what is to be mapped; the patches' own sources if not given.
        seed: of the sample of training patches.
    """
    if split is None or patches.positions is None or not patches.sources:
        return []
    taught, judged = split.train, split.validation
    if not len(taught) or not len(judged):
        return []
    opened = open_sources(patches) if scenes is None else scenes
    sources = [Source(s.name, (s.height, s.width), s.crs, s.transform) for s in opened]
    places = places_to_map(patches, _PLACES, sources or None)
    images = None
    if opened:
        places, images = _cut(opened, places, patches.size)
    if not len(places):
        return []
    at = coordinates(patches.positions)
    ground = compare_distances(at[judged], places.at, at[taught])
    extent = float(np.ptp(np.concatenate([at, places.at]), axis=0).max())
    found = [_finding("representative", ground, "on the ground", patches.unit, extent)]
    if images is None:
        return found
    dice = np.random.default_rng(seed)
    some = [np.sort(dice.permutation(side)[:_TAUGHT]) for side in (taught, judged)]
    known, unknown, wanted = _scaled(*(statistics(patches.take(side)) for side in some), images)
    features = compare_distances(unknown, wanted, known)
    norm = float(np.sqrt(known.shape[1]))
    found.append(_finding("representative features", features, "among features", "", norm))
    return found


def _cut(
    scenes: Sequence[Scene], places: Places, size: tuple[int, int]
) -> tuple[Places, np.ndarray]:
    """The places where there is data, and the features of the patches around them."""
    height, width = size
    kept, found = [], []
    for number, scene in enumerate(scenes):
        if scene.height < height or scene.width < width:
            continue
        with scene.reader() as reader:
            for i in np.flatnonzero(places.source == number):
                row, column = map(int, places.pixel[i])
                patch = reader.read(upper_left(row, height), upper_left(column, width), *size)
                if np.isfinite(patch[:, height // 2, width // 2]).all():
                    kept.append(i)
                    found.append(statistics(patch[None]))
    index = np.array(kept, np.int64)
    return places[index], np.concatenate(found) if found else np.empty((0, 0), np.float32)


def _scaled(known: np.ndarray, *others: np.ndarray) -> list[np.ndarray]:
    """Features brought to mean 0 and variance 1 on the training side."""
    mean, deviation = known.mean(axis=0), known.std(axis=0)
    deviation = np.where(deviation > 0, deviation, 1)
    return [(one - mean) / deviation for one in (known, *others)]


def _finding(check: str, hardness: Hardness, where: str, unit: str, extent: float) -> Finding:
    """One space in words; `extent` is what W is held against."""
    validation, wanted = (
        f"{float(f'{x.mean():.3g}'):g} {unit}".rstrip()
        for x in (hardness.validation, hardness.wanted)
    )
    share = hardness.wasserstein / extent if extent > 0 else 0.0
    numbers: dict[str, Any] = {
        "unit": unit or "standard deviations",
        "wasserstein": round(hardness.wasserstein, 4),
        "wasserstein_share": round(share, 4),
        "easier": round(hardness.easier, 4),
        "percent": list(_QUANTILES),
        "validation": np.percentile(hardness.validation, _QUANTILES).round(4).tolist(),
        "wanted": np.percentile(hardness.wanted, _QUANTILES).round(4).tolist(),
    }
    means = (
        f"{where} validation patches are {validation} from the nearest training patch, places to "
        f"be mapped {wanted} (means; W is {share:.1%} of the extent)"
    )
    matching = "`outcrop split --by matching`"
    if hardness.easier > _EASY:
        title, remedy = "the map will be harder", f"judge at the distances of the map: {matching}"
        return Finding(check, "warning", f"{title}: {means}", remedy, numbers)
    if hardness.easier < _HARD:
        title, remedy = "the map will be easier", f"expect more than the score, or use {matching}"
        return Finding(check, "note", f"{title}: {means}", remedy, numbers)
    return Finding(check, "note", f"validation is about as hard as the map: {means}", "", numbers)
