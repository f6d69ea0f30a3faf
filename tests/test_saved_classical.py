"""Classical models on disk: the same model is read, and other content is refused."""

import io
import json
import os
import subprocess
import sys
from dataclasses import replace
from zipfile import ZipFile

import numpy as np
import pytest
import skops.io
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import StackingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC
from sklearn.tree import DecisionTreeClassifier

from outcrop.errors import OutcropError
from outcrop.models import archive, baselines
from outcrop.models.baselines import BASELINES, Baseline, FittedBaseline

OWN = {
    "logistic": LogisticRegression(),
    "calibrated": CalibratedClassifierCV(LinearSVC(), cv=2),
    "perceptron": MLPClassifier((20,), max_iter=20),
    "neighbours": KNeighborsClassifier(3, algorithm="brute"),
    "neighbours by a tree": make_pipeline(StandardScaler(), KNeighborsClassifier(3)),
    "stacked": StackingClassifier([("a", GaussianNB()), ("b", DecisionTreeClassifier())], cv=2),
}
KINDS = [b for b in BASELINES if b.features == "centre pixel"] + [
    Baseline(name, "centre pixel", estimator) for name, estimator in OWN.items()
]
pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.usefixtures("small_models"),
]


def places(seed=0, n=90):
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(n) % 3)
    labels[labels == 2] = 4
    return (rng.normal(0, 1, (n, 3)) + labels[:, None]).astype(np.float32), labels


def reread(fitted, folder, **changes):
    """From the files alone."""
    fitted.save(folder)
    description = json.loads(json.dumps(fitted.description))
    return FittedBaseline.from_description(folder, {**description, **changes})


@pytest.mark.parametrize("baseline", KINDS, ids=lambda b: b.name)
def test_a_model_comes_back_as_it_was(baseline, tmp_path):
    X, y = places()
    fitted = baseline.fit(X, y, classes=6)
    before = fitted.probabilities_of(X)
    found = reread(fitted, tmp_path)
    np.testing.assert_array_equal(fitted.probabilities_of(X), before)
    np.testing.assert_array_equal(found.probabilities_of(X), fitted.probabilities_of(X))
    assert found.description == fitted.description
    assert (found.baseline.name, found.settings) == (baseline.name, fitted.settings)
    # It can be fitted again and saved again.
    assert found.baseline.fit(X, y, classes=6).identity == fitted.identity
    assert [p.name for p in tmp_path.iterdir()] == ["model.skops"]


@pytest.mark.parametrize("baseline", KINDS, ids=lambda b: b.name)
def test_identity_tells_models_apart(baseline):
    X, y = places()
    fitted = baseline.fit(X, y, seed=1)
    others = [
        baseline.fit(X + np.float32(1e-3) * (np.arange(90) == 0)[:, None], y, seed=1),
        baseline.fit(X, y, classes=9, seed=1),
        replace(fitted, temperature=fitted.temperature * 2),
        replace(fitted, baseline=replace(baseline, features="patch statistics")),
    ]
    assert baseline.fit(X, y, seed=1).identity == fitted.identity
    assert len({fitted.identity, *(other.identity for other in others)}) == 5


def test_identity_is_the_same_in_another_process():
    code = (
        "from tests.test_saved_classical import *; found = baselines.spatial_folds;"
        "baselines.spatial_folds = lambda *how: found(*how, wanted=2);"
        "print(Baseline('decision tree', 'centre pixel').fit(*places()).identity)"
    )
    other = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONHASHSEED": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    here = Baseline("decision tree", "centre pixel").fit(*places()).identity
    assert other.stdout.strip() == here


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    fitted = Baseline("decision tree", "centre pixel").fit(*places())
    fitted.save(folder)
    return (folder / "model.skops").read_bytes(), fitted


def lines_of(tmp_path, content, description):
    (tmp_path / "model.skops").write_bytes(content)
    with pytest.raises(OutcropError) as error:
        FittedBaseline.from_description(tmp_path, description)
    assert str(error.value).startswith(str(tmp_path / "model.skops"))
    assert "\n" not in str(error.value)
    assert ";" in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("share", [0, 0.3, 0.7, 0.999])
def test_a_damaged_file_is_refused(saved, tmp_path, share):
    content, fitted = saved
    at = int(share * len(content))
    flipped = content[:at] + bytes([content[at] ^ 0x55]) + content[at + 1 :]
    for damaged in (content[:at], flipped):
        assert "train the model anew" in lines_of(tmp_path, damaged, fitted.description)


def test_a_file_of_another_program_is_refused(saved, tmp_path):
    _, fitted = saved
    other = io.BytesIO()
    with ZipFile(other, "w") as members:
        members.writestr("schema.json", "{}")
    for content in (b"", b"not a model", other.getvalue(), skops.io.dumps([1, 2])):
        lines_of(tmp_path, content, fitted.description)
    (tmp_path / "model.skops").unlink()
    with pytest.raises(OutcropError, match="no such classical model"):
        FittedBaseline.from_description(tmp_path, fitted.description)


def test_a_changed_description_is_refused(saved, tmp_path):
    content, fitted = saved
    for key, value in (("temperature", 2.0), ("present", [0, 1, 2]), ("width", 2), ("name", "x")):
        line = lines_of(tmp_path, content, {**fitted.description, key: value})
        assert "checksum" in line
    for key in fitted.description:
        lines_of(tmp_path, content, {k: v for k, v in fitted.description.items() if k != key})


class Mine(ClassifierMixin, BaseEstimator):
    made = 0

    def __init__(self, strength=1.0):
        self.strength = strength

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        return self

    def predict_proba(self, X):
        return np.full((len(X), len(self.classes_)), 1 / len(self.classes_))

    def __setstate__(self, state):
        Mine.made += 1
        super().__setstate__(state)


def test_untrusted_types_are_not_created(tmp_path):
    X, y = places()
    fitted = Baseline("mine", "centre pixel", Mine()).fit(X, y)
    name = f"{Mine.__module__}.Mine"
    with pytest.raises(OutcropError, match=f"types that are not trusted .{name}."):
        fitted.save(tmp_path)
    assert not list(tmp_path.iterdir())
    Mine.made = 0
    line = lines_of(tmp_path, archive.packed(fitted.estimator, "mine"), fitted.description)
    assert name in line
    assert Mine.made == 0
    fitted.save(tmp_path, trusted=[name])
    found = FittedBaseline.from_description(tmp_path, fitted.description, trusted=[name])
    assert Mine.made > 0
    np.testing.assert_array_equal(found.probabilities_of(X), fitted.probabilities_of(X))


def test_an_estimator_that_cannot_be_written_gives_one_line(tmp_path):
    fitted = Baseline("mine", "centre pixel", Mine(strength=io.StringIO())).fit(*places())
    with pytest.raises(OutcropError, match="mine: cannot be saved") as error:
        fitted.save(tmp_path)
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


def test_another_version_of_scikit_learn_is_named(monkeypatch, tmp_path, capsys):
    X, y = places()
    fitted = Baseline("SVM", "centre pixel").fit(X, y)
    fitted.save(tmp_path)
    description = fitted.description
    monkeypatch.setattr(baselines.sklearn, "__version__", "9.9")
    found = FittedBaseline.from_description(tmp_path, description)
    version = description["scikit_learn"]
    assert f"fitted with scikit-learn {version} and is read with 9.9" in capsys.readouterr().err
    np.testing.assert_array_equal(found.probabilities_of(X), fitted.probabilities_of(X))


@pytest.mark.parametrize("name", ["decision tree", "random forest", "gradient boosting"])
def test_a_manipulated_file_is_refused(name, tmp_path):
    """The checksum is right, but its trees use features that do not exist."""
    fitted = Baseline(name, "centre pixel").fit(*places())
    narrow = replace(fitted, width=1)
    narrow.save(tmp_path)
    with pytest.raises(OutcropError, match="another number of features"):
        FittedBaseline.from_description(tmp_path, narrow.description)
    fitted.estimator.n_features_in_ = 1
    narrow = replace(fitted, width=1)
    narrow.save(tmp_path)
    with pytest.raises(OutcropError, match="damaged decision tree"):
        FittedBaseline.from_description(tmp_path, narrow.description)
