"""Which pictures lie next to which: whether samples look real, are all there, or are copies."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata
from sklearn.metrics import pairwise_distances_chunked
from sklearn.neighbors import NearestNeighbors

from outcrop.errors import OutcropError
from outcrop.generative.vectors import refuse_unlike, vectors
from outcrop.metrics.intervals import (
    Interval,
    interval_of_share,
    resampled_counts,
    resampled_means,
    support,
)

_MEMORY = 128
_CHUNK_VALUES = 1 << 23
_SLACK = 1e-6
_RARE = 0.01


def nearest(
    queries: np.ndarray, references: np.ndarray, count: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """The references nearest to each query, by Euclidean distance.

    Args:
        queries: number, `N × ...`, pictures or features.
        references: number, `M × ...`.
        count: how many of them, at most M.

    Returns:
        int64, `N × count`, indices into `references`, the nearest first; of several at the same
        distance any. float64, `N × count`, their distances; 0 for a copy.

    Raises:
        OutcropError: a set is empty or not finite, sizes differ, or `count` is not to be had.

    >>> indices, distances = nearest(np.array([[0, 9]]), np.array([[3, 5], [0, 8]]), 2)
    >>> indices, distances
    (array([[1, 0]]), array([[1., 5.]]))
    """
    queries, references = vectors(queries, "queries"), vectors(references, "references")
    refuse_unlike(queries, references, "queries and references")
    if not 1 <= count <= len(references):
        raise OutcropError("count", f"{count} of {len(references)} references; take 1 or more")
    kind = np.result_type(queries, references)
    queries, references = queries.astype(kind, copy=False), references.astype(kind, copy=False)
    search = NearestNeighbors(n_neighbors=count, algorithm="brute").fit(references)
    indices = search.kneighbors(queries, return_distance=False)
    distances = np.empty(indices.shape)
    # Anew from differences: products of large values leave a copy a little off its original.
    step = max(1, _CHUNK_VALUES // (count * queries.shape[1]))
    for start in range(0, len(queries), step):
        part = slice(start, start + step)
        apart = queries[part, None].astype(np.float64) - references[indices[part]]
        distances[part] = np.sqrt(np.einsum("ijk,ijk->ij", apart, apart))
    order = np.argsort(distances, axis=1, kind="stable")
    return np.take_along_axis(indices, order, 1), np.take_along_axis(distances, order, 1)


@dataclass(frozen=True)
class SamplePrecisionRecall:
    """Whether generated pictures look real, and whether they show all that is real.

    Attributes:
        precision: the share of generated pictures that lie among the real ones.
        recall: the share of real pictures that lie among the generated ones.
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
    """Precision and recall of generated pictures, with 95 % intervals.

    A picture lies among others if it is no farther from one of them than that one's k-th nearest
    fellow, itself not counted; a picture that is repeated more than k times reaches no farther than
    itself. Both shares depend on how many pictures there are: take as many generated as real ones,
    and hold them against two halves of the real pictures, which do not come to 1. Intervals are
    from a bootstrap of pictures in or out; what they lie among stays.

    Source: Kynkäänniemi et al. 2019 (arXiv:1904.06991), eq. 1-3. Distances that differ by less
    than a millionth of the largest feature vector, from the mean of the real ones, count as equal.

    Args:
        real: float, `N × F`, features.
        generated: float, `M × F`.
        neighbours: k.
        groups: `N`, the piece of ground of each real picture; None when each stands for itself.
        draws: number of bootstrap samples (see `outcrop.metrics.intervals`).
        seed: of the bootstrap.

    Raises:
        OutcropError: no more than `neighbours` pictures in a set, other numbers of features, or
            features that are not finite.

    >>> real, generated = np.array([[0.0], [1], [2], [9]]), np.array([[0.5], [1.5], [2.5], [50]])
    >>> found = sample_precision_recall(real, generated, neighbours=1)
    >>> found.precision.value, found.recall.value  # [50] is as far from its fellows as all others
    (0.75, 1.0)
    """
    if neighbours < 1:
        raise OutcropError("neighbours", f"{neighbours} is too few; take 1 or more, as a rule 3")
    real = vectors(real, "features of real pictures", neighbours + 1)
    generated = vectors(generated, "features of generated pictures", neighbours + 1)
    refuse_unlike(real, generated, "real and generated pictures")
    # About their middle, so that nothing is lost in the products of large numbers.
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
    """Whether samples lie nearer to the training pictures than they have a right to.

    Attributes:
        nearer: the probability that a sample is nearer to its nearest training picture than a
            held-out picture is to its own; equal distances count half. 0.5 if nothing was copied.
        z: the same as the z-score of the paper: far below 0, say -3, if training pictures were
            copied; far above if samples lie farther off than new pictures do.
        copies: the share of samples nearer than all but 1 % of the held-out pictures; about 0.01 if
            nothing was copied. It shows a few copies, which `nearer` averages away.
        training_side: the share of samples that are nearer to the training pictures than to the
            held-out ones; equal distances count half. Samples that share their nearest picture
            count as one where its interval is made.
        expected_side: what that share is if nothing was copied: the training pictures' part of all.
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
    """Test whether a generator copies training pictures, by distances to the nearest of them.

    The held-out pictures have to be like the training pictures, or the test finds that they are
    not: from other ground they lie farther off, and cut over training pictures nearer. In pixels,
    blurred samples lie nearer to everything, which raises `nearer` and `copies` though nothing was
    copied; `training_side` is not misled, for they are as near to held-out pictures. The z-score
    takes all pictures as independent.

    Sources: Meehan et al. 2020 (arXiv:2004.05675), section 3, over all pictures instead of cell by
    cell; Mann and Whitney 1947 (Annals of Mathematical Statistics 18, 50-60). The training side
    after the share of Platzer and Reutterer 2021 (arXiv:2104.00635). The 95 % interval of `nearer`
    is a bootstrap of the ranks of either set in the other (DeLong et al. 1988, Biometrics 44,
    837-845).

    Args:
        samples: number, `S × ...`, pictures or features.
        train: number, `N × ...`.
        held_out: number, `M × ...`.
        groups: `M`, the piece of ground of each held-out picture; None when each stands for itself.
        draws: number of bootstrap samples (see `outcrop.metrics.intervals`).
        seed: of the bootstrap.

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
    # Samples with one nearest picture are on its side together.
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
    """Whether each query lies within reach of one of the others."""
    search = NearestNeighbors(n_neighbors=neighbours, algorithm="brute").fit(others)
    # Without queries, no point is its own neighbour.
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
    """The share of theirs that is larger than each of ours; those that are equal count half."""
    both = rankdata(np.concatenate((ours, theirs)))[: len(ours)]
    smaller = both - rankdata(ours)
    return 1 - smaller / len(theirs)
