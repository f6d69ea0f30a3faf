"""Measures of reconstructions, samples and added classes, each with a reference value."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np

from outcrop.generative.inputs import Inputs
from outcrop.generative.loop import evenly_spaced
from outcrop.generative.reconstruction import band_errors, relative_error
from outcrop.generative.retrieval import Retrieval, retrieved
from outcrop.generative.samples import (
    FrechetAtInfinity,
    Memorisation,
    SamplePrecisionRecall,
    frechet_at_infinity,
    frechet_distance,
    memorised,
    sample_precision_recall,
)
from outcrop.metrics.intervals import Interval
from outcrop.progress import track

_BLOCKS = 20


@dataclass(frozen=True)
class ReconstructionMeasures:
    """Errors of the reconstructions of held-out images.

    Attributes:
        pictures: number of images.
        pixel_error: relative error of the pixels, see `relative_error`.
        band_errors: root mean squared error of each band, in the units of the patches.
        feature_error: relative error of the judge's features; None without a judge.
    """

    pictures: int
    pixel_error: Interval
    band_errors: dict[str, float]
    feature_error: Interval | None


@dataclass(frozen=True)
class Halves:
    """The measures between two halves of the held-out images, as reference for as many samples.

    Attributes:
        pictures: number of images in each half.
        frechet: Fréchet distance between the halves.
        frechet_of_samples: Fréchet distance between the first half and as many samples.
        shares: precision and recall of the second half.
        shares_of_samples: precision and recall of as many samples.
    """

    pictures: int
    frechet: float
    frechet_of_samples: float
    shares: SamplePrecisionRecall
    shares_of_samples: SamplePrecisionRecall


@dataclass(frozen=True)
class SampleMeasures:
    """Comparison of samples with as many held-out images, in features of the judge.

    Attributes:
        pictures: number of each.
        frechet: squared Fréchet distance, which depends on the number of images.
        at_infinity: the same without this bias.
        shares: precision and recall.
        halves: the values of real images.
    """

    pictures: int
    frechet: float
    at_infinity: FrechetAtInfinity
    shares: SamplePrecisionRecall
    halves: Halves


@dataclass(frozen=True)
class Measures:
    """All available measures of a generative run.

    Attributes:
        features: description of the features; "" without a judge.
        distances: description of the space of distances to training images.
        memorised: whether samples are copies of training images.
        reconstructed: errors of reconstructions; None without an encoder.
        sampled: measures of samples; None without a judge.
        retrieval: recognition by the judge of a class that was added to the codes of held-out
            images of other classes; with real images of the class and with unchanged
            reconstructions as references. None without a judge or an encoder.
    """

    features: str
    distances: str
    memorised: Memorisation
    reconstructed: ReconstructionMeasures | None
    sampled: SampleMeasures | None
    retrieval: Retrieval | None


def measure(given: Inputs, seed: int) -> Measures | None:
    """All available measures; None if there are too few held-out patches.

    Args:
        seed: random seed of the halves and of the bootstrap.
    """
    if not given.can_measure:
        return None
    real, groups = given.patches.take(given.held_out), given.split.groups[given.held_out]
    of_samples = given.space.features(given.model.decode(given.codes[: len(real)]))
    of_train, of_held_out = given.train_features, given.held_out_features
    codes = given.model.encode(real)[0] if given.can_reconstruct else None
    judged = given.judge is not None
    return Measures(
        features="" if given.judge is None else f"{given.judge.name}; not the FID",
        distances=given.space.name,
        memorised=memorised(of_samples, of_train, of_held_out, groups, seed=seed),
        reconstructed=None if codes is None else _reconstructed(given, real, codes, seed),
        sampled=_sampled(of_held_out, of_samples, groups, seed) if judged else None,
        retrieval=None if codes is None else attribute_retrieval(given, real, codes, seed),
    )


def _reconstructed(
    given: Inputs, real: np.ndarray, codes: np.ndarray, seed: int
) -> ReconstructionMeasures:
    reconstructed, groups = given.model.decode(codes), given.split.groups[given.held_out]
    pixels = given.model.normalised(real), given.model.normalised(reconstructed)
    rooted = band_errors(real, reconstructed).tolist()
    feature_error = None
    if given.judge is not None:
        features = given.held_out_features, given.space.features(reconstructed)
        feature_error = relative_error(*features, groups, seed=seed)
    return ReconstructionMeasures(
        pictures=len(real),
        pixel_error=relative_error(*pixels, groups, seed=seed),
        band_errors=dict(zip(given.model.bands, rooted, strict=True)),
        feature_error=feature_error,
    )


def _sampled(
    real: np.ndarray, samples: np.ndarray, groups: np.ndarray, seed: int
) -> SampleMeasures:
    half = len(real) // 2
    order = np.random.default_rng(seed).permutation(len(real))
    one, other, some = real[order[:half]], real[order[half : 2 * half]], samples[:half]
    shares, ground = partial(sample_precision_recall, seed=seed), groups[order[:half]]
    blocks = min(_BLOCKS, half)
    return SampleMeasures(
        pictures=len(real),
        frechet=frechet_distance(real, samples),
        at_infinity=frechet_at_infinity(real, samples, groups, blocks, seed),
        shares=shares(real, samples, groups=groups),
        halves=Halves(
            pictures=half,
            frechet=frechet_distance(one, other),
            frechet_of_samples=frechet_distance(one, some),
            shares=shares(one, other, groups=ground),
            shares_of_samples=shares(one, some, groups=ground),
        ),
    )


def attribute_retrieval(
    given: Inputs, real: np.ndarray, codes: np.ndarray, seed: int
) -> Retrieval | None:
    """Recognition by the judge of each class that is added to held-out images of all others.

    A class is added by adding the difference of the mean codes of both classes to the code of an
    image. At most 1024 evenly spaced held-out images are used.

    Source: Larsen et al. 2016 (arXiv:1512.09300), section 4.2. There the networks are conditioned
    on attributes, here attributes are added to the code.

    Args:
        real: `held_out × bands × size × size`.
        codes: float, `held_out × latent`, the means of their codes.
        seed: random seed of the bootstrap.

    Returns:
        The recognition by class of the judge; None without a judge that has all classes, or without
        another class to add.
    """
    where = None if given.judge is None else given.judge.codes(given.patches.classes)
    if given.judge is None or given.means is None or where is None:
        return None
    probabilities = given.judge.classifier.predict_proba
    known, labels = given.known, given.patches.labels[given.held_out]
    groups = given.split.groups[given.held_out]
    there = np.flatnonzero(known[labels])
    used = evenly_spaced(there)
    untouched = np.zeros((len(labels), len(given.judge.classifier.classes)))
    made = []
    for target in track(np.flatnonzero(known), "adding classes"):
        others = used[labels[used] != target]
        if len(others):
            moved = codes[others] + given.means[target] - given.means[labels[others]]
            predicted = probabilities(given.model.decode(moved))
            made.append((np.full(len(others), target), others, predicted))
    if not made:
        return None
    untouched[used] = probabilities(given.model.decode(codes[used]))
    targets, sources, predicted = (np.concatenate(part) for part in zip(*made, strict=True))
    wanted, ground = where[targets], groups[sources]
    return retrieved(
        (wanted, predicted, ground),
        given.judge.classifier.classes,
        real=(where[labels[there]], probabilities(real[there]), groups[there]),
        untouched=(wanted, untouched[sources], ground),
        seed=seed,
    )
