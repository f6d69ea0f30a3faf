"""How far the ground resembles itself: the empirical variogram, and the range that it shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

BINS = 20
_PAIRS = 30
_STARTS = (0.03, 0.2)
_SILL = 0.95
_UNLIKE = 0.9
_HALF = 0.5

Draw = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Variogram:
    """How unlike values are, by the distance between them.

    Attributes:
        lags: float64, `M`, distances, in the unit of the coordinates.
        gamma: float64, `M`, half the mean squared difference there, over the variance: 0 where
            values are the same, about 1 where they have nothing in common.
        range: the distance from which on values are as good as unrelated: where the fitted model
            reaches 95 % of its sill (the practical range). 0 where even the nearest are
            unrelated; infinite where `gamma` still rises at the longest lag.
        low, high: the smallest and largest range that a model finds in a single draw, of those in
            the middle 80 %: what the draws add to the error. No interval of the range, which holds
            for other ground like this: it would have to be far wider.
        model: "Exponential", "Spherical" or "Gaussian"; "" where none was fitted.
    """

    lags: np.ndarray
    gamma: np.ndarray
    range: float
    low: float
    high: float
    model: str

    @property
    def alike(self) -> float:
        """The first lag at which values are a third as unlike as they become far away.

        Nearer than that two thirds of their variance are in common. Far away is the mean of the
        longer half of the lags.
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

    Lags are binned on a logarithmic scale, from `shortest` to half of `longest`; bins of fewer
    than 30 pairs are passed over (Journel and Huijbregts 1978, Mining Geostatistics, III.42). An
    exponential, a spherical and a Gaussian model, each with a nugget, are fitted to the mean over
    the draws, and the best one again to every draw.

    Source: Cressie and Hawkins (1980), Robust estimation of the variogram I, Mathematical Geology
    12, 115-125 (the robust estimator); Matheron (1962) (the other). Both by gstools.

    Args:
        draws: coordinates, float64 `N × D`, and values, float64 `N` or `N × fields`, of each draw.
            The variogram of several fields is the mean of theirs.
        shortest: the smallest distance between any two points.
        longest: the longest side of a source, or of what the points cover, if that is shorter.
        direction: `D`, look at pairs within 22.5° of this direction only.
        robust: estimate by Cressie and Hawkins, which bears outliers; else by Matheron, for
            indicators.

    Returns:
        The variogram, or None where the values do not vary or fewer than five bins have enough
        pairs.
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
    lags, each = middle[kept], each[:, kept]
    gamma = np.nanmean(each, axis=0)
    near, far = gamma[:3].mean(), gamma[len(gamma) // 2 :].mean()
    best = None if near > _UNLIKE * far else _fit(lags, gamma, list(_models()))
    if best is None or best[0] <= lags[0]:
        return Variogram(lags, gamma, 0.0, 0.0, 0.0, "")
    reach, model = best
    start = [min(reach / lags.max(), 1.0)]
    seen = [np.isfinite(one) for one in each]
    again = [
        _fit(lags[ok], one[ok], [model], start)
        for one, ok in zip(each, seen, strict=True)
        if ok.sum() > 4
    ]
    ranges = [one[0] for one in again if one is not None] or [reach]
    low, high = np.percentile(ranges, (10, 90), method="nearest")
    return Variogram(
        lags=lags,
        gamma=gamma,
        range=_or_beyond(reach, longest),
        low=max(min(float(low), _or_beyond(reach, longest)), lags[0]),
        high=max(_or_beyond(float(high), longest), _or_beyond(reach, longest)),
        model=model,
    )


def _or_beyond(reach: float, longest: float) -> float:
    return reach if reach <= longest else np.inf


def _estimate(
    at: np.ndarray,
    fields: np.ndarray,
    edges: np.ndarray,
    direction: np.ndarray | None,
    robust: bool,
) -> np.ndarray:
    """`gamma` in every bin; NaN where pairs are too few."""
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


def _models() -> dict[str, Any]:
    from gstools import Exponential, Gaussian, Spherical

    return {model.__name__: model for model in (Exponential, Spherical, Gaussian)}


def _fit(
    lags: np.ndarray, gamma: np.ndarray, names: Sequence[str], starts: Sequence[float] = _STARTS
) -> tuple[float, str] | None:
    """The practical range and the name of the model that fits best; None if none can be fitted."""
    kinds, longest, top = _models(), lags.max(), gamma.max()
    best, best_r2 = None, -np.inf
    for name in names:
        for start in starts:
            model = kinds[name](dim=1)
            model.set_arg_bounds(
                check_args=False, len_scale=[0, 3, "cc"], var=[0, 9, "cc"], nugget=[0, 9, "cc"]
            )
            guess = {"len_scale": start, "var": top / 2, "nugget": top / 10}
            try:
                _, _, r2 = model.fit_variogram(
                    lags / longest, gamma, init_guess=guess, return_r2=True
                )
            except (RuntimeError, ValueError):  # no optimum found from this start
                continue
            if r2 > best_r2:
                best, best_r2 = (float(model.percentile_scale(_SILL) * longest), name), r2
    return best
