import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist
from scipy.stats import mannwhitneyu, norm, ortho_group

from outcrop.errors import OutcropError
from outcrop.generative.samples import memorised, nearest, sample_precision_recall

seeds = st.integers(0, 2**32 - 1)
several = settings(deadline=None, max_examples=30)


def cloud(n, seed, channels=4, shift=0.0):
    return np.random.default_rng(seed).gamma(2, 1, (n, channels)) + shift


def share_among(queries, others, k):
    """Eq. 1 and 2 of Kynkäänniemi et al. 2019, pair by pair."""
    inside = 0
    for query in queries:
        for i, one in enumerate(others):
            distances = sorted(
                np.linalg.norm(one - other) for other in np.delete(others, i, axis=0)
            )
            if np.linalg.norm(query - one) <= distances[k - 1]:
                inside += 1
                break
    return inside / len(queries)


@settings(deadline=None, max_examples=10)
@given(seeds, st.integers(1, 4), st.floats(0, 2))
def test_precision_and_recall_are_those_of_the_paper(seed, k, shift):
    real, generated = cloud(14, seed), cloud(18, seed + 1, shift=shift)
    found = sample_precision_recall(real, generated, k, draws=10)
    assert found.precision.value == share_among(generated, real, k)
    assert found.recall.value == share_among(real, generated, k)


@several
@given(seeds, st.floats(1e-3, 1e3))
def test_shares_do_not_depend_on_axes_and_swap_with_the_sets(seed, scale):
    real, generated = cloud(40, seed), cloud(30, seed + 1, shift=0.5)
    rotation = scale * ortho_group.rvs(4, random_state=seed)
    found = sample_precision_recall(real, generated, draws=10)
    moved = sample_precision_recall(
        real @ rotation + 1e6 * scale, generated @ rotation + 1e6 * scale, draws=10
    )
    swapped = sample_precision_recall(generated, real, draws=10)
    assert (moved.precision.value, moved.recall.value) == (
        found.precision.value,
        found.recall.value,
    )
    assert swapped.precision.value == found.recall.value
    assert swapped.recall.value == found.precision.value


@several
@given(seeds, st.integers(1, 6), st.sampled_from([0.0, 1000.0]))
def test_a_copy_lies_among_the_real_images_even_if_they_repeat(seed, copies, offset):
    # An image that is repeated more often than there are neighbours has a distance of 0.
    real = np.repeat(cloud(12, seed), copies, axis=0).astype(np.float32) + np.float32(offset)
    found = sample_precision_recall(real, real[::-1].copy(), draws=10)
    assert (found.precision.value, found.recall.value) == (1, 1)


def test_a_narrow_generator_has_precision_and_a_wide_one_recall():
    real, narrow, wide = (scale * cloud(300, seed) for seed, scale in enumerate((1, 0.3, 1)))
    narrow += 1.4
    wide[::2] += 40
    one = sample_precision_recall(real, narrow)
    other = sample_precision_recall(real, wide)
    assert one.precision.value > 0.9 > 0.2 > one.recall.value
    assert other.recall.value > 0.8 > 0.6 > other.precision.value
    assert one.recall.low < one.recall.value < one.recall.high


def test_spatial_groups_widen_the_interval_of_recall():
    real, generated = cloud(200, 0), cloud(200, 1)
    ground = np.arange(200) // 20
    real[ground < 5] += 50
    alone = sample_precision_recall(real, generated).recall
    together = sample_precision_recall(real, generated, groups=ground).recall
    assert together.high - together.low > 2 * (alone.high - alone.low)
    assert np.isnan(sample_precision_recall(real, generated, groups=0 * ground).recall.low)


@pytest.mark.parametrize("neighbours", [0, 3])
def test_too_few_images_or_neighbours_raise_an_error(neighbours):
    with pytest.raises(OutcropError):
        sample_precision_recall(cloud(3, 0), cloud(30, 1), neighbours)


@several
@given(seeds, st.integers(1, 5), st.sampled_from([np.float64, np.float32, np.uint8]))
def test_the_nearest_images_are_those_of_all_pairs(seed, count, kind):
    rng = np.random.default_rng(seed)
    queries, references = (rng.uniform(0, 255, (n, 2, 3, 3)).astype(kind) for n in (20, 30))
    indices, distances = nearest(queries, references, count)
    pairs = cdist(*(x.reshape(len(x), -1).astype(np.float64) for x in (queries, references)))
    np.testing.assert_allclose(distances, np.sort(pairs, axis=1)[:, :count])
    np.testing.assert_allclose(np.take_along_axis(pairs, indices, axis=1), distances)


def test_a_copy_has_a_distance_of_zero_for_large_values():
    images = (1e4 + np.random.default_rng(0).normal(size=(50, 3, 8, 8))).astype(np.float32)
    indices, distances = nearest(images[::-1], images)
    assert (indices[:, 0] == np.arange(50)[::-1]).all()
    assert (distances == 0).all()


def test_wrong_references_raise_an_error():
    for queries, references, count in (
        (np.zeros((2, 3)), np.zeros((0, 3)), 1),
        (np.zeros((2, 3)), np.zeros((2, 4)), 1),
        (np.zeros((2, 3)), np.zeros((2, 3)), 3),
        (np.full((2, 3), np.inf), np.zeros((2, 3)), 1),
    ):
        with pytest.raises(OutcropError):
            nearest(queries, references, count)


@several
@given(seeds, st.booleans())
def test_memorisation_is_the_test_of_mann_and_whitney(seed, ties):
    samples, train, held_out = cloud(30, seed), cloud(50, seed + 1), cloud(40, seed + 2)
    if ties:
        samples, train, held_out = (np.round(x) for x in (samples, train, held_out))
    found = memorised(samples, train, held_out, draws=10)
    ours, theirs = (cdist(x, train).min(axis=1) for x in (samples, held_out))
    pairs = (ours[:, None] < theirs) + 0.5 * (ours[:, None] == theirs)
    assert found.nearer.value == pytest.approx(pairs.mean())
    if not ties:
        test = mannwhitneyu(
            ours, theirs, use_continuity=False, alternative="less", method="asymptotic"
        )
        assert norm.cdf(found.z) == pytest.approx(test.pvalue)


def test_copies_are_detected():
    train, held_out = cloud(400, 0), cloud(300, 1)
    found = memorised(train[:200], train, held_out)
    assert found.nearer.value == 1
    assert found.z < -15
    assert (found.copies, found.training_side.value) == (1, 1)
    assert found.expected_side == 400 / 700


def test_a_few_copies_among_new_images_are_detected():
    train, held_out, samples = cloud(400, 0), cloud(400, 1), cloud(400, 2)
    samples[:40] = train[:40]
    found = memorised(samples, train, held_out)
    assert found.nearer.value < 0.6
    assert 0.1 <= found.copies < 0.15


def test_new_images_show_no_copying_and_the_interval_covers_the_truth():
    z, side, held, kept = [], [], 0, 0
    for seed in range(60):
        train, held_out, samples = (cloud(n, 3 * seed + k) for k, n in enumerate((150, 100, 80)))
        found = memorised(samples, train, held_out, draws=400)
        z.append(found.z)
        side.append(found.training_side.value)
        held += found.nearer.low <= 0.5 <= found.nearer.high
        kept += found.training_side.low <= 0.6 <= found.training_side.high
    assert abs(np.mean(z)) < 0.4
    assert 0.7 < np.std(z) < 1.3
    assert np.mean(side) == pytest.approx(0.6, abs=0.02)
    assert min(held, kept) >= 52


def test_blur_raises_nearer_but_not_the_training_side():
    held = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        train, held_out = rng.normal(size=(2, 200, 40))
        found = memorised(rng.normal(0, 0.4, (200, 40)), train, held_out, draws=400)
        assert found.nearer.value > 0.95
        held += found.training_side.low <= found.expected_side <= found.training_side.high
    assert held >= 16


def test_one_spatial_group_gives_no_interval():
    samples, train, held_out = cloud(30, 0), cloud(50, 1), cloud(40, 2)
    assert np.isnan(memorised(samples, train, held_out, groups=np.zeros(40)).nearer.low)
    repeated = np.repeat(held_out, 10, axis=0)
    ground = np.repeat(np.arange(40), 10)
    alone = memorised(samples, train, held_out).nearer
    together = memorised(samples, train, repeated, groups=ground).nearer
    assert together.high - together.low == pytest.approx(alone.high - alone.low, rel=0.1)
