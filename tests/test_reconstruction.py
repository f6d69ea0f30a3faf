import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import pdist

from outcrop.errors import OutcropError
from outcrop.generative.reconstruction import band_errors, relative_error

seeds = st.integers(0, 2**32 - 1)
several = settings(deadline=None, max_examples=30)


def images(n, seed, kind=np.float64):
    return np.random.default_rng(seed).uniform(0, 255, (n, 3, 4, 4)).astype(kind)


@several
@given(seeds, st.integers(2, 30), st.sampled_from([np.float64, np.float32, np.uint8]))
def test_the_error_is_relative_to_all_pairs_of_images(seed, n, kind):
    real, other = images(n, seed, kind), images(n, seed + 1, kind)
    rows, others = (x.reshape(n, -1).astype(np.float64) for x in (real, other))
    expected = np.square(rows - others).sum(axis=1).mean() / pdist(rows, "sqeuclidean").mean()
    assert relative_error(real, other, draws=10).value == pytest.approx(expected, rel=1e-6)


@several
@given(seeds, st.floats(0.1, 10), st.floats(-100, 100))
def test_units_do_not_matter(seed, scale, offset):
    real, other = images(12, seed), images(12, seed + 1)
    found = relative_error(real, other, draws=10).value
    moved = relative_error(scale * real + offset, scale * other + offset, draws=10).value
    assert moved == pytest.approx(found)


def test_the_scale_is_0_for_perfect_a_half_for_the_mean_and_1_for_another_image():
    real = images(500, 0)
    mean = np.broadcast_to(real.mean(axis=0), real.shape)
    assert relative_error(real, real).value == 0
    assert relative_error(real, mean).value == pytest.approx(0.5, abs=2e-3)
    assert relative_error(real, np.roll(real, 1, axis=0)).value == pytest.approx(1, abs=0.05)


def test_the_interval_covers_the_truth_and_uses_spatial_groups():
    rng = np.random.default_rng(0)
    covered = 0
    for seed in range(40):
        real = rng.normal(size=(80, 6))
        error = rng.normal(size=(80, 6)) * rng.uniform(0, 2, (80, 1))
        found = relative_error(real, real + error, draws=400, seed=seed)
        covered += found.low <= 2 / 3 <= found.high  # 6 · 4/3 over 2 · 6
    assert covered >= 35
    real = rng.normal(size=(20, 6))
    error = rng.normal(size=(20, 6)) * rng.uniform(0, 2, (20, 1))
    alone = relative_error(real, real + error)
    ground = np.repeat(np.arange(20), 10)
    repeated = [np.repeat(x, 10, axis=0) for x in (real, real + error)]
    together = relative_error(*repeated, groups=ground)
    # Ten copies of an image have no more information than one.
    assert together.high - together.low == pytest.approx(alone.high - alone.low, rel=0.1)
    assert np.isnan(relative_error(real, real, groups=np.zeros(20)).low)


def test_equal_images_give_nan():
    same = np.ones((5, 3))
    assert np.isnan(relative_error(same, same).value)


def test_errors_of_bands_are_in_their_units_without_missing_pixels():
    real = images(40, 0)
    other = real + np.array([2.0, 0, -5])[:, None, None]
    np.testing.assert_allclose(band_errors(real, other), [2, 0, 5])
    other[:, 0, 0] = 1e6
    real[:, 0, 0] = np.nan
    real[:, 1] = np.nan
    np.testing.assert_allclose(band_errors(real, other), [2, np.nan, 5])
    whole, zero = np.uint8([[[[3]]], [[[5]]]]), np.uint8([[[[5]]], [[[3]]]])
    assert band_errors(whole, zero) == [2]


@pytest.mark.parametrize("measure", [relative_error, band_errors])
def test_unpaired_images_raise_an_error(measure):
    with pytest.raises(OutcropError, match="give one for each"):
        measure(images(5, 0), images(4, 0))
    with pytest.raises(OutcropError):
        measure(images(0, 0), images(0, 0))
    with pytest.raises(OutcropError, match="not all finite"):
        relative_error(np.full((3, 2), np.nan), np.zeros((3, 2)))
