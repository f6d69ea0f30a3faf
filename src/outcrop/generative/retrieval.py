"""The share of generated images that a classifier assigns to the intended class."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from outcrop.errors import OutcropError
from outcrop.metrics.intervals import Interval
from outcrop.metrics.scores import score

Given = tuple[np.ndarray, np.ndarray, np.ndarray | None]
"""Intended classes, probabilities and spatial groups of images."""


@dataclass(frozen=True)
class Recognised:
    """The output of a classifier for images of one intended class.

    Attributes:
        pictures: number of images.
        share: share of images that it assigns to the class, with a 95 % interval.
        cosine: mean cosine similarity of its probabilities with the ideal ones, which are 1 for the
            class and 0 for all others; 0 to 1.
        squared_error: mean squared error of its probabilities over images and classes, 0 to 1.
    """

    pictures: int
    share: Interval
    cosine: float
    squared_error: float


@dataclass(frozen=True)
class RetrievalRow:
    """One class, or the mean over classes, under three conditions.

    Attributes:
        name: name of the class.
        generated: images that were generated to show the class.
        real: real images of the class, as an upper reference; None if not given.
        untouched: the generated images before the class was added, as a lower reference; None if
            not given.
    """

    name: str
    generated: Recognised
    real: Recognised | None
    untouched: Recognised | None


@dataclass(frozen=True)
class Retrieval:
    """Recognition of the intended classes of generated images by a classifier.

    Attributes:
        rows: one for each class.
        mean: the unweighted mean over the intended classes.
    """

    rows: tuple[RetrievalRow, ...]
    mean: RetrievalRow


def retrieved(
    generated: Given,
    classes: tuple[str, ...],
    real: Given | None = None,
    untouched: Given | None = None,
    draws: int = 2000,
    seed: int = 0,
) -> Retrieval:
    """Compare the intended classes of generated images with those that a classifier predicts.

    The classifier has to be independent: trained on real images, and not the discriminator. `real`
    shows its own errors, on images that it was not trained on. A generator that always shows one
    class has a high share for that class alone, so compare the classes and not only the mean.

    Source: Larsen et al. 2016 (arXiv:1512.09300), section 4.2: cosine similarity and mean squared
    error. There they are of attributes that a network regresses, here of class probabilities, so
    the figures of that paper are not comparable.

    Args:
        generated: the intended class of each image, int, `N`, an index into `classes`; the
            probabilities of the classifier, float, `N × K`; and the spatial group of each image,
            `N`, or None if all are independent.
        classes: the K class names.
        real: the same for held-out real images, whose own class is the intended one.
        untouched: the same for images to which the class was not added.
        draws: number of bootstrap samples (see `outcrop.metrics.intervals`).
        seed: random seed of the bootstrap.

    Raises:
        OutcropError: no images, or the probabilities do not fit images and classes.

    >>> intended, given = np.array([0, 0, 1]), np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    >>> found = retrieved((intended, given, None), ("rice", "water"))
    >>> rice = found.rows[0].generated
    >>> rice.share.value, rice.cosine, rice.squared_error, found.mean.generated.share.value
    (0.5, 0.5, 0.5, 0.75)
    """
    made = _recognised(generated, classes, draws, seed)
    best, least = (
        (None,) * len(made) if some is None else _recognised(some, classes, draws, seed)
        for some in (real, untouched)
    )
    rows = tuple(map(RetrievalRow, (*classes, "mean"), made, best, least))
    return Retrieval(rows[:-1], rows[-1])


def _recognised(
    given: Given, classes: tuple[str, ...], draws: int, seed: int
) -> tuple[Recognised, ...]:
    """The recognition of each class, and then the mean."""
    wanted, probabilities, groups = given
    K = len(classes)
    probabilities = np.asarray(probabilities, dtype=np.float64)
    if probabilities.shape != (len(wanted), K):
        raise OutcropError(
            "probabilities",
            f"have shape {probabilities.shape} for {len(wanted)} images and {K} classes; give one "
            "for each image and class",
        )
    if not (probabilities.min(initial=0) >= 0 and np.allclose(probabilities.sum(1), 1, atol=1e-3)):
        raise OutcropError(
            "probabilities", "must be 0 or more with a sum of 1; apply a softmax to logits"
        )
    scores = score(wanted, probabilities.argmax(axis=1), classes, groups, draws, seed)
    target = np.eye(K)[wanted]
    cosine = (probabilities * target).sum(axis=1) / np.linalg.norm(probabilities, axis=1)
    error = np.square(probabilities - target).mean(axis=1)
    counts = np.bincount(wanted, minlength=K)
    with np.errstate(invalid="ignore"):
        cosines, errors = (np.bincount(wanted, x, K) / counts for x in (cosine, error))
    found = [
        Recognised(int(counts[k]), scores.recall[k], float(cosines[k]), float(errors[k]))
        for k in range(K)
    ]
    mean = Recognised(
        len(wanted), scores.balanced, float(np.nanmean(cosines)), float(np.nanmean(errors))
    )
    return (*found, mean)
