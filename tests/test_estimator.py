"""`ResidualClassifier`: the interface of scikit-learn for `train`."""

import copy
import io
import json
import pickle
import tempfile
from dataclasses import fields, replace

import numpy as np
import pytest
from rich.console import Console
from sklearn.base import clone, is_classifier
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.estimator_checks import parametrize_with_checks

from outcrop import progress
from outcrop.errors import OutcropError
from outcrop.models.architectures import ResidualNet
from outcrop.patches.patchset import PatchSet
from outcrop.splits import BlockSplit, Split
from outcrop.training import estimator as estimators
from outcrop.training.classifier import read_classifier
from outcrop.training.engine import train
from outcrop.training.estimator import ResidualClassifier
from outcrop.training.recipe import Augmentation, Machine, Recipe
from outcrop.training.run import read_run
from tests.command_line import run as command
from tests.patches import ground
from tests.tiny import DEVICE

SMALL = ResidualClassifier(depth=8, width=4, epochs=8, batch=8, device=DEVICE, random_state=0)
ROWS = clone(SMALL).set_params(shape=(2, 8, 8))


def some_data(n: int = 60, dtype: str = "float32") -> tuple[np.ndarray, np.ndarray]:
    """Patches of two bands in three classes: plain, with stripes, and bright; and their names."""
    random = np.random.default_rng(0)
    images = random.normal(100, 10, (n, 2, 8, 8))
    images[1::3, :, ::2] += 40
    images[2::3] += 60
    return images.astype(dtype), np.array(["water", "rice", "built-up"])[np.arange(n) % 3]


X, Y = some_data()


@pytest.fixture(scope="module")
def fitted() -> ResidualClassifier:
    return clone(SMALL).fit(X, Y)


# A patch of weight 2 is in one batch, and a repeated patch may be in two: order, dropped blocks and
# batch normalisation differ. The weights themselves are tested below, and the loss in
# test_training_from_python.py.
BATCHES = {
    "check_sample_weight_equivalence_on_dense_data": "batches differ",
    "check_sample_weight_equivalence_on_sparse_data": "batches differ",
}


@parametrize_with_checks(
    [clone(SMALL).set_params(epochs=5, learning_rate=0.1, shape=(-1, 1, 1), precision="32-true")],
    expected_failed_checks=lambda estimator: BATCHES,
)
def test_it_passes_the_checks_of_scikit_learn(estimator, check):
    check(estimator)


def test_it_learns_and_answers_in_the_labels_it_was_given(fitted):
    assert is_classifier(fitted)
    assert fitted.classes_.tolist() == ["built-up", "rice", "water"]
    assert fitted.score(X, Y) > 0.9
    said, chances = fitted.predict(X), fitted.predict_proba(X)
    assert chances.shape == (60, 3)
    np.testing.assert_allclose(chances.sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_array_equal(said, fitted.classes_[chances.argmax(axis=1)])
    assert fitted.loss_curve_[-1] < fitted.loss_curve_[0]
    assert (fitted.n_features_in_, fitted.shape_) == (128, (2, 8, 8))


def test_the_same_number_gives_the_same_classifier_and_another_another(fitted):
    chances = fitted.predict_proba(X)
    np.testing.assert_array_equal(clone(SMALL).fit(X, Y).predict_proba(X), chances)
    other = clone(SMALL).set_params(random_state=1).fit(X, Y)
    assert not np.array_equal(other.predict_proba(X), chances)
    drawn = [
        clone(SMALL).set_params(random_state=np.random.RandomState(3)).fit(X, Y).predict_proba(X)
        for _ in range(2)
    ]
    np.testing.assert_array_equal(*drawn)


def test_fit_is_the_function_train(fitted, tmp_path):
    patches = PatchSet(X, np.unique(Y, return_inverse=True)[1], ("f", "r", "w"), ("1", "2"))
    split = Split(np.zeros(60, np.int8), np.arange(60), patches.fingerprint)
    recipe = Recipe(epochs=8, batch=8, machine=Machine(device=DEVICE))
    trained = train(patches, split, tmp_path / "run", ResidualNet(depth=8, width=4), recipe)
    np.testing.assert_array_equal(trained.classifier.predict_proba(X), fitted.predict_proba(X))
    assert [epoch.train.loss for epoch in trained.metrics] == fitted.loss_curve_


def test_rows_are_patches_of_the_given_shape(fitted):
    rows = X.reshape(60, -1)
    chances = clone(ROWS).fit(rows, Y).predict_proba(rows)
    np.testing.assert_array_equal(chances, fitted.predict_proba(X))
    np.testing.assert_array_equal(fitted.predict_proba(rows), chances)
    for shape in ((-1, 8, 8), (2, -1, 8)):
        found = clone(SMALL).set_params(shape=shape, epochs=1).fit(rows, Y)
        assert found.shape_ == (2, 8, 8)


@pytest.mark.parametrize("dtype", ["uint8", "int64", "float64"])
def test_numbers_of_any_type_and_gaps(dtype):
    images, names = some_data(dtype=dtype)
    chances = clone(SMALL).fit(images, names).predict_proba(images)
    np.testing.assert_allclose(
        clone(SMALL).fit(images.astype("float32"), names).predict_proba(images), chances, atol=1e-5
    )
    if dtype == "float64":
        images[::7, 0, :3] = np.nan
        images[1, 1, 4] = np.inf
        assert np.isfinite(clone(SMALL).fit(images, names).predict_proba(images)).all()


def test_every_setting_of_network_and_augmentation_is_a_parameter_and_has_its_default():
    given = ResidualClassifier().get_params()
    for kind in (ResidualNet, Augmentation):
        of_positions = {"neighbourhood", "slices"}  # which X has none of
        assert {item.name for item in fields(kind)} - of_positions <= given.keys()
    for kind in (ResidualNet(), Recipe(), Augmentation(), Machine()):
        for item in fields(kind):
            if item.name in given:
                default = getattr(kind, item.name)
                same = tuple(default) if isinstance(default, list) else default
                assert given[item.name] == same, item.name


def test_settings_reach_the_run_that_is_kept(tmp_path):
    changed = {
        "widen": np.int64(2), "order": "pre-activation", "shortcut": "projection",
        "survival": np.float64(0.5), "schedule": "step", "milestones": (0.4,), "average": 0.5,
        "test_flip": True, "rotate": True, "noise": 0.1, "precision": "32-true",
    }  # fmt: skip
    folder = tmp_path / "kept"
    model = clone(SMALL).set_params(**changed, epochs=2, folder=folder, random_state=7).fit(X, Y)
    config = json.loads((folder / "config.json").read_text())
    recipe = config["recipe"]
    told = config["network"] | recipe | recipe["augmentation"] | recipe["machine"]
    assert {name: told[name] for name in changed} == changed | {"milestones": [0.4]}
    assert (told["seed"], told["depth"], told["epochs"]) == (7, 8, 2)

    read = read_classifier(folder, DEVICE)
    assert read.flip
    assert (read.classes, read.bands) == (("built-up", "rice", "water"), ("band 1", "band 2"))
    np.testing.assert_array_equal(read.predict_proba(X), model.predict_proba(X))
    with pytest.raises(OutcropError, match=r"exists already; choose another name$"):
        model.fit(X, Y)


def test_a_run_without_a_validation_side_has_no_scores_and_says_so(tmp_path, capfd):
    folder = tmp_path / "kept"
    clone(SMALL).set_params(epochs=1, folder=folder).fit(X, Y)
    run = read_run(folder, DEVICE)
    assert run.metrics[0].validation is None
    with pytest.raises(OutcropError, match=r"has no validation side; .*outcrop.evaluate"):
        _ = run.scores
    assert command(f"report {folder}") == 2
    assert "has no validation side" in capfd.readouterr().err


def test_no_files_and_no_output_remain(tmp_path, monkeypatch):
    terminal = Console(file=io.StringIO(), force_terminal=True)
    monkeypatch.setattr(progress, "console", terminal)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    clone(SMALL).set_params(epochs=1).fit(X, Y)
    assert list(tmp_path.iterdir()) == []
    assert terminal.file.getvalue() == ""
    clone(SMALL).set_params(epochs=1, verbose=True).fit(X, Y)
    assert "training" in terminal.file.getvalue()


def test_a_pipeline_scales_columns_first(fitted):
    model = make_pipeline(StandardScaler(), clone(ROWS)).fit(X.reshape(60, -1), Y)
    assert model.score(X.reshape(60, -1), Y) > 0.9


def test_a_search_over_depth_and_learning_rate_finds_the_rate_that_learns():
    grid = {"depth": np.array([8, 14]), "learning_rate": np.array([1e-6, 0.05])}
    search = GridSearchCV(clone(SMALL), grid, cv=2, error_score="raise").fit(X, Y)
    assert search.best_params_["learning_rate"] == 0.05
    assert search.best_estimator_.classifier_.network.depth == search.best_params_["depth"]
    assert search.score(X, Y) > 0.9


def test_spatial_cross_validation():
    column, row = np.arange(60) % 10, np.arange(60) // 10
    patches = ground(1000.0 * column, 1000.0 * row, np.arange(60), np.arange(60) % 2)
    patches = replace(patches, images=X, bands=("1", "2"))
    names = np.array(patches.classes)[patches.labels]
    bright = X + 100 * patches.labels[:, None, None, None]
    patches = replace(patches, images=bright)
    splitter = BlockSplit(block=3000, n_splits=3)
    scores = cross_val_score(clone(SMALL), patches, names, cv=splitter, error_score="raise")
    assert len(scores) == 3
    assert scores.mean() > 0.9


def test_cross_validate_gives_the_fitted_back():
    found = cross_validate(
        clone(ROWS),
        X.reshape(60, -1),
        Y,
        cv=2,
        scoring=["accuracy", "neg_log_loss"],
        return_estimator=True,
        error_score="raise",
    )
    assert (found["test_accuracy"] > 0.9).all()
    assert (found["test_neg_log_loss"] < 0).all()
    assert [model.loss_curve_[-1] < 1 for model in found["estimator"]] == [True, True]


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_the_fitted_can_be_copied_and_sent(fitted, duplicate):
    averaged = clone(SMALL).set_params(epochs=2, average=0.9, recompute=1).fit(X, Y)
    for model in (fitted, averaged):
        np.testing.assert_array_equal(duplicate(model).predict_proba(X), model.predict_proba(X))


def test_the_classifier_inside_can_be_saved(fitted, tmp_path):
    fitted.classifier_.save(tmp_path)
    read = read_classifier(tmp_path, DEVICE)
    np.testing.assert_array_equal(read.predict_proba(X), fitted.predict_proba(X))


def test_before_fit_nothing_is_predicted():
    with pytest.raises(NotFittedError):
        SMALL.predict(X)


@pytest.mark.parametrize(
    ("model", "images", "labels", "message"),
    [
        (SMALL, X.reshape(60, -1), Y, r"rows of 128 numbers; pass .* shape=\(bands, height, width"),
        (ROWS, X[:, :1].reshape(60, -1), Y, "64 numbers, which are no patches of 2 × 8 × 8"),
        (SMALL, X[:, 0], Y, "dim 3"),
        (SMALL, X, Y[:-1], "inconsistent numbers of samples"),
        (SMALL, X, np.full(60, "water"), "one class only"),
        (SMALL, X, np.linspace(0, 1, 60), "[Uu]nknown label type"),
        (SMALL, X[:0], Y[:0], "0 sample"),
    ],
)
def test_data_that_cannot_be_used(model, images, labels, message):
    with pytest.raises(ValueError, match=message):
        clone(model).fit(images, labels)


def test_patches_of_another_shape_are_refused(fitted):
    with pytest.raises(ValueError, match=r"2 × 4 × 16, but .* expecting 2 × 8 × 8"):
        fitted.predict(X.reshape(60, 2, 4, 16))
    with pytest.raises(ValueError, match="64 features, but ResidualClassifier is expecting 128"):
        fitted.predict(X[:, :1])


def test_invalid_settings_are_reported_in_fit():
    with pytest.raises(OutcropError, match="depth 9 is not 6n"):
        clone(SMALL).set_params(depth=9).fit(X, Y)
    with pytest.raises(OutcropError, match="schedule is linear; take cosine"):
        clone(SMALL).set_params(schedule="linear").fit(X, Y)


# Weights


@pytest.fixture
def weights_of(monkeypatch):
    """The weights that an estimator gives to the training, without the training."""

    class EnoughError(Exception):
        pass

    found = []

    def stop(*arguments, sample_weight, **settings):
        found.append(sample_weight)
        raise EnoughError

    def weights(labels, sample_weight=None, class_weight=None):
        monkeypatch.setattr(estimators, "train", stop)
        model = clone(SMALL).set_params(class_weight=class_weight)
        with pytest.raises(EnoughError):
            model.fit(X[: len(labels)], labels, sample_weight)
        return found[-1]

    return weights


LABELS = np.array(["a"] * 6 + ["b"] * 3 + ["c"])


@pytest.mark.parametrize("class_weight", ["balanced", {"a": 0.5, "b": 2, "c": 3}, {"b": 4}])
def test_classes_are_weighted_as_in_scikit_learn(weights_of, class_weight):
    expected = compute_sample_weight(class_weight, LABELS)
    np.testing.assert_allclose(weights_of(LABELS, class_weight=class_weight), expected)
    twice = weights_of(LABELS, np.full(10, 2.0), {"b": 4})
    np.testing.assert_allclose(twice, 2 * compute_sample_weight({"b": 4}, LABELS))


def test_balanced_counts_a_patch_of_weight_two_twice(weights_of):
    times = np.arange(10) % 3 + 1
    found = weights_of(LABELS, times, "balanced")
    repeated = weights_of(np.repeat(LABELS, times), class_weight="balanced")
    np.testing.assert_allclose(found, times * repeated[np.cumsum(times) - 1])


def test_without_weights_nothing_is_weighted(weights_of, fitted):
    assert weights_of(LABELS) is None


def test_equal_weights_change_nothing(fitted):
    found = clone(SMALL).fit(X, Y, np.full(60, 7.0)).predict_proba(X)
    np.testing.assert_allclose(found, fitted.predict_proba(X), atol=1e-5)


def test_patches_of_weight_zero_have_no_influence():
    strange = X.copy()
    strange[40:] = 1e6
    weights = np.where(np.arange(60) < 40, 1.0, 0.0)
    found = [clone(SMALL).fit(images, Y, weights).predict_proba(X) for images in (X, strange)]
    np.testing.assert_array_equal(*found)
    np.testing.assert_allclose(
        found[0], clone(SMALL).fit(X[:40], Y[:40]).predict_proba(X), atol=1e-5
    )


def test_a_heavy_class_is_predicted_where_classes_cannot_be_told_apart():
    same, labels = np.tile(X[:1], (60, 1, 1, 1)), np.arange(60) % 2
    for heavy in (0, 1):
        found = clone(SMALL).set_params(class_weight={heavy: 9}).fit(same, labels)
        assert found.predict_proba(X[:1])[0, heavy] > 0.8


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (np.ones(59), "inconsistent|sample_weight.shape"),
        (np.full(60, -1.0), "[Nn]egative"),
        (np.zeros(60), "at least one non-zero|weight above 0 in two classes"),
        ((Y == "water") * 1.0, "weight above 0 in two classes"),
    ],
)
def test_weights_that_cannot_be_used(weights, message):
    with pytest.raises(ValueError, match=message):
        clone(SMALL).fit(X, Y, weights)
