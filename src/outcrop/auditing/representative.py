"""Is this validation as hard as the map will be? Distances of both, and accuracy at them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from outcrop.auditing.falloff import Bias, Falloff, Verdict, falloff, forest, interpolator
from outcrop.auditing.finding import Finding
from outcrop.auditing.origin import Origins
from outcrop.auditing.words import share
from outcrop.models.features import statistics
from outcrop.patches.patchset import PatchSet
from outcrop.patches.positions import Source, upper_left
from outcrop.sources.scene import SceneReader
from outcrop.sources.volumes.volume import VolumeReader
from outcrop.splits.places import Places, coordinates, nearest, places_to_map
from outcrop.splits.split import Split

_PLACES = 1000
_TAUGHT = 10_000
_SAME = 0.25
_BEYOND = 0.1
_QUANTILES = tuple(range(0, 101, 5))
_FOREST, _NEAREST = "forest on features", "nearest patch on the ground"


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

    @property
    def verdict(self) -> Verdict:
        """What the map will be beside validation, where distances are all that is known.

        "as hard" where W is at most a quarter of the map's mean distance.
        """
        if self.wasserstein <= _SAME * self.wanted.mean():
            return "as hard"
        if abs(self.easier) <= _SAME:
            return "unknown"
        return "harder" if self.easier > 0 else "easier"


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
    patches: PatchSet,
    split: Split | None,
    features: np.ndarray,
    origins: Origins = (),
    to_map: Origins = (),
    seed: int = 0,
) -> list[Finding]:
    """Whether a score on validation patches holds for what is to be mapped.

    Looked at on the ground, and among features (`outcrop.models.features.statistics`, brought to
    mean 0 and variance 1 on the training side) where what is to be mapped can be read: how far the
    nearest training patch is, and how often two stand-in models are right at such distances
    (`outcrop.auditing.falloff`): a forest on features, and the nearest patch on the ground.

    Args:
        split: whose validation side is looked at; without it there is nothing to say.
        features: `N × F`, of the patches.
        origins: what the patches were cut from, if it can be read (`open_origins`).
        to_map: what is to be mapped; the patches' own sources if not given.
        seed: of the samples.
    """
    if split is None or patches.positions is None or not patches.sources:
        return []
    taught, judged = split.train, split.validation
    if not len(taught) or not len(judged):
        return []
    read = to_map or origins
    sources = tuple(map(Source.of, to_map)) or patches.sources
    places = places_to_map(patches, _PLACES, sources)
    wanted = None
    if read:
        places, wanted = _look(read, places, patches)
    if not len(places):
        return []
    at, source = coordinates(patches.positions), patches.positions.source
    some = np.sort(np.random.default_rng(seed).permutation(taught)[:_TAUGHT])
    spaces = [at]
    if wanted is not None:
        known, unknown, new, every = _scaled(features[some], features[judged], wanted, features)
        spaces.append(every)
    seen = falloff(at, patches.labels, forest(features, patches.labels, seed), spaces, source, seed)
    found = []
    if not (patches.from_volume and to_map):  # other volumes share no ground
        found += _on_ground(patches, taught, judged, places, seen[:1], seed)
    if wanted is not None:
        hardness = compare_distances(unknown, new, known)
        biases = {_FOREST: seen[1].bias(hardness.validation, hardness.wanted)} if seen else {}
        found.append(_finding("map-features", hardness, "among features", biases=biases))
    return found


def _on_ground(
    patches: PatchSet,
    taught: np.ndarray,
    judged: np.ndarray,
    places: Places,
    trees: Sequence[Falloff],
    seed: int,
) -> list[Finding]:
    """Distances on the ground, in volumes only where training patches are."""
    assert patches.positions is not None
    source = patches.positions.source
    if patches.from_volume:
        here = np.unique(source[taught])
        judged = judged[np.isin(source[judged], here)]
        places = places[np.isin(places.source, here)]
        if not len(judged):
            return []
    at, labels = coordinates(patches.positions), patches.labels
    hardness = compare_distances(at[judged], places.at, at[taught])
    ground = falloff(at, labels, interpolator(at, labels), [at], source, seed)
    biases, final = (
        {
            name: one.bias(hardness.validation, wanted)
            for name, (one,) in ((_FOREST, trees), (_NEAREST, ground))
        }
        if trees
        else {}
        for wanted in (hardness.wanted, nearest(places.at, at))
    )
    return [_finding("map-ground", hardness, "on the ground", patches.unit, biases, final)]


def _look(origins: Origins, places: Places, patches: PatchSet) -> tuple[Places, np.ndarray]:
    """The places where there is data, and the features of the patches around them."""
    kept, found = [], []
    for number, origin in enumerate(origins):
        with origin.reader() as reader:
            for i in np.flatnonzero(places.source == number):
                patch = _patch_around(reader, places.pixel[i], patches)
                if patch is not None and not np.isnan(patch).all():
                    kept.append(i)
                    found.append(statistics(patch[None]))
    features = np.concatenate(found) if found else np.empty((0, 0), np.float32)
    return places[np.array(kept, np.int64)], np.nan_to_num(features)


def _patch_around(
    reader: SceneReader | VolumeReader, pixel: np.ndarray, patches: PatchSet
) -> np.ndarray | None:
    """The patch around a pixel; in a volume wholly inside, and across the commonest axis."""
    height, width = patches.size
    if isinstance(reader, SceneReader):
        row, column = map(int, pixel)
        if height > reader.scene.height or width > reader.scene.width:
            return None
        patch = reader.read(upper_left(row, height), upper_left(column, width), height, width)
        return patch if np.isfinite(patch[:, height // 2, width // 2]).all() else None
    assert patches.positions is not None
    axis = int(np.bincount(patches.positions.axis).argmax())
    extent = np.insert(patches.size, axis, 1)
    room = np.subtract(reader.volume.shape, extent)
    if (room < 0).any():
        return None
    z, y, x = np.clip(pixel - extent // 2, 0, room).tolist()
    box = reader.box((z, y, x), (z + extent[0], y + extent[1], x + extent[2]))
    return box.reshape(1, height, width)


def _scaled(known: np.ndarray, *others: np.ndarray) -> list[np.ndarray]:
    """Features brought to mean 0 and variance 1 on the training side."""
    mean, deviation = known.mean(axis=0), known.std(axis=0)
    deviation = np.where(deviation > 0, deviation, 1)
    return [(one - mean) / deviation for one in (known, *others)]


def _finding(
    check: str,
    hardness: Hardness,
    where: str,
    unit: str = "",
    biases: Mapping[str, Bias] = MappingProxyType({}),
    final: Mapping[str, Bias] = MappingProxyType({}),
) -> Finding:
    """One space in words.

    Args:
        biases: of each stand-in model, for the map of the model that the training side gives.
        final: for the map of a model that learns from all patches.
    """
    validation, wanted = (
        f"{float(f'{x.mean():.3g}'):g} {unit}".rstrip()
        for x in (hardness.validation, hardness.wanted)
    )
    numbers: dict[str, Any] = {
        "unit": unit or "deviations",
        "wasserstein": round(hardness.wasserstein, 4),
        "easier": round(hardness.easier, 4),
        "percent": list(_QUANTILES),
        "validation": np.percentile(hardness.validation, _QUANTILES).round(4).tolist(),
        "wanted": np.percentile(hardness.wanted, _QUANTILES).round(4).tolist(),
        "points": {name: bias.to_json() for name, bias in biases.items()},
        "points_final": {name: bias.to_json() for name, bias in final.items()},
    }
    means = (
        f"{where} its places are {wanted} from the nearest training patch, validation patches "
        f"{validation} (means)"
    )
    verdicts = [bias.verdict for bias in biases.values()] or [hardness.verdict]
    said = [_words(bias.verdict, bias) for bias in biases.values()] or [_words(verdicts[0])]
    headline = said[0]
    if unit and not biases and verdicts[0] in ("harder", "easier"):
        headline += " for a model that interpolates"
    elif verdicts[-1] not in (verdicts[0], "unknown"):
        headline += f", but {said[-1]} for a model that interpolates"
    title = f"{headline}: {means}"
    if biases:
        title += f"; points that the score is too high: {_points(biases)}"
    if any(final[name].verdict != biases[name].verdict for name in final):
        title += f"; for a map from all patches: {_points(final)}"
    beyond = max((bias.beyond for bias in biases.values()), default=0.0)
    if beyond:
        title += f"; {share(beyond)} of the map is further away than patches can be held out"
    matching = "`outcrop split --by matching`"
    if verdicts[0] == "harder":
        remedy = f"judge at the distances of the map: {matching}"
        return Finding(check, "warning", title, remedy, numbers)
    if verdicts[0] == "unknown" and beyond > _BEYOND:
        remedy = "label some of what lies further away, or map less"
        return Finding(check, "warning", title, remedy, numbers)
    remedies = {
        "easier": f"expect more than the score, or use {matching}",
        "unknown": "label where the map is to be, or more pieces of ground",
    }
    remedy = next((remedies[one] for one in verdicts if one in remedies), "")
    return Finding(check, "note", title, remedy, numbers)


def _words(verdict: Verdict, bias: Bias | None = None) -> str:
    """A verdict in words, with the points where they are known."""
    if verdict == "as hard":
        return "validation is about as hard as the map"
    if verdict == "unknown":
        return "how hard the map will be is unknown"
    least = "at least" if bias is not None and bias.beyond > _BEYOND else "about"
    points = "" if bias is None else f" by {least} {abs(bias.value):.0f} points"
    return f"the map will be {verdict}{points}"


def _points(biases: Mapping[str, Bias]) -> str:
    return ", ".join(
        f"{name} {bias.value:+.0f} [{bias.low:+.0f}, {bias.high:+.0f}]"
        if math.isfinite(bias.low)
        else f"{name} {bias.value:+.0f} [unknown]"
        for name, bias in biases.items()
    )
