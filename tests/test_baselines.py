from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter, label
from scipy.stats import multivariate_normal
from sklearn.discriminant_analysis import QuadraticDiscriminantAnalysis
from sklearn.model_selection import cross_val_predict

from outcrop.errors import OutcropError
from outcrop.models import baselines
from outcrop.models.baselines import BASELINES, Baseline, spatial_folds, stratified_sample
from outcrop.models.features import FEATURES
from outcrop.models.gaussian import MaximumLikelihood
from tests.shared import DATA, needs_shared

pytestmark = pytest.mark.filterwarnings("error")
ALL = pytest.mark.parametrize("baseline", BASELINES, ids=lambda b: f"{b.name} on {b.features}")


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(baselines, "spatial_folds", partial(spatial_folds, wanted=2))


def textured(seed, n=150, size=8):
    """Three classes that differ more in texture than in colour, in 15 spatial blocks."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 3
    groups = rng.integers(0, 15, n)
    images = rng.normal(size=(n, 2, size, size))
    for k in (1, 2):
        images[labels == k] = 3 * gaussian_filter(images[labels == k], (0, 0, k, k))
    shift = rng.normal(0, 0.3, (15, 2))[groups] + 0.4 * labels[:, None]
    return (images + shift[:, :, None, None]).astype(np.float32), labels, groups


def clouds(seed, counts, features=3):
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(counts)), counts)
    shapes = rng.normal(size=(len(counts), features, features))
    X = np.einsum("nf,nfg->ng", rng.normal(size=(len(labels), features)), shapes[labels])
    return X + rng.normal(0, 2, (len(counts), features))[labels], labels


def test_maximum_likelihood_is_the_gaussian_density():
    X, labels = clouds(0, [50, 80, 30])
    found = MaximumLikelihood().fit(X, labels).decision_function(X)
    expected = np.stack(
        [
            multivariate_normal(of_class.mean(axis=0), np.cov(of_class.T, bias=True)).logpdf(X)
            for of_class in (X[labels == k] for k in range(3))
        ],
        axis=1,
    )
    np.testing.assert_allclose(found - found[:, :1], expected - expected[:, :1], atol=1e-8)
    discriminant = QuadraticDiscriminantAnalysis(priors=np.ones(3) / 3).fit(X, labels)
    agree = MaximumLikelihood().fit(X, labels).predict(X) == discriminant.predict(X)
    assert agree.mean() > 0.98


def test_full_shrinkage_shares_one_covariance():
    X, labels = clouds(1, [50, 80, 30])
    scores = MaximumLikelihood(shrinkage=1.0).fit(X, labels).decision_function(X)
    within = sum(np.cov(X[labels == k].T, bias=True) * (labels == k).mean() for k in range(3))
    expected = np.stack(
        [multivariate_normal(X[labels == k].mean(axis=0), within).logpdf(X) for k in range(3)],
        axis=1,
    )
    np.testing.assert_allclose(scores - scores[:, :1], expected - expected[:, :1], atol=1e-8)


@pytest.mark.usefixtures("quick")
@ALL
def test_learns_repeats_and_gives_probabilities(baseline):
    images, labels, groups = textured(0)
    new_images, truth, _ = textured(1)
    fitted = baseline.fit(images, labels, groups, classes=5, seed=3)
    predicted, probabilities = fitted.predict(new_images), fitted.predict_proba(new_images)
    assert predicted.dtype == np.int64
    assert (predicted == truth).mean() > (0.85 if baseline.features == "patch statistics" else 0.4)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    np.testing.assert_array_equal(probabilities.argmax(axis=1), predicted)
    assert (probabilities[:, 3:] == 0).all()
    table = FEATURES[baseline.features](images)
    again = baseline.fit(table, labels, groups, classes=5, seed=3)
    assert again.settings == fitted.settings
    np.testing.assert_array_equal(again.predict_proba(new_images), probabilities)


@pytest.mark.usefixtures("quick")
@ALL
def test_rare_classes_and_flat_bands_do_not_crash(baseline):
    images, labels, groups = textured(2, n=60)
    images[:, 1] = 7
    labels[labels == 2] = 1
    labels[:1], labels[1:3] = 4, 2
    for known in (groups, None):
        fitted = baseline.fit(images, labels, known)
        assert np.isfinite(fitted.predict_proba(images)).all()
        assert set(fitted.predict(images)) <= {0, 1, 2, 4}


@pytest.mark.usefixtures("quick")
@ALL
def test_pixels_without_data_are_passed_over(baseline):
    """Patches at the edge of a scene or under clouds; the labelled pixel itself has data."""
    images, labels, groups = textured(5)
    images[np.random.default_rng(0).random(images.shape) < 0.3] = np.nan
    images[:50, :, :3] = np.nan
    images[0] = np.nan
    images[:, :, 4, 4] = labels[:, None]
    fitted = baseline.fit(images, labels, groups)
    probabilities = fitted.predict_proba(images)
    assert np.isfinite(probabilities).all()
    assert (fitted.predict(images) == labels).mean() > 0.9
    only_centre = np.full_like(images, np.nan)
    only_centre[:, :, 4, 4] = images[:, :, 4, 4]
    assert np.isfinite(fitted.predict_proba(only_centre)).all()


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("name", ["maximum likelihood", "SVM"])
def test_a_labelled_pixel_without_data_is_one_line(name):
    images, labels, _ = textured(5)
    fitted = Baseline(name, "centre pixel").fit(images, labels)
    images[3, 1, 4, 4] = np.nan
    with pytest.raises(OutcropError, match=r"cannot predict from these features .Input .*NaN") as e:
        fitted.predict(images)
    assert "\n" not in str(e.value)
    with pytest.raises(OutcropError, match=r"these features .Input .*NaN"):
        fitted.baseline.fit(images, labels)


@pytest.mark.usefixtures("quick")
@ALL
def test_no_folds_no_tuning(baseline):
    images, labels, _ = textured(3, n=30)
    images, labels = images[labels < 2], labels[labels < 2]
    fitted = baseline.fit(images, labels, groups=labels)
    assert fitted.temperature == 1
    assert (fitted.predict(images) == labels).mean() > 0.5


def test_one_class_is_refused():
    images, labels, _ = textured(0, n=9)
    with pytest.raises(OutcropError, match="two classes"):
        BASELINES[0].fit(images, np.zeros_like(labels))


@given(
    seed=st.integers(0, 1000),
    n=st.integers(4, 60),
    classes=st.integers(2, 4),
    grounds=st.integers(1, 12),
)
@settings(max_examples=60, deadline=None)
def test_folds_keep_groups_whole(seed, n, classes, grounds):
    rng = np.random.default_rng(seed)
    groups = rng.integers(0, grounds, n)
    labels = (groups + (rng.random(n) < 0.3)) % classes
    folds = spatial_folds(labels, groups, seed)
    assert len(folds) <= 5
    for train, held in folds:
        assert not set(groups[train]) & set(groups[held])
        assert len(np.unique(labels[train])) > 1
    if folds:
        held_out = np.concatenate([held for _, held in folds])
        np.testing.assert_array_equal(np.sort(held_out), np.arange(n))


@given(seed=st.integers(0, 1000), size=st.integers(5, 80))
@settings(max_examples=40, deadline=None)
def test_sample_keeps_every_class_and_its_share(seed, size):
    counts = np.array([60, 1, 30, 9])
    labels = np.random.default_rng(seed).permutation(np.repeat(np.arange(4), counts))
    sample = stratified_sample(labels, size, seed)
    assert len(np.unique(sample)) == size
    kept = np.bincount(labels[sample], minlength=4)
    assert (kept >= 1).all()
    np.testing.assert_allclose(kept, counts * size / 100, atol=2)


def log_loss(probabilities, truth):
    return -np.log(probabilities[np.arange(len(truth)), truth]).mean()


@pytest.mark.parametrize("name", ["maximum likelihood", "SVM"])
def test_the_temperature_calibrates_probabilities(monkeypatch, name):
    rng = np.random.default_rng(4)
    labels = rng.integers(0, 3, 800)
    pixels = labels[:, None] + 0.5 * rng.standard_t(2, (800, 4))  # more outliers than a Gaussian
    known, new = slice(0, 200), slice(200, 800)
    baseline = Baseline(name, "centre pixel")
    tempered = baseline.fit(pixels[known], labels[known]).predict_proba(pixels[new])
    monkeypatch.setattr(baselines, "_temperature", lambda scores, y: 1.0)
    plain = baseline.fit(pixels[known], labels[known]).predict_proba(pixels[new])
    np.testing.assert_array_equal(plain.argmax(axis=1), tempered.argmax(axis=1))
    assert log_loss(tempered, labels[new]) < 0.95 * log_loss(plain, labels[new])


def test_few_patches_without_errors_give_no_certainty():
    scores = 50.0 * np.eye(3)[np.arange(30) % 3]
    temperature = baselines._temperature(scores, np.arange(30) % 3)
    confidence = 1 / (1 + 2 * np.exp(-50 / temperature))
    assert confidence == pytest.approx(31 / 32, abs=0.001)


@pytest.fixture(scope="module")
def landsat():
    """Labelled pixels without gaps: bands `N × 6 × 1 × 1`, labels, labelled patch of ground."""
    rasterio = pytest.importorskip("rasterio")
    bands = []
    for path in sorted((DATA / "nc_landsat").glob("lsat7_2000_*.tif")):
        with rasterio.open(path) as scene:
            bands.append(scene.read(1, masked=True).astype(np.float32).filled(np.nan))
    with rasterio.open(DATA / "nc_landsat" / "landsat96_labelled_pixels.tif") as raster:
        truth = raster.read(1, masked=True).filled(0).astype(int)
    ground, pieces = label(truth > 0)
    kept = (truth > 0) & np.isfinite(bands).all(axis=0)
    assert (pieces, kept.sum()) == (33, 2436)
    return np.stack(bands)[:, kept].T[:, :, None, None], truth[kept] - 1, ground[kept]


@needs_shared
@pytest.mark.parametrize(
    ("name", "at_random", "by_ground"), [("maximum likelihood", 79.8, 71.1), ("SVM", 82.1, 71.9)]
)
def test_landsat_scores_are_the_known_ones(landsat, monkeypatch, name, at_random, by_ground):
    monkeypatch.setattr(baselines, "TUNING_PATCHES", 300)
    images, labels, ground = landsat
    baseline = Baseline(name, "centre pixel")
    for groups, expected in ((None, at_random), (ground, by_ground)):
        predicted = np.empty_like(labels)
        for train, held in spatial_folds(labels, groups, seed=0):
            known = None if groups is None else groups[train]
            fitted = baseline.fit(images[train], labels[train], known, classes=7)
            predicted[held] = fitted.predict(images[held])
        accuracy = 100 * (predicted == labels).mean()
        assert accuracy == pytest.approx(expected, abs=4)


@needs_shared
def test_landsat_reference_is_a_discriminant_with_class_priors(landsat):
    """Where the known figure for maximum likelihood comes from: priors as in the sample."""
    images, labels, ground = landsat
    X = images[:, :, 0, 0].astype(np.float64)
    for groups, expected in ((None, 79.8), (ground, 71.1)):
        folds = spatial_folds(labels, groups, seed=0)
        predicted = cross_val_predict(QuadraticDiscriminantAnalysis(), X, labels, cv=folds)
        assert 100 * (predicted == labels).mean() == pytest.approx(expected, abs=1)
