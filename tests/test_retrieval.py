import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import recall_score
from sklearn.metrics.pairwise import cosine_similarity

from outcrop.errors import OutcropError
from outcrop.generative.retrieval import retrieved

CLASSES = ("rice", "water", "mudflat")


def random_images(n, seed):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 3, n), rng.dirichlet(np.ones(3), n), None


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32 - 1))
def test_rows_equal_independent_measures(seed):
    wanted, predicted, _ = generated = random_images(60, seed)
    found = retrieved(generated, CLASSES, draws=10)
    recalls = recall_score(wanted, predicted.argmax(axis=1), labels=[0, 1, 2], average=None)
    for k, row in enumerate(found.rows):
        of_class, target = predicted[wanted == k], np.eye(3)[[k]]
        assert row.name == CLASSES[k]
        assert row.generated.pictures == len(of_class)
        assert row.generated.share.value == pytest.approx(recalls[k])
        assert row.generated.cosine == pytest.approx(cosine_similarity(of_class, target).mean())
        assert row.generated.squared_error == pytest.approx(np.square(of_class - target).mean())
        assert row.real is row.untouched is None
    for what in ("cosine", "squared_error"):
        mean = np.mean([getattr(row.generated, what) for row in found.rows])
        assert getattr(found.mean.generated, what) == pytest.approx(mean)
    assert found.mean.generated.share.value == pytest.approx(recalls.mean())
    assert found.mean.generated.pictures == 60


def test_generated_images_lie_between_real_and_untouched_ones():
    wanted = np.repeat(np.arange(3), 40)
    sure, unsure = np.eye(3)[wanted], np.full((120, 3), 1 / 3)
    constant = np.tile([0.0, 1, 0], (120, 1))
    half = (sure + unsure) / 2
    found = retrieved(
        (wanted, half, None), CLASSES, real=(wanted, sure, None), untouched=(wanted, constant, None)
    )
    one = found.mean
    assert (one.real.cosine, one.real.squared_error, one.real.share.value) == (1, 0, 1)
    assert one.real.cosine > one.generated.cosine > one.untouched.cosine
    assert one.real.squared_error < one.generated.squared_error < one.untouched.squared_error
    # A generator that always shows water has a share of 1 for water and a third on average.
    assert [row.untouched.share.value for row in found.rows] == [0, 1, 0]
    assert one.untouched.share.value == pytest.approx(1 / 3)


def test_a_class_without_images_is_nan_and_not_zero():
    found = retrieved((np.array([0, 1]), np.eye(3)[[0, 0]], None), CLASSES)
    nothing = found.rows[2].generated
    assert nothing.pictures == 0
    assert np.isnan([nothing.share.value, nothing.cosine, nothing.squared_error]).all()
    assert found.mean.generated.share.value == 0.5
    assert found.mean.generated.cosine == 0.5


def test_spatial_groups_are_resampled_as_a_whole():
    wanted, predicted, _ = random_images(120, 0)
    one_piece = retrieved((wanted, predicted, np.zeros(120)), CLASSES)
    assert np.isnan(one_piece.mean.generated.share.low)
    assert not np.isnan(retrieved((wanted, predicted, None), CLASSES).mean.generated.share.low)


@pytest.mark.parametrize(
    ("probabilities", "cause"),
    [
        (np.full((3, 3), 1 / 3), "shape"),
        (np.array([[2.0, -1, 0], [1, 0, 0]]), "softmax"),
        (np.array([[3.0, 1, 0], [1, 0, 0]]), "softmax"),
        (np.full((2, 3), np.nan), "softmax"),
    ],
)
def test_wrong_probabilities_raise_an_error(probabilities, cause):
    with pytest.raises(OutcropError, match=cause):
        retrieved((np.array([0, 1]), probabilities, None), CLASSES)


def test_no_images_raise_an_error():
    with pytest.raises(OutcropError):
        retrieved((np.zeros(0, int), np.zeros((0, 3)), None), CLASSES)
