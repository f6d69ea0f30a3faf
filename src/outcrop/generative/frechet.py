"""How far the features of generated pictures lie, as a whole, from those of real ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import qr, svdvals
from scipy.stats import t

from outcrop.errors import OutcropError
from outcrop.generative.vectors import refuse_unlike, vectors

_BLOCKS = 20


def frechet_distance(real: np.ndarray, generated: np.ndarray) -> float:
    """The squared Fréchet distance between Gaussians fitted to two sets of features.

    It is not the FID and must not be given as one: that is made of one Inception network's features
    (Heusel et al. 2017), these come from whatever network of outcrop's saw the pictures. It only
    compares with distances in features of the same network.

    It grows as the sets shrink (Chong and Forsyth 2020, arXiv:1911.07023). So hold it against
    `frechet_floor` at the same numbers of pictures, or take `frechet_at_infinity`.

    Sources: Dowson and Landau 1982 (Journal of Multivariate Analysis 12, 450-455); Heusel et al.
    2017 (arXiv:1706.08500), eq. 6. The trace of the root of the product of two covariances RᵀR and
    SᵀS is the sum of the singular values of RSᵀ, which takes no root and holds for singular ones.

    Args:
        real: float, `N × F`.
        generated: float, `M × F`.

    Returns:
        0 or more, in squared units of the features.

    Raises:
        OutcropError: fewer than two pictures in a set, other numbers of features, or features that
            are not finite.

    >>> real = np.array([[-1.0], [1.0]])
    >>> round(frechet_distance(real, 2 * real + 3), 6)  # means 3 apart; deviations √2 and 2√2
    11.0
    """
    real = vectors(real, "features of real pictures", 2)
    generated = vectors(generated, "features of generated pictures", 2)
    refuse_unlike(real, generated, "real and generated pictures")
    (mean, root), (other_mean, other_root) = _gaussian(real), _gaussian(generated)
    apart = (
        np.sum((mean - other_mean) ** 2)
        + np.sum(root**2)
        + np.sum(other_root**2)
        - 2 * np.sum(svdvals(root @ other_root.T))
    )
    return max(float(apart), 0.0)


def frechet_floor(real: np.ndarray, size: int | None = None, seed: int = 0) -> float:
    """The distance between two disjoint samples of real pictures: no generator can promise less.

    Args:
        real: float, `N × F`.
        size: pictures in each sample, as many as were compared; None is half of all.
        seed: of the draw.

    Raises:
        OutcropError: fewer than two pictures in a sample, or more than half of all; and as for
            `frechet_distance`.
    """
    half = len(real) // 2
    size = half if size is None else size
    if not 2 <= size <= half:
        raise OutcropError(
            "size",
            f"two samples of {size} are not to be had of {len(real)} real pictures; take 2 to "
            f"{half}",
        )
    drawn = np.random.default_rng(seed).permutation(len(real))
    return frechet_distance(real[drawn[:size]], real[drawn[size : 2 * size]])


@dataclass(frozen=True)
class FrechetAtInfinity:
    """What the squared Fréchet distance would be between sets without end.

    Attributes:
        distance: may fall below 0 by chance where the truth is near it.
        low, high: the ends of the 95 % confidence interval.
    """

    distance: float
    low: float
    high: float


def frechet_at_infinity(
    real: np.ndarray,
    generated: np.ndarray,
    groups: np.ndarray | None = None,
    blocks: int = _BLOCKS,
    seed: int = 0,
) -> FrechetAtInfinity:
    """The squared Fréchet distance without the part that is due to the size of the sets.

    That part goes with one over the number of pictures (Chong and Forsyth 2020, arXiv:1911.07023).
    So it is found by leaving out one block after the other, of both sets at once, and the spread of
    what is left gives the interval. Wants several times as many pictures as features.

    Sources: the jackknife, Quenouille 1956 (Biometrika 43, 353-360) and Tukey 1958 (Annals of
    Mathematical Statistics 29, 614).

    Args:
        real: float, `N × F`.
        generated: float, `M × F`.
        groups: `N`, the piece of ground of each real picture, which blocks then hold together; None
            when each stands for itself.
        blocks: into how many each set is cut.
        seed: of the order in which pictures, or groups, fill the blocks.

    Raises:
        OutcropError: fewer pictures than two blocks hold, fewer than two blocks; and as for
            `frechet_distance`.
    """
    if not 2 <= blocks <= min(len(real), len(generated)) // 2:
        raise OutcropError(
            "blocks",
            f"{blocks} blocks of {len(real)} real and {len(generated)} generated pictures; take 2 "
            f"or more, of at least two pictures each",
        )
    random = np.random.default_rng(seed)
    whole = frechet_distance(real, generated)
    cuts = [
        np.array_split(_shuffled(groups, len(real), random), blocks),
        np.array_split(random.permutation(len(generated)), blocks),
    ]
    left = [
        frechet_distance(np.delete(real, one, axis=0), np.delete(generated, other, axis=0))
        for one, other in zip(*cuts, strict=True)
    ]
    pseudo = blocks * whole - (blocks - 1) * np.array(left)
    reach = t.ppf(0.975, blocks - 1) * pseudo.std(ddof=1) / np.sqrt(blocks)
    distance = float(pseudo.mean())
    return FrechetAtInfinity(distance, distance - float(reach), distance + float(reach))


def _shuffled(groups: np.ndarray | None, number: int, random: np.random.Generator) -> np.ndarray:
    """Indices in a random order in which the members of a group follow each other."""
    if groups is None:
        return random.permutation(number)
    names, group = np.unique(groups, return_inverse=True)
    return np.argsort(random.permutation(len(names))[group], kind="stable")


def _gaussian(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The mean, and an R of which RᵀR is the covariance."""
    features = features.astype(np.float64, copy=False)
    mean = features.mean(axis=0)
    (root,) = qr((features - mean) / np.sqrt(len(features) - 1), mode="r", check_finite=False)
    return mean, root[: features.shape[1]]
