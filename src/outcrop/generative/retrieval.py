"""Whether generated pictures show the class that was wanted of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from outcrop.errors import OutcropError
from outcrop.metrics.intervals import Interval
from outcrop.metrics.scores import score

Shown = tuple[np.ndarray, np.ndarray, np.ndarray | None]


@dataclass(frozen=True)
class Recognised:
    """What a classifier made of pictures that were to show a class.

    Attributes:
        pictures: how many there were.
        share: of them, those it gives to the class, with a 95 % interval.
        cosine: mean cosine similarity of its probabilities with the wanted ones, which are 1 for
            the class and 0 for all others; 0 to 1.
        squared_error: mean squared error of its probabilities, over pictures and classes, 0 to 1.
    """

    pictures: int
    share: Interval
    cosine: float
    squared_error: float


@dataclass(frozen=True)
class RetrievalRow:
    """One class, or the mean over classes, under the three conditions.

    Attributes:
        name: of the class.
        generated: pictures that were made to show it.
        real: real pictures of it, the most that can be hoped for; None if there were none to see.
        untouched: the generated pictures before the class was added to them, the least.
    """

    name: str
    generated: Recognised
    real: Recognised | None
    untouched: Recognised | None


@dataclass(frozen=True)
class Retrieval:
    """Which of the wanted classes a classifier recognises in generated pictures.

    Attributes:
        rows: one a class.
        mean: over the classes that were wanted, each counting the same.
    """

    rows: tuple[RetrievalRow, ...]
    mean: RetrievalRow


def retrieved(
    generated: Shown,
    classes: tuple[str, ...],
    real: Shown | None = None,
    untouched: Shown | None = None,
    draws: int = 2000,
    seed: int = 0,
) -> Retrieval:
    """Hold what was wanted of generated pictures against what a classifier sees in them.

    The classifier has to be independent: trained on real pictures, and not the discriminator. Its
    own mistakes are in the row of the real pictures, which it must not have been trained on. A
    generator that always shows one class is found out by the classes, not by the mean alone.

    Source: Larsen et al. 2016 (arXiv:1512.09300), section 4.2: cosine similarity and mean squared
    error, there of attributes that a network regresses, here of the probabilities of classes, so
    that the figures of that paper do not compare.

    Args:
        generated: the wanted class of each picture, int, `N`, an index into `classes`; the
            probabilities the classifier gives, float, `N × K`; and the piece of ground of each,
            `N`, or None when each stands for itself.
        classes: the K class names.
        real: the same of held-out real pictures, whose own class is the wanted one.
        untouched: the same of pictures to which the class was not added.
        draws: number of bootstrap samples (see `outcrop.metrics.intervals`).
        seed: of the bootstrap.

    Raises:
        OutcropError: no pictures, or no probabilities for each picture and class.

    >>> wanted, said = np.array([0, 0, 1]), np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    >>> found = retrieved((wanted, said, None), ("rice", "water"))
    >>> rice = found.rows[0].generated
    >>> rice.share.value, rice.cosine, rice.squared_error, found.mean.generated.share.value
    (0.5, 0.5, 0.5, 0.75)
    """
    made = _recognised(generated, classes, draws, seed)
    best, least = (
        (None,) * len(made) if shown is None else _recognised(shown, classes, draws, seed)
        for shown in (real, untouched)
    )
    rows = tuple(map(RetrievalRow, (*classes, "mean"), made, best, least))
    return Retrieval(rows[:-1], rows[-1])


def _recognised(
    shown: Shown, classes: tuple[str, ...], draws: int, seed: int
) -> tuple[Recognised, ...]:
    """Of each class, and at the end of all."""
    wanted, probabilities, groups = shown
    K = len(classes)
    probabilities = np.asarray(probabilities, dtype=np.float64)
    if probabilities.shape != (len(wanted), K):
        raise OutcropError(
            "probabilities",
            f"of the shape {probabilities.shape} for {len(wanted)} pictures and {K} classes; give "
            f"one for each picture and class",
        )
    if not (probabilities.min(initial=0) >= 0 and np.allclose(probabilities.sum(1), 1, atol=1e-3)):
        raise OutcropError(
            "probabilities", "are not 0 or more with a sum of 1; pass logits through a softmax"
        )
    scores = score(wanted, probabilities.argmax(axis=1), classes, groups, draws, seed)
    target = np.eye(K)[wanted]
    cosine = (probabilities * target).sum(axis=1) / np.linalg.norm(probabilities, axis=1)
    error = np.square(probabilities - target).mean(axis=1)
    pictures = np.bincount(wanted, minlength=K)
    with np.errstate(invalid="ignore"):
        cosines, errors = (np.bincount(wanted, x, K) / pictures for x in (cosine, error))
    found = [
        Recognised(int(pictures[k]), scores.recall[k], float(cosines[k]), float(errors[k]))
        for k in range(K)
    ]
    mean = Recognised(
        len(wanted), scores.balanced, float(np.nanmean(cosines)), float(np.nanmean(errors))
    )
    return (*found, mean)
