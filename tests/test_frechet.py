import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import sqrtm
from scipy.stats import ortho_group

import outcrop as oc
from outcrop.errors import OutcropError
from outcrop.generative.samples import frechet_at_infinity, frechet_distance, frechet_floor

seeds = st.integers(0, 2**32 - 1)
several = settings(deadline=None, max_examples=30)


def features(n, seed, channels=5):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, channels)) @ rng.normal(size=(channels, channels))


def by_formula(one, other):
    """Eq. 6 of Heusel et al. 2017."""
    covariance, other_covariance = np.cov(one.T), np.cov(other.T)
    root = sqrtm(covariance @ other_covariance).real
    apart = np.sum((one.mean(axis=0) - other.mean(axis=0)) ** 2)
    return apart + np.trace(covariance + other_covariance - 2 * root)


@several
@given(seeds, st.integers(6, 40), st.integers(6, 40))
def test_the_distance_equals_the_formula_of_the_paper(seed, n, m):
    one, other = features(n, seed), features(m, seed + 1) + 1
    assert frechet_distance(one, other) == pytest.approx(by_formula(one, other), rel=1e-6)


@several
@given(seeds)
def test_the_distance_of_one_feature_follows_from_means_and_deviations(seed):
    one, other = features(9, seed, 1), features(7, seed + 1, 1) + 2
    expected = (one.mean() - other.mean()) ** 2 + (one.std(ddof=1) - other.std(ddof=1)) ** 2
    assert frechet_distance(one, other) == pytest.approx(expected)


def test_the_distance_of_independent_features_is_a_sum():
    # The columns of a full factorial design are exactly uncorrelated.
    corners = np.stack(np.meshgrid([-1, 1], [-1, 1], [-1, 1]), axis=-1).reshape(-1, 3)
    one, other = corners * [1.0, 2, 0], corners * [3.0, 2, 1] + [0, 0, 5]
    scale = np.sqrt(8 / 7)
    assert frechet_distance(one, other) == pytest.approx(25 + (2**2 + 0 + 1) * scale**2)


@several
@given(seeds, st.floats(1e-3, 1e3), st.integers(2, 12))
def test_the_distance_does_not_depend_on_the_axes(seed, scale, n):
    one, other = scale * features(n, seed), scale * features(12, seed + 1)
    found = frechet_distance(one, other)
    unit = scale**2
    rotation = ortho_group.rvs(5, random_state=seed)
    assert frechet_distance(other, one) == pytest.approx(found, rel=1e-9)
    assert frechet_distance(one @ rotation + 7, other @ rotation + 7) == pytest.approx(
        found, rel=1e-6
    )
    assert frechet_distance(one, one[::-1]) == pytest.approx(0, abs=1e-10 * unit)


@several
@given(seeds)
def test_singular_covariances_are_exact(seed):
    # Fewer images than features, a constant feature, and sets without a common axis.
    rng = np.random.default_rng(seed)
    one, other = np.zeros((2, 6, 40))
    one[:, :10], other[:, 20:30] = rng.normal(size=(2, 6, 10))
    spread = one.var(axis=0, ddof=1).sum() + other.var(axis=0, ddof=1).sum()
    expected = np.sum((one.mean(axis=0) - other.mean(axis=0)) ** 2) + spread
    assert frechet_distance(one, other) == pytest.approx(expected, rel=1e-12)
    # The same axes with twice the values, and with all values 0.
    alone = np.sum(one.mean(axis=0) ** 2) + one.var(axis=0, ddof=1).sum()
    assert frechet_distance(one, 2 * one) == pytest.approx(alone, rel=1e-12)
    assert frechet_distance(one, 0 * one) == pytest.approx(alone, rel=1e-12)


def test_large_offsets_in_single_precision_do_not_matter():
    one, other = features(50, 0), features(50, 1)
    offset = [(x + 1000).astype(np.float32) for x in (one, other)]
    assert frechet_distance(*offset) == pytest.approx(frechet_distance(one, other), rel=1e-3)


@pytest.mark.parametrize(
    ("one", "other", "cause"),
    [
        (np.ones((1, 3)), np.ones((5, 3)), "real images: have the shape"),
        (np.ones((5, 3)), np.ones((5, 4)), "3 and 4 values"),
        (np.ones((5, 3)), np.full((5, 3), np.nan), "generated images: are not all finite"),
        (np.ones((5, 0)), np.ones((5, 0)), "have the shape"),
    ],
)
def test_wrong_features_raise_an_error(one, other, cause):
    with pytest.raises(OutcropError, match=cause):
        frechet_distance(one, other)


def test_the_floor_is_the_distance_of_two_disjoint_subsets():
    real = features(60, 3)
    assert frechet_floor(real, seed=1) == frechet_floor(real, 30, seed=1)
    assert frechet_floor(real, seed=1) != frechet_floor(real, seed=2)
    # Subsets with a common image would have a smaller distance than any of these.
    ends = np.array([[0.0], [1.0], [10.0], [100.0]])
    pairs = [((0, 1), (2, 3)), ((0, 2), (1, 3)), ((0, 3), (1, 2))]
    possible = [frechet_distance(ends[list(a)], ends[list(b)]) for a, b in pairs]
    for seed in range(10):
        assert np.isclose(frechet_floor(ends, seed=seed), possible).any()
    for size in (1, 31):
        with pytest.raises(OutcropError, match="have 2 to 30 images"):
            frechet_floor(real, size)


@pytest.mark.parametrize(("shift", "scale"), [(0.0, 1.0), (0.2, 1.3), (0.5, 0.5)])
def test_at_infinity_there_is_no_bias_and_the_interval_covers_the_truth(shift, scale):
    rng = np.random.default_rng(0)
    deviations = np.linspace(2, 0.1, 16)
    truth = 16 * shift**2 + np.sum((deviations * (scale - 1)) ** 2)
    raw, found = [], []
    for seed in range(40):
        one = rng.normal(size=(150, 16)) * deviations
        other = rng.normal(size=(200, 16)) * deviations * scale + shift
        raw.append(frechet_distance(one, other))
        found.append(frechet_at_infinity(one, other, seed=seed))
    bias = np.mean([one.distance for one in found]) - truth
    assert np.mean(raw) - truth > 0.4
    assert abs(bias) < 0.25 * (np.mean(raw) - truth)
    assert sum(one.low <= truth <= one.high for one in found) >= 35


def test_spatial_groups_widen_the_interval():
    rng = np.random.default_rng(0)
    ground = np.repeat(np.arange(40), 20)
    real = rng.normal(size=(40, 3))[ground] + 0.1 * rng.normal(size=(800, 3))
    generated = rng.normal(size=(800, 3)) + 1
    alone = frechet_at_infinity(real, generated)
    together = frechet_at_infinity(real, generated, groups=ground)
    assert together.high - together.low > 2 * (alone.high - alone.low)
    assert together == frechet_at_infinity(real, generated, groups=ground)
    with pytest.raises(OutcropError, match="blocks"):
        frechet_at_infinity(real[:30], generated)


def test_the_documentation_says_that_it_is_not_the_fid():
    assert oc.frechet_distance is frechet_distance
    assert "not the FID" in frechet_distance.__doc__
