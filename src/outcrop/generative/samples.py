"""Comparison of samples with real images: nearest neighbours, precision and recall, memorisation,
and the Fréchet distance of their features.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import qr, svdvals
from scipy.stats import rankdata, t
from sklearn.metrics import pairwise_distances_chunked
from sklearn.neighbors import NearestNeighbors

from outcrop.errors import OutcropError
from outcrop.metrics.intervals import (
    Interval,
    interval_of_share,
    resampled_counts,
    resampled_means,
    support,
)

_MEMORY = 128
_CHUNK_VALUES = 1 << 23
# Distances that differ by less than this share of the largest feature vector count as equal.
_SLACK = 1e-6
_RARE = 0.01
_BLOCKS = 20


def vectors(images: np.ndarray, which: str, least: int = 1) -> np.ndarray:
    """Images or features, flattened to rows.

    Args:
        images: `N × ...`, of any number type.
        which: their name in errors.
        least: minimum number.

    Returns:
        `N × F`, float32 if it holds all values of the type, otherwise float64.

    Raises:
        OutcropError: too few images, empty images, or values that are not finite.
    """
    images = np.asarray(images)
    if images.ndim < 2 or len(images) < least or not images[:1].size:
        raise OutcropError(
            which, f"have the shape {images.shape}; give {least} or more, each with values"
        )
    rows = images.reshape(len(images), -1)
    rows = rows.astype(np.result_type(rows.dtype, np.float32), copy=False)
    if not np.isfinite(rows).all():
        raise OutcropError(
            which, "are not all finite; leave out missing data, or check whether training diverged"
        )
    return rows


def refuse_unlike(one: np.ndarray, other: np.ndarray, which: str) -> None:
    """Raise an OutcropError if the rows of two sets differ in length."""
    if one.shape[1] != other.shape[1]:
        raise OutcropError(
            which,
            f"have {one.shape[1]} and {other.shape[1]} values each; compare images of one size, or "
            "features of one network",
        )


def nearest(
    queries: np.ndarray, references: np.ndarray, count: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """The references nearest to each query, by Euclidean distance.

    Args:
        queries: `N × ...`, images or features of any number type.
        references: `M × ...`.
        count: number of references per query, at most M.

    Returns:
        int64, `N × count`, indices into `references` by distance; the order of equal distances is
        arbitrary. float64, `N × count`, the distances; 0 for a copy.

    Raises:
        OutcropError: a set is empty or not finite, sizes differ, or there are fewer than `count`
            references.

    >>> indices, distances = nearest(np.array([[0, 9]]), np.array([[3, 5], [0, 8]]), 2)
    >>> indices, distances
    (array([[1, 0]]), array([[1., 5.]]))
    """
    queries, references = vectors(queries, "queries"), vectors(references, "references")
    refuse_unlike(queries, references, "queries and references")
    if not 1 <= count <= len(references):
        raise OutcropError("count", f"is {count} of {len(references)} references; take 1 or more")
    kind = np.result_type(queries, references)
    queries, references = queries.astype(kind, copy=False), references.astype(kind, copy=False)
    search = NearestNeighbors(n_neighbors=count, algorithm="brute").fit(references)
    indices = search.kneighbors(queries, return_distance=False)
    distances = np.empty(indices.shape)
    # Distances are computed from differences, because products of large values are not exact.
    step = max(1, _CHUNK_VALUES // (count * queries.shape[1]))
    for start in range(0, len(queries), step):
        part = slice(start, start + step)
        apart = queries[part, None].astype(np.float64) - references[indices[part]]
        distances[part] = np.sqrt(np.einsum("ijk,ijk->ij", apart, apart))
    order = np.argsort(distances, axis=1, kind="stable")
    return np.take_along_axis(indices, order, 1), np.take_along_axis(distances, order, 1)


@dataclass(frozen=True)
class SamplePrecisionRecall:
    """Precision and recall of generated images.

    Attributes:
        precision: share of generated images that lie among the real ones.
        recall: share of real images that lie among the generated ones.
    """

    precision: Interval
    recall: Interval


def sample_precision_recall(
    real: np.ndarray,
    generated: np.ndarray,
    neighbours: int = 3,
    groups: np.ndarray | None = None,
    draws: int = 2000,
    seed: int = 0,
) -> SamplePrecisionRecall:
    """Precision and recall of generated images, with 95 % intervals.

    An image lies among others if its distance to one of them is at most the distance of that one to
    its k-th nearest neighbour. An image that is repeated more than k times has a distance of 0.
    Both shares depend on the number of images. So take as many generated as real ones, and compare
    the shares with those of two halves of the real images, which are below 1. The intervals
    resample the images that lie among the others, not the others.

    Source: Kynkäänniemi et al. 2019 (arXiv:1904.06991), eq. 1-3. Distances that differ by less
    than a millionth of the largest feature vector, measured from the mean of the real ones, count
    as equal.

    Args:
        real: float, `N × F`, features.
        generated: float, `M × F`.
        neighbours: k.
        groups: `N`, the spatial group of each real image; None: all are independent.
        draws: number of bootstrap samples (see `outcrop.metrics.intervals`).
        seed: random seed of the bootstrap.

    Raises:
        OutcropError: a set has at most `neighbours` images, numbers of features differ, or features
            are not finite.

    >>> real, generated = np.array([[0.0], [1], [2], [9]]), np.array([[0.5], [1.5], [2.5], [50]])
    >>> found = sample_precision_recall(real, generated, neighbours=1)
    >>> found.precision.value, found.recall.value  # [50] has no neighbour within reach
    (0.75, 1.0)
    """
    if neighbours < 1:
        raise OutcropError("neighbours", f"is {neighbours}; take 1 or more, usually 3")
    real = vectors(real, "features of real images", neighbours + 1)
    generated = vectors(generated, "features of generated images", neighbours + 1)
    refuse_unlike(real, generated, "real and generated images")
    # Subtracting the mean keeps the products of the distances exact.
    middle = real.mean(axis=0, dtype=np.float64)
    real, generated = real - middle, generated - middle
    looks_real = _among(generated, real, neighbours)
    is_shown = _among(real, generated, neighbours)

    def share(inside: np.ndarray, groups: np.ndarray | None) -> Interval:
        drawn = resampled_counts(inside.astype(np.int64), 2, groups, draws, seed)
        shares = drawn[:, 1] / drawn.sum(axis=1)
        return interval_of_share(inside.mean(), shares, support(groups, len(inside)))

    return SamplePrecisionRecall(share(looks_real, None), share(is_shown, groups))


@dataclass(frozen=True)
class Memorisation:
    """Whether samples are closer to the training images than new images are.

    Attributes:
        nearer: probability that a sample is closer to its nearest training image than a held-out
            image is to its own; equal distances count half. 0.5 if nothing was copied.
        z: the same as the z-score of the paper: far below 0, for example -3, if training images
            were copied; far above 0 if samples are farther away than new images.
        copies: share of samples that are closer than all but 1 % of the held-out images; about 0.01
            if nothing was copied. It shows a few copies, which `nearer` averages out.
        training_side: share of samples that are closer to the training images than to the held-out
            ones; equal distances count half. Its interval counts samples with the same nearest
            image as one.
        expected_side: that share if nothing was copied: the training images' share of all.
    """

    nearer: Interval
    z: float
    copies: float
    training_side: Interval
    expected_side: float


def memorised(
    samples: np.ndarray,
    train: np.ndarray,
    held_out: np.ndarray,
    groups: np.ndarray | None = None,
    draws: int = 2000,
    seed: int = 0,
) -> Memorisation:
    """Test whether a generator copies training images, by distances to the nearest of them.

    Held-out and training images must have the same distribution, or the test measures their
    difference: held-out images of other ground are farther away, those that overlap training images
    closer. In pixels, blurred samples are closer to all images, which raises `nearer` and `copies`
    without any copy. It does not change `training_side`, because they are also closer to held-out
    images. The z-score treats all images as independent.

    Sources: Meehan et al. 2020 (arXiv:2004.05675), section 3, over all images instead of cell by
    cell; Mann and Whitney 1947 (Annals of Mathematical Statistics 18, 50-60). The training side
    after the share of Platzer and Reutterer 2021 (arXiv:2104.00635). The 95 % interval of `nearer`
    is a bootstrap of the ranks of either set in the other (DeLong et al. 1988, Biometrics 44,
    837-845).

    Args:
        samples: `S × ...`, images or features of any number type.
        train: `N × ...`.
        held_out: `M × ...`.
        groups: `M`, the spatial group of each held-out image; None: all are independent.
        draws: number of bootstrap samples (see `outcrop.metrics.intervals`).
        seed: random seed of the bootstrap.

    Raises:
        OutcropError: as for `nearest`.
    """
    which, of_samples = (found[:, 0] for found in nearest(samples, train))
    which_held_out, to_held_out = (found[:, 0] for found in nearest(samples, held_out))
    of_held_out = nearest(held_out, train)[1][:, 0]
    N, M, S = len(train), len(held_out), len(samples)
    farther, below = _beyond(of_samples, of_held_out), 1 - _beyond(of_held_out, of_samples)
    nearer = farther.mean()
    drawn = (
        resampled_means(farther[:, None], None, draws, seed)
        + resampled_means(below[:, None], groups, draws, seed + 1)
    )[:, 0] - nearer
    side = (np.sign(to_held_out - of_samples) + 1) / 2
    # Samples with the same nearest image are not independent.
    shared = np.where(to_held_out < of_samples, N + which_held_out, which)
    sides = resampled_means(side[:, None], shared, draws, seed)[:, 0]
    return Memorisation(
        nearer=interval_of_share(nearer, drawn.clip(0, 1), support(groups, M)),
        z=float((0.5 - nearer) * S * M / np.sqrt(S * M * (S + M + 1) / 12)),
        copies=float(np.mean(of_samples < np.quantile(of_held_out, _RARE))),
        training_side=interval_of_share(side.mean(), sides, support(shared, S)),
        expected_side=N / (N + M),
    )


def _among(queries: np.ndarray, others: np.ndarray, neighbours: int) -> np.ndarray:
    """Mask of the queries that lie among the others."""
    search = NearestNeighbors(n_neighbors=neighbours, algorithm="brute").fit(others)
    # Called without queries, a point is not its own neighbour.
    reach = search.kneighbors()[0][:, -1]
    reach += _SLACK * np.sqrt(max(np.square(x).sum(axis=1).max() for x in (queries, others)))
    inside = pairwise_distances_chunked(
        queries,
        others,
        reduce_func=lambda distances, _: (distances <= reach).any(axis=1),
        working_memory=_MEMORY,
    )
    return np.concatenate(list(inside))


def _beyond(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """The share of `theirs` above each of `ours`; equal values count half."""
    both = rankdata(np.concatenate((ours, theirs)))[: len(ours)]
    smaller = both - rankdata(ours)
    return 1 - smaller / len(theirs)


def frechet_distance(real: np.ndarray, generated: np.ndarray) -> float:
    """The squared Fréchet distance between Gaussians fitted to two sets of features.

    This is not the FID and must not be reported as such: the FID uses features of one Inception
    network (Heusel et al. 2017), and these features may come from any network. Compare it only with
    distances in features of the same network.

    It grows as the sets shrink (Chong and Forsyth 2020, arXiv:1911.07023). So compare it with
    `frechet_floor` for the same number of images, or use `frechet_at_infinity`.

    Sources: Dowson and Landau 1982 (Journal of Multivariate Analysis 12, 450-455); Heusel et al.
    2017 (arXiv:1706.08500), eq. 6. The trace of the root of the product of two covariances RᵀR and
    SᵀS is the sum of the singular values of RSᵀ, which needs no root and allows singular
    covariances.

    Args:
        real: float, `N × F`.
        generated: float, `M × F`.

    Returns:
        0 or more, in squared units of the features.

    Raises:
        OutcropError: a set has fewer than two images, numbers of features differ, or features are
            not finite.

    >>> real = np.array([[-1.0], [1.0]])
    >>> round(frechet_distance(real, 2 * real + 3), 6)  # means differ by 3; deviations √2 and 2√2
    11.0
    """
    real = vectors(real, "features of real images", 2)
    generated = vectors(generated, "features of generated images", 2)
    refuse_unlike(real, generated, "real and generated images")
    (mean, root), (other_mean, other_root) = _gaussian(real), _gaussian(generated)
    apart = (
        np.sum((mean - other_mean) ** 2)
        + np.sum(root**2)
        + np.sum(other_root**2)
        - 2 * np.sum(svdvals(root @ other_root.T))
    )
    return max(float(apart), 0.0)


def frechet_floor(real: np.ndarray, size: int | None = None, seed: int = 0) -> float:
    """The distance between two disjoint random subsets of real images, as a lower reference.

    Args:
        real: float, `N × F`.
        size: number of images in each subset, as many as were compared; None: half of all.
        seed: random seed of the subsets.

    Raises:
        OutcropError: `size` is below 2 or above half of all; and as for `frechet_distance`.
    """
    half = len(real) // 2
    size = half if size is None else size
    if not 2 <= size <= half:
        raise OutcropError(
            "size",
            f"is {size}; two subsets of {len(real)} real images have 2 to {half} images each",
        )
    drawn = np.random.default_rng(seed).permutation(len(real))
    return frechet_distance(real[drawn[:size]], real[drawn[size : 2 * size]])


@dataclass(frozen=True)
class FrechetAtInfinity:
    """The squared Fréchet distance extrapolated to infinitely many images.

    Attributes:
        distance: the estimate; by chance below 0 if the true distance is near 0.
        low, high: ends of the 95 % confidence interval.
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
    """The squared Fréchet distance without the bias from the size of the sets.

    The bias is proportional to one over the number of images (Chong and Forsyth 2020,
    arXiv:1911.07023). The jackknife removes it: one block of both sets after the other is left out,
    and the spread of the distances gives the interval. There should be several times as many images
    as features.

    Sources: the jackknife, Quenouille 1956 (Biometrika 43, 353-360) and Tukey 1958 (Annals of
    Mathematical Statistics 29, 614).

    Args:
        real: float, `N × F`.
        generated: float, `M × F`.
        groups: `N`, the spatial group of each real image; blocks keep groups together. None: all
            are independent.
        blocks: number of blocks of each set.
        seed: random seed of the order in which images, or groups, fill the blocks.

    Raises:
        OutcropError: fewer than two blocks, or fewer than two images per block; and as for
            `frechet_distance`.
    """
    if not 2 <= blocks <= min(len(real), len(generated)) // 2:
        raise OutcropError(
            "blocks",
            f"is {blocks} for {len(real)} real and {len(generated)} generated images; take 2 or "
            "more blocks of at least two images each",
        )
    rng = np.random.default_rng(seed)
    whole = frechet_distance(real, generated)
    cuts = [
        np.array_split(_shuffled(groups, len(real), rng), blocks),
        np.array_split(rng.permutation(len(generated)), blocks),
    ]
    left = [
        frechet_distance(np.delete(real, one, axis=0), np.delete(generated, other, axis=0))
        for one, other in zip(*cuts, strict=True)
    ]
    pseudo = blocks * whole - (blocks - 1) * np.array(left)
    reach = t.ppf(0.975, blocks - 1) * pseudo.std(ddof=1) / np.sqrt(blocks)
    distance = float(pseudo.mean())
    return FrechetAtInfinity(distance, distance - float(reach), distance + float(reach))


def _shuffled(groups: np.ndarray | None, number: int, rng: np.random.Generator) -> np.ndarray:
    """Indices in a random order that keeps the members of a group together."""
    if groups is None:
        return rng.permutation(number)
    names, group = np.unique(groups, return_inverse=True)
    return np.argsort(rng.permutation(len(names))[group], kind="stable")


def _gaussian(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The mean, and a matrix R such that RᵀR is the covariance."""
    features = features.astype(np.float64, copy=False)
    mean = features.mean(axis=0)
    (root,) = qr((features - mean) / np.sqrt(len(features) - 1), mode="r", check_finite=False)
    return mean, root[: features.shape[1]]
