"""Arithmetic with codes, on a model whose encoder and decoder are linear."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.covariance import LedoitWolf

from outcrop.generative.codes import (
    class_gaussian,
    class_means,
    class_samples,
    interpolate,
)
from outcrop.generative.drawing import STEPS, attributes, between_images
from outcrop.generative.grids import to_rgb
from tests.patches import patch_set

LATENT, SIZE = 3, 4
VARIANCE = 0.25


class Linear:
    """Codes are the first three pixels; all other pixels are 0. No rounding, no clipping."""

    network = SimpleNamespace(latent=LATENT, has_encoder=True, title="linear")
    bands = ("grey",)

    def encode(self, images):
        codes = images.reshape(len(images), -1)[:, :LATENT]
        return codes, np.full_like(codes, np.log(VARIANCE))

    def decode(self, codes):
        images = np.zeros((len(codes), SIZE * SIZE), np.float32)
        images[:, :LATENT] = codes
        return images.reshape(-1, 1, SIZE, SIZE)

    def pictures(self, images):
        return to_rgb(images, self.bands)


MODEL = Linear()


def of_codes(codes, labels, classes=None):
    return patch_set(MODEL.decode(np.asarray(codes, np.float32)), np.asarray(labels), classes)


codes = arrays(np.float64, 5, elements=st.floats(-10, 10))


@given(codes, codes, st.integers(2, 12))
def test_an_interpolation_has_both_ends(one, other, steps):
    found = interpolate(one, other, steps)
    assert found.shape == (steps, 5)
    np.testing.assert_allclose(found[[0, -1]], [one, other], atol=1e-9)
    np.testing.assert_allclose(found[::-1], interpolate(other, one, steps), atol=1e-6)


@given(codes, codes, st.floats(0.5, 20))
def test_an_interpolation_between_codes_of_one_length_stays_on_their_sphere(one, other, radius):
    lengths = np.linalg.norm(one), np.linalg.norm(other)
    if min(lengths) < 1e-3 or abs(one @ other) / np.prod(lengths) > 0.999:
        return
    found = interpolate(radius * one / lengths[0], radius * other / lengths[1], 9)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), radius, rtol=1e-6)
    steps = np.linalg.norm(np.diff(found, axis=0), axis=1)
    np.testing.assert_allclose(steps, steps[0], rtol=1e-6)


def test_an_interpolation_between_opposite_codes_is_linear():
    one = np.array([2.0, -1.0], np.float32)
    found = interpolate(one, -one, 5)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, np.outer([1, 0.5, 0, -0.5, -1], one), atol=1e-6)


def test_the_mean_code_of_a_class():
    means = class_means(np.array([[1.0, 0], [3, 2], [5, 5]]), np.array([0, 0, 2]), 3)
    np.testing.assert_array_equal(means, np.array([[2, 1], [np.nan, np.nan], [5, 5]], np.float32))


def test_the_gaussian_of_a_class_is_that_of_the_mixture():
    rng = np.random.default_rng(0)
    means = rng.normal(size=(4000, LATENT)) @ np.diag([2, 1, 0.5]) + [1, 2, 3]
    variances = rng.uniform(0.5, 1.5, (4000, LATENT))
    mean, covariance = class_gaussian(means.astype(np.float32), variances)
    mixture = np.repeat(means, 50, axis=0)
    mixture += np.sqrt(np.repeat(variances, 50, axis=0)) * rng.normal(size=mixture.shape)
    np.testing.assert_allclose(mean, mixture.mean(axis=0), atol=0.02)
    np.testing.assert_allclose(covariance, np.cov(mixture.T), atol=0.06)


def test_the_gaussian_of_few_images_is_shrunk_and_can_be_sampled():
    few = np.random.default_rng(0).normal(size=(2, 6)).astype(np.float32)
    spread = np.full_like(few, 0.1)
    covariance = class_gaussian(few, spread)[1]
    around = LedoitWolf().fit(few.astype(np.float64)).covariance_
    np.testing.assert_allclose(covariance, around + 0.1 * np.eye(6), atol=1e-6)
    assert np.linalg.eigvalsh(covariance).min() > 0.099
    mean, covariance = class_gaussian(few[:1], spread[:1])
    np.testing.assert_allclose(mean, few[0])
    np.testing.assert_allclose(covariance, 0.1 * np.eye(6))


def test_samples_of_a_class_have_its_distribution():
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 2], 300)
    centres = np.array([[0, 0, 0], [9, 9, 9], [5, -5, 1]])
    patches = of_codes(centres[labels] + rng.normal(size=(600, LATENT)), labels, 3)
    images, drawn = class_samples(MODEL, patches, np.arange(600), 2000, seed=1)
    assert images.shape == (4000, 1, SIZE, SIZE)
    np.testing.assert_array_equal(drawn, np.repeat([0, 2], 2000))
    for k in (0, 2):
        found, given_ = (
            MODEL.encode(x)[0] for x in (images[drawn == k], patches.images[labels == k])
        )
        np.testing.assert_allclose(found.mean(axis=0), given_.mean(axis=0), atol=0.1)
        np.testing.assert_allclose(found.var(axis=0), 1 + VARIANCE, rtol=0.2)


def test_samples_of_a_class_depend_on_the_class_and_the_seed_alone():
    codes = np.random.default_rng(0).normal(size=(30, LATENT))
    patches = of_codes(codes, np.arange(30) % 3)
    all_, labels = class_samples(MODEL, patches, np.arange(30), 4, seed=3)
    alone = class_samples(MODEL, patches, np.arange(2, 30, 3), 4, seed=3)[0]
    np.testing.assert_array_equal(all_[labels == 2], alone)
    assert not np.array_equal(alone, class_samples(MODEL, patches, np.arange(2, 30, 3), 4, 4)[0])
    assert not np.array_equal(all_[labels == 0], all_[labels == 1])


def test_adding_a_class_is_adding_the_difference_of_two_means():
    patches = of_codes([[0, 0, 1], [1, 0, 0], [2, 0, 0]], [0, 1, 2])
    means = np.array([[0, 0, 0], [1, 1, 0], [-2, 0, 4]], np.float32)
    part = attributes(MODEL, patches, means, np.array([0, 2]), np.array([2, 1]))
    found = part.arrays["attributes"].reshape(2, len(STEPS), -1)[:, :, :LATENT]
    for k, step in enumerate(STEPS):
        np.testing.assert_allclose(found[0, k], [-2 * step, 0, 1 + 4 * step], atol=1e-6)
        np.testing.assert_allclose(found[1, k], [2 + 3 * step, step, -4 * step], atol=1e-6)
    assert [row.name for row in part.sheet.rows] == ["a → c", "c → b"]
    assert STEPS[0] == 0
    assert STEPS[-1] == 1.5
    np.testing.assert_array_equal(found[:, 0], [[0, 0, 1], [2, 0, 0]])


def test_an_interpolation_between_two_images_has_shares_of_both():
    patches = of_codes([[2, 0, 0], [9, 9, 9], [0, 2, 0]], [0, 0, 1])
    part = between_images(MODEL, patches, np.array([0, 2]))
    found = part.arrays["interpolation_codes"]
    np.testing.assert_allclose(
        found[[0, 4, -1]], [[2, 0, 0], [2**0.5, 2**0.5, 0], [0, 2, 0]], atol=1e-6
    )
    (row,) = part.sheet.rows
    assert len(row.pictures) == len(row.captions) == len(found) + 2
    assert (row.captions[0], row.captions[-1]) == ("no. 0", "no. 2")


@pytest.mark.parametrize("steps", [2, 3, 7])
def test_an_interpolation_between_zeros_is_zero(steps):
    np.testing.assert_array_equal(
        interpolate(np.zeros(4), np.zeros(4), steps), np.zeros((steps, 4))
    )
