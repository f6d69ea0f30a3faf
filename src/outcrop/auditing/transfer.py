"""Whether a validation score transfers to the map: distances of both, and accuracy at them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from outcrop.auditing.check import Check, Context, Finding, share
from outcrop.auditing.falloff import Bias, Falloff, Verdict, falloff, forest, interpolator
from outcrop.auditing.variogram import Sources
from outcrop.models.features import statistics
from outcrop.patches.patchset import PatchSet
from outcrop.patches.positions import Source, upper_left
from outcrop.sources.scene import SceneReader
from outcrop.sources.volumes.volume import VolumeReader
from outcrop.splits.geometry import PredictionPoints, coordinates, nearest, prediction_points

_POINTS = 1000
_COMPARED = 32
_TRAINED_ON = 10_000
_SAME = 0.25
_BEYOND = 0.1
_QUANTILES = tuple(range(0, 101, 5))
_FOREST, _NEAREST = "forest on features", "nearest patch on the ground"  # names in audit files
_WORDS = {_FOREST: _FOREST, _NEAREST: "nearest patch"}


@dataclass(frozen=True)
class Distances:
    """Distances of the validation patches and of the map to the training patches.

    Attributes:
        validation, wanted: float64, nearest-neighbour distances from validation patches and from
            pixels to be mapped to training patches.
        wasserstein: W, the area between the two distribution functions, in the same unit. It is
            the mean distance by which one distribution must be moved to become the other.
    """

    validation: np.ndarray
    wanted: np.ndarray
    wasserstein: float

    @property
    def easier(self) -> float:
        """How much nearer validation is than the map on average, as a fraction of the latter.

        0 if both are equally far, 1 if validation patches are training patches, negative if they
        are further than the map.
        """
        mean = self.wanted.mean()
        return float(1 - self.validation.mean() / mean) if mean > 0 else 0.0

    @property
    def verdict(self) -> Verdict:
        """Difficulty of the map compared with validation, if only distances are known.

        "as hard" if W is at most a quarter of the map's mean distance.
        """
        if self.wasserstein <= _SAME * self.wanted.mean():
            return "as hard"
        if abs(self.easier) <= _SAME:
            return "unknown"
        return "harder" if self.easier > 0 else "easier"


def compare_distances(validation: np.ndarray, wanted: np.ndarray, train: np.ndarray) -> Distances:
    """Compare the nearest-neighbour distances of validation and map to training patches.

    Source: Milà et al. (2022), Nearest neighbour distance matching leave-one-out cross-validation,
    Methods in Ecology and Evolution 13, 1304-1316; W from Linnenbrink et al. (2024), kNNDM,
    Geoscientific Model Development 17, 5897-5912, equation 4.

    Args:
        validation, wanted, train: `V × D`, `M × D`, `T × D`, coordinates or features.
    """
    from scipy.stats import wasserstein_distance

    one, other = nearest(validation, train), nearest(wanted, train)
    return Distances(one, other, float(wasserstein_distance(one, other)))


class TransferCheck(Check):
    """Whether the score of the validation patches holds for the map.

    It compares distances to the nearest training patch, in space and, if the scenes to be mapped
    can be read, in feature space (`outcrop.models.features.statistics`, scaled to mean 0 and
    variance 1 on the training side). Two simple models give the accuracy at such distances
    (`outcrop.auditing.falloff`): a forest on features, and the class of the nearest patch.
    """

    name, needs, rank = "map", ("images", "positions", "sources", "split"), 110

    def run(self, context: Context) -> Iterator[Finding]:
        """One finding for space ("map-ground") and one for features ("map-features").

        If patches do not have the values of their sources, "map-values" replaces the latter.
        """
        patches, split, features = context.patches, context.split, context.features
        assert patches.positions is not None and split is not None  # noqa: PT018
        train, held_out = split.train, split.validation
        if not len(train) or not len(held_out):
            return
        opened = context.to_map or context.sources
        sources = tuple(map(Source.of, context.to_map)) or patches.sources
        points = prediction_points(patches, _POINTS, sources)
        wanted = None
        if opened:
            points, wanted = _read_points(opened, points, patches)
        foreign = _other_values(context.sources, patches, context.seed)
        if foreign:
            wanted = None
        if not len(points):
            return
        at, source = coordinates(patches.positions), patches.positions.source
        some = np.sort(np.random.default_rng(context.seed).permutation(train)[:_TRAINED_ON])
        spaces = [at]
        if wanted is not None:
            known, unknown, new, every = _scaled(
                features[some], features[held_out], wanted, features
            )
            spaces.append(every)
        model = forest(features, patches.labels, context.seed)
        of_forest = falloff(at, patches.labels, model, spaces, source, context.seed)
        if not (patches.from_volume and context.to_map):  # volumes share no coordinates
            yield from _in_space(patches, train, held_out, points, of_forest[:1], context.seed)
        if wanted is not None:
            distances = compare_distances(unknown, new, known)
            biases = {}
            if of_forest:
                biases[_FOREST] = of_forest[1].bias(distances.validation, distances.wanted)
            yield _finding("map-features", distances, "", biases, {})
        if foreign:
            yield foreign


def _in_space(
    patches: PatchSet,
    train: np.ndarray,
    held_out: np.ndarray,
    points: PredictionPoints,
    of_forest: Sequence[Falloff],
    seed: int,
) -> list[Finding]:
    """Distances in space; in volumes only in those that have training patches."""
    assert patches.positions is not None
    source = patches.positions.source
    if patches.from_volume:
        here = np.unique(source[train])
        held_out = held_out[np.isin(source[held_out], here)]
        points = points[np.isin(points.source, here)]
        if not len(held_out):
            return []
    at, labels = coordinates(patches.positions), patches.labels
    distances = compare_distances(at[held_out], points.at, at[train])
    of_nearest = falloff(at, labels, interpolator(at, labels), [at], source, seed)
    # Both are empty if there are too few positions.
    models = dict(zip((_FOREST, _NEAREST), (*of_forest, *of_nearest), strict=False))
    biases, final = (
        {name: one.bias(distances.validation, wanted) for name, one in models.items()}
        for wanted in (distances.wanted, nearest(points.at, at))
    )
    return [_finding("map-ground", distances, patches.unit, biases, final)]


def _other_values(sources: Sources, patches: PatchSet, seed: int) -> Finding | None:
    """A finding if the patches do not have the values of their sources, such as grey values.

    A few patches are compared by mean and standard deviation, whatever their orientation.
    """
    at = patches.positions
    if not sources or at is None:
        return None
    some, spreads = np.random.default_rng(seed).permutation(len(patches))[:_COMPARED], []
    for number in np.unique(at.source[some]):
        with sources[number].reader() as reader:
            for k in some[at.source[some] == number]:
                pixel, axis = np.array((at.row[k], at.column[k])), int(at.axis[k])
                pixel = np.insert(pixel, axis, at.index[k]) if patches.from_volume else pixel
                window = _patch_around(reader, pixel, patches.size, axis)
                image = patches.take(np.array([k]))[0]
                if window is None:
                    continue
                known = np.isfinite(image) & np.isfinite(window)
                if known.any() and np.ptp(window[known]) > 0:
                    spreads.append(
                        [f(x[known]) for x in (image, window) for f in (np.mean, np.std)]
                    )
    if not spreads:
        return None
    mean, spread, mean_there, spread_there = np.median(spreads, axis=0)
    if abs(mean - mean_there) <= _SAME * spread_there and abs(spread / spread_there - 1) <= _SAME:
        return None
    return Finding(
        "map-values",
        "warning",
        f"the values of the patches are not those of their source (mean {mean:.3g}, standard "
        f"deviation {spread:.3g}; there {mean_there:.3g} and {spread_there:.3g}): features of the "
        "map cannot be compared, and a map would be wrong",
        "cut the patches from the source: `outcrop locate --patches-output`",
        {
            "mean": [float(mean), float(mean_there)],
            "deviation": [float(spread), float(spread_there)],
        },
    )


def _read_points(
    opened: Sources, points: PredictionPoints, patches: PatchSet
) -> tuple[PredictionPoints, np.ndarray]:
    """The points with data, and the features of the patches around them."""
    assert patches.positions is not None
    common = int(np.bincount(patches.positions.axis).argmax()) if patches.from_volume else -1
    kept, found = [], []
    for number, source in enumerate(opened):
        with source.reader() as reader:
            for i in np.flatnonzero(points.source == number):
                patch = _patch_around(reader, points.pixel[i], patches.size, common)
                if patch is not None and not np.isnan(patch).all():
                    kept.append(i)
                    found.append(statistics(patch[None]))
    features = np.concatenate(found) if found else np.empty((0, 0), np.float32)
    return points[np.array(kept, np.int64)], np.nan_to_num(features)


def _patch_around(
    reader: SceneReader | VolumeReader, pixel: np.ndarray, size: tuple[int, int], axis: int
) -> np.ndarray | None:
    """The patch around a pixel; in a volume inside it, perpendicular to an axis."""
    height, width = size
    if isinstance(reader, SceneReader):
        row, column = map(int, pixel)
        if height > reader.scene.height or width > reader.scene.width:
            return None
        patch = reader.read(upper_left(row, height), upper_left(column, width), height, width)
        return patch if np.isfinite(patch[:, height // 2, width // 2]).all() else None
    extent = np.insert(size, axis, 1)
    room = np.subtract(reader.volume.shape, extent)
    if (room < 0).any():
        return None
    z, y, x = np.clip(pixel - extent // 2, 0, room).tolist()
    box = reader.box((z, y, x), (z + extent[0], y + extent[1], x + extent[2]))
    return box.reshape(1, height, width)


def _scaled(known: np.ndarray, *others: np.ndarray) -> list[np.ndarray]:
    """Features scaled to mean 0 and variance 1 on the training side."""
    mean, deviation = known.mean(axis=0), known.std(axis=0)
    deviation = np.where(deviation > 0, deviation, 1)
    return [(one - mean) / deviation for one in (known, *others)]


def _finding(
    check: str,
    distances: Distances,
    unit: str,
    biases: Mapping[str, Bias],
    final: Mapping[str, Bias],
) -> Finding:
    """The finding for space, or for feature space if there is no unit.

    Args:
        biases: bias of each simple model, for the map of the model of the training side.
        final: bias for the map of a model that is trained on all patches.
    """
    validation, wanted = (
        f"{float(f'{x.mean():.3g}'):g} {unit}".rstrip()
        for x in (distances.validation, distances.wanted)
    )
    numbers: dict[str, Any] = {
        "unit": unit or "deviations",
        "wasserstein": round(distances.wasserstein, 4),
        "easier": round(distances.easier, 4),
        "percent": list(_QUANTILES),
        "validation": np.percentile(distances.validation, _QUANTILES).round(4).tolist(),
        "wanted": np.percentile(distances.wanted, _QUANTILES).round(4).tolist(),
        "points": {name: bias.to_json() for name, bias in biases.items()},
        "points_final": {name: bias.to_json() for name, bias in final.items()},
    }
    means = (
        f"the mean {'' if unit else 'feature '}distance to the nearest training patch is {wanted} "
        f"for the map and {validation} for validation patches"
    )
    verdicts = [bias.verdict for bias in biases.values()] or [distances.verdict]
    each = [_words(bias.verdict, bias) for bias in biases.values()] or [_words(verdicts[0])]
    headline = f"the map is {each[0]}"
    if unit and not biases and verdicts[0] in ("harder", "easier"):
        headline += " for a model that interpolates"
    elif verdicts[-1] not in (verdicts[0], "unknown"):
        headline += f", but {each[-1]} for a model that interpolates"
    title = f"{headline}: {means}"
    if biases:
        title += f"; bias of the score in points: {_points(biases)}"
    if any(final[name].verdict != biases[name].verdict for name in final):
        title += f"; for a map by a model of all patches: {_points(final)}"
    beyond = max((bias.beyond for bias in biases.values()), default=0.0)
    if beyond:
        title += f"; {share(beyond)} of the map is further away than any held-out patch"
    matching = "`outcrop split --by matching`"
    if verdicts[0] == "harder":
        remedy = f"validate at the distances of the map: {matching}"
        return Finding(check, "warning", title, remedy, numbers)
    if verdicts[0] == "unknown" and beyond > _BEYOND:
        remedy = "label patches further away, or map a smaller area"
        return Finding(check, "warning", title, remedy, numbers)
    remedies = {
        "easier": f"expect a higher accuracy than the score, or use {matching}",
        "unknown": "label patches in the area of the map, or in more places",
    }
    remedy = next((remedies[one] for one in verdicts if one in remedies), "")
    return Finding(check, "note", title, remedy, numbers)


def _words(verdict: Verdict, bias: Bias | None = None) -> str:
    """A verdict in words, as what the map is, with the points if they are known."""
    if verdict == "as hard":
        return "about as hard as validation"
    if verdict == "unknown":
        return "of unknown difficulty"
    least = "at least" if bias is not None and bias.beyond > _BEYOND else "about"
    points = "" if bias is None else f" by {least} {abs(bias.value):.0f} points"
    return f"{verdict} than validation{points}"


def _points(biases: Mapping[str, Bias]) -> str:
    return ", ".join(
        f"{_WORDS[name]} {bias.value:+.0f} [{bias.low:+.0f}, {bias.high:+.0f}]"
        if math.isfinite(bias.low)
        else f"{_WORDS[name]} {bias.value:+.0f} [unknown]"
        for name, bias in biases.items()
    )
