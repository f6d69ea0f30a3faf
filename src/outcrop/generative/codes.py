"""Arithmetic with the codes of images: interpolation, class means, and samples of a class."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from outcrop.generative.run import VaeGanModel, VaeGanRun, read_vaegan_run
from outcrop.patches.collection import AnyPatches, open_patches
from outcrop.patches.patchset import PatchSet
from outcrop.progress import track

_PIECE = 2048
_STRAIGHT = 1e-6


def codes_of(
    model: VaeGanModel, patches: PatchSet, index: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The Gaussian distributions of the codes of the patches at `index`, read in pieces.

    Returns:
        Mean and variance, float32, `N × latent` each.

    Raises:
        OutcropError: a GAN, which has no encoder; patches of another shape.
    """
    found = np.empty((2, len(index), model.network.latent), dtype=np.float32)
    for start in track(range(0, len(index), _PIECE), "encoding"):
        part = slice(start, start + _PIECE)
        found[:, part] = model.encode(patches.take(index[part]))
    return found[0], np.exp(found[1])


def interpolate(one: np.ndarray, other: np.ndarray, steps: int) -> np.ndarray:
    """Codes from one to another, with both ends, by spherical interpolation.

    Codes of many dimensions lie near a sphere. The middle of a straight line is closer to the
    origin than nearly all codes that the decoder was trained on. If the codes point in the same or
    in opposite directions, the arc is not unique, and the interpolation is linear.

    Source: White 2016, Sampling generative networks (arXiv:1609.04468), section 2.1.

    Args:
        one, other: float, `latent`.
        steps: number of codes, two or more.

    Returns:
        `steps × latent`, of the type of the ends.

    >>> interpolate(np.array([1.0, 0.0]), np.array([0.0, 1.0]), 3).round(3)
    array([[1.   , 0.   ],
           [0.707, 0.707],
           [0.   , 1.   ]])
    """
    along = np.linspace(0, 1, steps)[:, None]
    lengths = np.linalg.norm(one) * np.linalg.norm(other)
    angle = np.arccos(np.clip(one @ other / lengths, -1, 1)) if lengths > 0 else 0.0
    if np.sin(angle) < _STRAIGHT:
        codes = (1 - along) * one + along * other
    else:
        shares = np.sin((1 - along) * angle), np.sin(along * angle)
        codes = (shares[0] * one + shares[1] * other) / np.sin(angle)
    return codes.astype(np.result_type(one, other))


def class_means(codes: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    """The mean code of each class. Differences between them are attribute vectors.

    Source: Larsen et al. 2016 (arXiv:1512.09300), section 4.2, for images with and without an
    attribute.

    Args:
        codes: float, `N × latent`, the means of the images' codes.
        labels: int, `N`.
        classes: number of classes.

    Returns:
        float32, `classes × latent`; NaN for a class without images.
    """
    member = np.eye(classes, dtype=np.float64)[:, labels]
    with np.errstate(invalid="ignore"):
        means = (member @ codes) / member.sum(axis=1, keepdims=True)
    return means.astype(np.float32)


def class_gaussian(means: np.ndarray, variances: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """One Gaussian distribution for the codes of all images of a class.

    It has the mean and the covariance of the mixture of their Gaussians: the covariance of the
    means, with shrinkage so that few images suffice, plus the mean of the variances.

    Source: Ledoit and Wolf 2004 (Journal of Multivariate Analysis 88, 365-411) for the shrinkage.

    Args:
        means, variances: float, `N × latent`, of the code of each image.

    Returns:
        float64: mean, `latent`; covariance, `latent × latent`.
    """
    from sklearn.covariance import ledoit_wolf

    means = means.astype(np.float64)
    around = ledoit_wolf(means)[0] if len(means) > 1 else 0.0
    return means.mean(axis=0), around + np.diag(variances.mean(axis=0, dtype=np.float64))


def class_samples(
    model: VaeGanModel | VaeGanRun | str | Path,
    patches: AnyPatches,
    index: np.ndarray,
    number: int,
    seed: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """Samples of each class, from random codes with the `class_gaussian` of the class.

    Args:
        model: model with an encoder, a run of one or its folder.
        patches: patch set with labels, or its name.
        index: patches that give the distributions, usually the training side.
        number: number of samples of each class.
        seed: random seed of the codes.

    Returns:
        Images, `M × bands × size × size` in the units and number type of the patches, and their
        labels, int64, `M`, class by class. Classes without patches at `index` are left out.

    Raises:
        OutcropError: a GAN, which has no encoder; patches of another shape.
    """
    if isinstance(model, VaeGanRun | str | Path):
        model = read_vaegan_run(model).model
    patches = open_patches(patches)
    means, variances = codes_of(model, patches, index)
    labels = patches.labels[index]
    there = np.unique(labels)
    drawn = [
        np.random.default_rng([seed, k]).multivariate_normal(
            *class_gaussian(means[labels == k], variances[labels == k]), number, method="eigh"
        )
        for k in there
    ]
    return model.decode(np.concatenate(drawn)), np.repeat(there, number).astype(np.int64)
