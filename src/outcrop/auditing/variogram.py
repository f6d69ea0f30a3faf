"""The variogram of random pixels, and the range of spatial autocorrelation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.random import Generator

from outcrop.patches.patchset import PatchSet
from outcrop.patches.positions import in_slice, upper_left
from outcrop.sources.scene import Scene, SceneReader
from outcrop.sources.volumes.volume import Volume, VolumeReader
from outcrop.splits.geometry import coordinates, pixel_coordinates

BINS = 20
_PAIRS = 30
_STARTS = (0.03, 0.2)
_SILL = 0.95
_UNCORRELATED = 0.9
_HALF = 0.5
_POINTS = 1536
_PATCHES = 512
_WINDOWS = 24
_EACH = _POINTS // _WINDOWS
_SQUARE = 64
_BEAM, _SHORT = 2, 16

Draw = tuple[np.ndarray, np.ndarray]
"""Coordinates, float64 `n × D`, and values, float64 `n` or `n × fields`, of random points."""
Sources = Sequence[Scene | Volume]


@dataclass(frozen=True)
class Variogram:
    """Semivariance of values by the distance between them.

    Attributes:
        lags: float64, `M`, distances, in the unit of the coordinates.
        gamma: float64, `M`, half the mean squared difference at each lag, divided by the variance:
            0 for equal values, about 1 for uncorrelated values.
        range: practical range: the distance at which the fitted model reaches 95 % of its sill.
            0 if even the nearest values are uncorrelated; infinite if `gamma` still rises at the
            longest lag.
        model: "Exponential", "Spherical" or "Gaussian"; "" if none was fitted.
    """

    lags: np.ndarray
    gamma: np.ndarray
    range: float
    model: str

    @property
    def two_thirds(self) -> float:
        """First lag at which `gamma` reaches a third of its value far away.

        At smaller distances values share two thirds of their variance. "Far away" is the mean over
        the longer half of the lags.
        """
        far = self.gamma[len(self.gamma) // 2 :].mean()
        return float(self.lags[np.argmax(self.gamma >= far / 3)])


def variogram(
    draws: Sequence[Draw],
    shortest: float,
    longest: float = np.inf,
    direction: np.ndarray | None = None,
    robust: bool = True,
) -> Variogram | None:
    """Estimate the variogram of a field from several random draws of points.

    Lags are binned on a logarithmic scale, from `shortest` to half of `longest`. Bins with fewer
    than 30 pairs are left out (Journel and Huijbregts 1978, Mining Geostatistics, III.42). An
    exponential, a spherical and a Gaussian model, each with a nugget, are fitted to the mean over
    the draws.

    Sources: Cressie and Hawkins (1980), Robust estimation of the variogram I, Mathematical Geology
    12, 115-125 (robust estimator); Matheron (1962) (the other). Both are computed by gstools.

    Args:
        draws: random points. The variogram of several fields is the mean of their variograms.
        shortest: smallest distance between any two points.
        longest: longest side of a source; the extent of the points is used if that is smaller.
        direction: `D`, direction of the pairs, within 22.5°; all directions by default.
        robust: whether to use the estimator of Cressie and Hawkins, which tolerates outliers. The
            estimator of Matheron suits indicators.

    Returns:
        The variogram; None if the values do not vary or fewer than five bins have enough pairs.
    """
    fields = [(at, np.reshape(values.T, (-1, len(at)))) for at, values in draws]
    variance = np.mean([one.var(axis=1).mean() for _, one in fields])
    longest = _HALF * min(longest, max(np.ptp(at, axis=0).max() for at, _ in fields))
    if not variance > 0 or not longest > shortest:
        return None
    edges = np.geomspace(0.9 * shortest, longest, BINS + 1)
    middle = np.sqrt(edges[1:] * edges[:-1])
    each = np.stack([_estimate(at, one, edges, direction, robust) for at, one in fields]) / variance
    kept = np.isfinite(each).sum(axis=0) * 2 > len(each)
    if kept.sum() < 5:
        return None
    lags, gamma = middle[kept], np.nanmean(each[:, kept], axis=0)
    near, far = gamma[:3].mean(), gamma[len(gamma) // 2 :].mean()
    best = None if near > _UNCORRELATED * far else _fit(lags, gamma)
    if best is None or best[0] <= lags[0]:
        return Variogram(lags, gamma, 0.0, "")
    reach, model = best
    return Variogram(lags, gamma, reach if reach <= longest else np.inf, model)


def _estimate(
    at: np.ndarray,
    fields: np.ndarray,
    edges: np.ndarray,
    direction: np.ndarray | None,
    robust: bool,
) -> np.ndarray:
    """Semivariance in every bin; NaN if there are too few pairs."""
    from gstools import vario_estimate

    _, gamma, pairs = vario_estimate(
        at.T,
        list(fields),
        edges,
        estimator="cressie" if robust else "matheron",
        direction=None if direction is None else [direction],
        return_counts=True,
    )
    return np.where(pairs >= _PAIRS * len(fields), gamma, np.nan)


def _fit(lags: np.ndarray, gamma: np.ndarray) -> tuple[float, str] | None:
    """Practical range and name of the model that fits best; None if none can be fitted."""
    from gstools import Exponential, Gaussian, Spherical

    longest, top = lags.max(), gamma.max()
    best, best_r2 = None, -np.inf
    for kind, start in product((Exponential, Spherical, Gaussian), _STARTS):
        model = kind(dim=1)
        model.set_arg_bounds(
            check_args=False, len_scale=[0, 3, "cc"], var=[0, 9, "cc"], nugget=[0, 9, "cc"]
        )
        guess = {"len_scale": start, "var": top / 2, "nugget": top / 10}
        try:
            _, _, r2 = model.fit_variogram(lags / longest, gamma, init_guess=guess, return_r2=True)
        except (RuntimeError, ValueError):  # no optimum found from this start
            continue
        if r2 > best_r2:
            best, best_r2 = (float(model.percentile_scale(_SILL) * longest), kind.__name__), r2
    return best


# Random pixels


def draw_from_patches(patches: PatchSet, seed: int, draws: int) -> list[Draw]:
    """Random pixels of patches: about 1500 pixels of up to 512 patches in each draw.

    Returns:
        Coordinates (`outcrop.splits.geometry.coordinates`) and values, `n × bands`, without pixels
        that have no data.
    """
    assert patches.positions is not None
    rng = np.random.default_rng(seed)
    height, width = patches.size
    found = []
    for _ in range(draws):
        count = min(_PATCHES, len(patches))
        index = np.sort(rng.choice(len(patches), count, replace=False))
        each = min(_POINTS // count, height * width)
        pixel = rng.permuted(np.tile(np.arange(height * width), (count, 1)), axis=1)[:, :each]
        row, column = np.divmod(pixel, width)
        values = patches.take(index)[np.arange(count)[:, None], :, row, column]
        at = _coordinates_in_patches(patches, index, row, column)
        found.append(_with_data(at.reshape(-1, at.shape[-1]), values.reshape(row.size, -1)))
    return found


def draw_from_sources(
    patches: PatchSet, opened: Sources, seed: int, draws: int, axis: int | None = None
) -> list[Draw]:
    """As `draw_from_patches`, for scenes or volumes: 64 pixels of each of 24 windows in each draw.

    Random windows of scenes are squares of 64 pixels. Those of volumes are beams along one axis, 2
    voxels wide. Every second beam is as long as the volume and the others are 16 voxels long. So
    pairs of voxels have all distances, from neighbours to the length of the volume.

    Args:
        opened: sources of the patches, opened.
        axis: axis along which beams run in volumes.
    """
    rng = np.random.default_rng(seed)
    size = np.array([np.prod(source.shape, dtype=float) for source in patches.sources])
    windows = rng.multinomial(_WINDOWS, size / size.sum(), draws)
    parts: list[list[Draw]] = [[] for _ in range(draws)]
    for number, (source, scene) in enumerate(zip(patches.sources, opened, strict=True)):
        draw = np.repeat(np.arange(draws), windows[:, number])
        if not len(draw):
            continue
        with scene.reader() as reader:
            read = [
                _read_window(reader, source.shape, _window_size(source.shape, axis, window), rng)
                for window in range(len(draw))
            ]
        pixel, values = (np.concatenate(part) for part in zip(*read, strict=True))
        at = pixel_coordinates(source, number, pixel, patches.crs_of(number))
        for one in np.unique(draw):
            here = np.repeat(draw == one, _EACH)
            parts[one].append(_with_data(at[here], values[here]))
    return [
        (np.concatenate([at for at, _ in part]), np.concatenate([values for _, values in part]))
        for part in parts
    ]


def _window_size(shape: tuple[int, ...], axis: int | None, number: int) -> np.ndarray:
    """Lengths of the window with that number in a scene or a volume."""
    sides = np.full(len(shape), _SQUARE if axis is None else _BEAM)
    if axis is not None:
        sides[axis] = shape[axis] if number % 2 else _SHORT
    return np.minimum(sides, shape)


def _read_window(
    reader: SceneReader | VolumeReader, shape: tuple[int, ...], size: np.ndarray, rng: Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Random pixels of a random window: rows and columns (or voxels), and values."""
    corner = rng.integers(0, np.subtract(shape, size) + 1)
    pixel = rng.integers(0, size, (_EACH, len(shape)))
    if isinstance(reader, VolumeReader):
        z, y, x = map(int, corner)
        box = reader.box((z, y, x), (z + size[0], y + size[1], x + size[2]))
        return corner + pixel, box[tuple(pixel.T)][:, None]
    bands = reader.read(*map(int, corner), *map(int, size))
    return corner + pixel, bands[:, pixel[:, 0], pixel[:, 1]].T


def first_component(draws: Sequence[Draw]) -> list[Draw]:
    """The first principal component of the bands, after each band is scaled to variance 1."""
    every = np.concatenate([values for _, values in draws])
    deviation = every.std(axis=0)
    scaled = (every - every.mean(axis=0)) / np.where(deviation > 0, deviation, 1)
    _, axes = np.linalg.eigh(scaled.T @ scaled)
    scores = np.split(scaled @ axes[:, -1], np.cumsum([len(at) for at, _ in draws])[:-1])
    return [(at, score) for (at, _), score in zip(draws, scores, strict=True)]


def pixel_size(patches: PatchSet) -> float:
    """Smallest distance between pixels of a patch, in the patch set's unit."""
    assert patches.positions is not None
    if patches.from_volume:
        return 1.0
    height, width = patches.size
    sides = patches.positions.height.min() / height, patches.positions.width.min() / width
    return float(min(sides))


def _coordinates_in_patches(
    patches: PatchSet, index: np.ndarray, row: np.ndarray, column: np.ndarray
) -> np.ndarray:
    """Coordinates of pixels of patches, `n × each × D`."""
    assert patches.positions is not None
    positions = patches.positions[index]
    at = np.repeat(coordinates(positions)[:, None], row.shape[1], axis=1)
    height, width = patches.size
    if not patches.from_volume:
        top, left = upper_left(positions.row, height), upper_left(positions.column, width)
        pixel = np.stack([top[:, None] + row, left[:, None] + column], axis=-1)
        for number in np.unique(positions.source):
            here, source = positions.source == number, patches.sources[number]
            crs = patches.crs_of(number)
            flat = pixel_coordinates(source, number, pixel[here].reshape(-1, 2), crs)
            at[here] = flat.reshape(*row[here].shape, 2)
        return at
    for axis in range(3):
        here = positions.axis == axis
        down, right = in_slice(axis)
        at[here, :, down] += row[here] - (height - 1) / 2
        at[here, :, right] += column[here] - (width - 1) / 2
    return at


def _with_data(at: np.ndarray, values: np.ndarray) -> Draw:
    values = values.astype(np.float64)
    valid = np.isfinite(values).all(axis=1)
    return at[valid], values[valid]
