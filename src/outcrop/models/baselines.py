"""Classical classifiers with tuning, as baselines for networks."""

from __future__ import annotations

import hashlib
import json
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import sklearn
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp, softmax
from sklearn.base import BaseEstimator, clone, is_classifier
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import ParameterGrid, StratifiedGroupKFold, StratifiedKFold
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier
from sklearn.utils.parallel import Parallel, delayed
from threadpoolctl import threadpool_limits

from outcrop.errors import OutcropError
from outcrop.files import decoding, first_line, new_file
from outcrop.models.archive import check_trusted, content_hash, packed, unpacked
from outcrop.models.features import FEATURES
from outcrop.models.gaussian import MaximumLikelihood
from outcrop.models.scoring import Scorer
from outcrop.progress import warn

FOLDS = 5
TUNING_PATCHES = 2500
SVM_PATCHES = 10_000
FILE = "model.skops"
_PART = 1 << 14

Folds = list[tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Baseline:
    """A classical classifier and its features.

    >>> Baseline("SVM", "centre pixel")  # doctest: +ELLIPSIS
    Baseline(name='SVM', features='centre pixel', ...)

    Any classifier of scikit-learn can be used too: `Baseline("neighbours", "centre pixel",
    KNeighborsClassifier())`. It is fitted without tuning, on all patches.

    Attributes:
        name: 'maximum likelihood', 'decision tree', 'random forest', 'gradient boosting' or
            'SVM'; or any name for a given estimator.
        features: 'centre pixel' or 'patch statistics' (see `outcrop.models.features`), or the name
            of a table of features that is given instead of images.
        estimator: classifier with `fit`, `get_params`, `classes_`, and `predict_proba` or
            `decision_function`. A copy of it is fitted, with the random seed in every
            `random_state`; class labels are int.

    Raises:
        OutcropError: an unknown name without an estimator, or an object that is not a classifier.
    """

    name: str
    features: str
    estimator: Any = None

    def __post_init__(self) -> None:
        if self.estimator is None and self.name not in _RECIPES:
            raise OutcropError(
                self.name, f"is no classical model; take one of {', '.join(_RECIPES)}"
            )
        if self.estimator is not None and not (
            not isinstance(self.estimator, type)
            and all(hasattr(self.estimator, method) for method in ("fit", "get_params"))
            # Some classifiers have no `predict_proba` before they are fitted.
            and (_gives_scores(self.estimator) or is_classifier(self.estimator))
        ):
            raise OutcropError(
                self.name,
                "is no classifier of scikit-learn's kind (an object with fit, get_params, and "
                "predict_proba or decision_function); give it such an object",
            )

    def fit(
        self,
        images: Any,
        labels: np.ndarray,
        groups: np.ndarray | None = None,
        classes: int | None = None,
        seed: int = 0,
    ) -> FittedBaseline:
        """Tune by cross-validation inside the training side, then fit.

        The chosen settings have the best balanced accuracy over the held-out patches of all folds
        together (5 folds, or as many as the groups allow); folds keep groups whole. If two folds
        with two training classes each are impossible, the first settings are used. Tuning uses at
        most 2500 patches and the SVM at most 10 000, stratified by class.

        Args:
            images: images of the training side, `N × bands × height × width`, any numeric dtype,
                NaN is no data; or their features, `N × F`, computed once for several models and
                converted to float32.
            labels: int, `N`. A class may be absent.
            groups: `N`, spatial block of each patch; None: patches are independent.
            classes: number of classes K; None: the largest label plus 1.
            seed: random seed of the folds, the sample and the trees; the same seed gives the same
                model.

        Raises:
            OutcropError: fewer than two classes on the training side; a user's estimator raises an
                error or returns invalid results.
        """
        present, y = np.unique(np.asarray(labels, dtype=np.int64), return_inverse=True)
        if len(present) < 2:
            raise OutcropError(
                self.name, "fewer than two classes to train on; take smaller blocks or buffer"
            )
        X = _features(images, self.features)
        recipe = _RECIPES[self.name] if self.estimator is None else _untuned(self)
        sample = stratified_sample(y, TUNING_PATCHES, seed)
        estimator = recipe.estimator(seed, (len(sample), X.shape[1]))
        folds = spatial_folds(y[sample], None if groups is None else groups[sample], seed)
        used = stratified_sample(y, recipe.most, seed)
        # The matrices are too small for several BLAS threads.
        with threadpool_limits(limits=1, user_api="blas"):
            decides = recipe.decides
            if self.estimator is not None:
                self._fit(estimator, X[used], y[used])
                decides = not hasattr(estimator, "predict_proba")
            settings, temperature = self._tune(
                recipe, estimator, decides, X[sample], y[sample], folds
            )
            if self.estimator is None:
                estimator.set_params(**settings, **recipe.final)
                self._fit(estimator, X[used], y[used])
        return FittedBaseline(
            baseline=self,
            estimator=estimator,
            decides=decides,
            present=present,
            classes=int(present[-1]) + 1 if classes is None else classes,
            width=X.shape[1],
            settings={name.split("__")[-1]: value for name, value in settings.items()},
            temperature=temperature,
        )

    def _tune(
        self,
        recipe: _Recipe,
        estimator: BaseEstimator,
        decides: bool,
        X: np.ndarray,
        y: np.ndarray,
        folds: Folds,
    ) -> tuple[dict[str, Any], float]:
        """The best settings (the first among equal ones) and their temperature."""
        candidates = list(ParameterGrid(recipe.grid(X.shape[1])))
        if not folds or (len(candidates) == 1 and not decides):
            return candidates[0], 1.0
        trials = Parallel(n_jobs=-1, prefer="threads")(
            delayed(self._held_out_scores)(
                clone(estimator).set_params(**settings), decides, X, y, folds
            )
            for settings in candidates
        )
        accuracies = [balanced_accuracy_score(y, scores.argmax(axis=1)) for scores in trials]
        best = int(np.argmax(accuracies))
        return candidates[best], _temperature(trials[best], y) if decides else 1.0

    def _held_out_scores(
        self, estimator: Any, decides: bool, X: np.ndarray, y: np.ndarray, folds: Folds
    ) -> np.ndarray:
        """Scores `N × classes`, comparable within a row; -inf for classes not in training."""
        scores = np.full((len(y), y.max() + 1), -np.inf)
        for train, held in folds:
            self._fit(estimator, X[train], y[train])
            found = Scorer(estimator, decides, self.name)(X[held])
            scores[np.ix_(held, estimator.classes_)] = found
        return scores

    def _fit(self, estimator: Any, X: np.ndarray, y: np.ndarray) -> None:
        try:
            # Boosting gives the same trees on any number of cores only with one thread, and every
            # thread that tunes has a limit of its own.
            with threadpool_limits(limits=1, user_api="openmp"):
                estimator.fit(X, y)
        except Exception as error:  # of a class that may be the user's
            raise OutcropError(
                self.name,
                f"cannot be fitted to these features ({first_line(error)}); "
                "take another classifier or other features",
            ) from error
        found = np.asarray(getattr(estimator, "classes_", ()))
        if not np.array_equal(found, np.unique(y)):
            raise OutcropError(
                self.name,
                f"has {len(found)} classes_ after it was fitted to {len(np.unique(y))}; "
                "correct it or take another classifier",
            )
        if not _gives_scores(estimator):
            raise OutcropError(
                self.name,
                "has neither predict_proba nor decision_function after it was fitted; take "
                "another classifier, or other settings of it",
            )


@dataclass(frozen=True)
class FittedBaseline:
    """A tuned and trained classifier.

    Attributes:
        baseline: kind of the classifier.
        estimator: fitted scikit-learn estimator; its labels are indices into `present`.
        decides: true: probabilities are computed from decision values; false: by `predict_proba`.
        present: int64, classes on the training side.
        classes: number of classes K.
        width: number of features F.
        settings: settings chosen by tuning.
        temperature: divisor of the decision values before the softmax.
    """

    baseline: Baseline
    estimator: Any
    decides: bool
    present: np.ndarray
    classes: int
    width: int
    settings: Mapping[str, Any]
    temperature: float

    def predict(self, images: Any) -> np.ndarray:
        """The class of each patch, int64, `N`, from images or features as for `Baseline.fit`."""
        return self.predict_proba(images).argmax(axis=1)

    def predict_proba(self, images: Any) -> np.ndarray:
        """Class probabilities, float64, `N × K`, from images or features as for `Baseline.fit`.

        See `probabilities_of`.
        """
        return self.probabilities_of(_features(images, self.baseline.features))

    def probabilities_of(self, features: np.ndarray) -> np.ndarray:
        """Class probabilities, float64, `N × K`, from features `N × F`, converted to float32.

        They are 0 for classes that the training side did not have.
        Trees give shares of votes, and a user's estimator its own probabilities if it has them.
        Decision values (likelihoods, boosted trees, SVM) become probabilities by a softmax with a
        temperature, which is fitted on held-out patches of the tuning folds. The method can be
        called from several threads; it starts no threads except those of BLAS, for SVM and maximum
        likelihood.

        Source: Guo et al. (2017), On calibration of modern neural networks, section 4.2
        (temperature scaling).

        Raises:
            OutcropError: another number of features; a user's estimator raises an error or returns
                invalid results.
        """
        features = np.asarray(features, dtype=np.float32)
        if features.ndim != 2 or features.shape[1] != self.width:
            raise OutcropError(
                self.baseline.name,
                f"was fitted to {self.width} features and got an array of shape "
                f"{features.shape}; give it the bands and patch size it was fitted to",
            )
        result = np.zeros((len(features), self.classes))
        for start in range(0, len(features), _PART):
            scores = self._scorer(features[start : start + _PART])
            if self.decides:
                scores = softmax(scores / self.temperature, axis=1)
            result[start : start + _PART, self.present] = scores
        return result

    @property
    def importances(self) -> np.ndarray | None:
        """Importances of the features, float64, `F`, non-negative; None without.

        Mean decrease in impurity of trees, or `feature_importances_` of a user's estimator.
        """
        found = getattr(self.estimator, "feature_importances_", None)
        if found is None or np.shape(found) != (self.width,):
            return None
        return np.asarray(found, dtype=np.float64)

    def save(self, folder: str | Path, trusted: Sequence[str] = ()) -> None:
        """Write the estimator as `model.skops`; `description` has everything else.

        Args:
            trusted: names of further types that the estimator contains.

        Raises:
            OutcropError: the estimator contains objects that could not be read again, or the file
                cannot be written.
        """
        archive = packed(self.estimator, self.baseline.name)
        check_trusted(archive, self.baseline.name, trusted)
        with new_file(Path(folder) / FILE) as temporary:
            temporary.write_bytes(archive)

    @cached_property
    def description(self) -> dict[str, Any]:
        """The data that `from_description` needs beside `model.skops`, for JSON.

        'identity' is a checksum of all numbers of the model.
        """
        described = {
            "name": self.baseline.name,
            "features": self.baseline.features,
            "own_estimator": self.baseline.estimator is not None,
            "decides": self.decides,
            "present": self.present.tolist(),
            "classes": self.classes,
            "width": self.width,
            "settings": dict(self.settings),
            "temperature": self.temperature,
            "scikit_learn": sklearn.__version__,
        }
        archive = packed(self.estimator, self.baseline.name)
        return {**described, "identity": _identity(described, archive)}

    @property
    def identity(self) -> str:
        """The checksum of the fitted model, 64 hexadecimal digits."""
        return str(self.description["identity"])

    @classmethod
    def from_description(
        cls, folder: str | Path, description: Mapping[str, Any], trusted: Sequence[str] = ()
    ) -> FittedBaseline:
        """Read a model that `save` has written.

        A model from another version of scikit-learn is read if possible, with a message. No code in
        the files is executed, except methods of trusted types.

        Args:
            folder: folder with `model.skops`.
            description: result of `description`, or its copy from JSON.
            trusted: names of further types, such as 'mypackage.models.MyClassifier', which are
                imported.

        Raises:
            OutcropError: a file is missing, damaged, changed, not such a model, or contains objects
                of types that are not trusted.
        """
        path = Path(folder) / FILE
        with decoding(path, "a classical model", "train the model anew"):
            archive = path.read_bytes()
            described = {key: part for key, part in description.items() if key != "identity"}
            if _identity(described, archive) != description["identity"]:
                raise ValueError("its checksum is not that of its description")
            version = str(described["scikit_learn"])
            width, classes = int(described["width"]), int(described["classes"])
            present = np.array(described["present"], dtype=np.int64)
        same = version == sklearn.__version__
        instead = "" if same else f", or install scikit-learn {version}, which fitted it"
        estimator = unpacked(archive, path, width, f"train the model anew{instead}", trusted)
        if not same:
            warn(
                f"{path}: was fitted with scikit-learn {version} and is read with "
                f"{sklearn.__version__}; classes may differ"
            )
        with decoding(path, "a classical model", "train the model anew"):
            if getattr(estimator, "n_features_in_", width) != width:
                raise ValueError("it was fitted to another number of features")
            fitted = cls(
                baseline=Baseline(
                    described["name"],
                    described["features"],
                    clone(estimator) if described["own_estimator"] else None,
                ),
                estimator=estimator,
                decides=bool(described["decides"]),
                present=present,
                classes=classes,
                width=width,
                settings=dict(described["settings"]),
                temperature=float(described["temperature"]),
            )
            fitted.probabilities_of(np.zeros((1, width), dtype=np.float32))
        return fitted

    @cached_property
    def _scorer(self) -> Scorer:
        return Scorer(self.estimator, self.decides, self.baseline.name)


@dataclass(frozen=True)
class _Recipe:
    """How one kind of classifier is built, tuned and fitted.

    Attributes:
        estimator: function of the seed and the numbers of tuning patches and features.
        grid: function of the number of features; the first values are used without tuning.
        final: settings of the final fit only.
        most: maximum number of patches of the final fit.
        decides: compute probabilities from decision values and a temperature.
    """

    estimator: Callable[[int, tuple[int, int]], BaseEstimator]
    grid: Callable[[int], list[dict[str, list[Any]]]]
    final: Mapping[str, Any] = field(default_factory=dict)
    most: int = sys.maxsize
    decides: bool = False


def _identity(described: Mapping[str, Any], archive: bytes) -> str:
    plain = json.dumps([described, content_hash(archive)], sort_keys=True)
    return hashlib.sha256(plain.encode()).hexdigest()


_MANY_FEATURES, _COMPONENTS = 256, 100


def _gaussians(seed: int, shape: tuple[int, int]) -> Pipeline:
    """Maximum likelihood; for many features on their first principal components.

    The cost of a covariance is cubic in the number of features, and thousands of features need
    more patches than any site has.
    """
    from sklearn.decomposition import PCA

    patches, features = shape
    steps: list[tuple[str, Any]] = [("scale", StandardScaler())]
    if features > _MANY_FEATURES:
        kept = max(1, min(_COMPONENTS, patches // 3))
        steps.append(("components", PCA(kept, svd_solver="randomized", random_state=seed)))
    return Pipeline([*steps, ("gaussian", MaximumLikelihood())])


_WEIGHTS = [None, "balanced"]

_RECIPES: Mapping[str, _Recipe] = {
    "maximum likelihood": _Recipe(
        estimator=_gaussians,
        grid=lambda features: [
            {"gaussian__shrinkage": [0.3, 0.1, 0.7, 1.0], "gaussian__ridge": [0.5, 0.1, 1.0]},
            {"gaussian__shrinkage": [0.0]},
        ],
        decides=True,
    ),
    "decision tree": _Recipe(
        estimator=lambda seed, shape: DecisionTreeClassifier(random_state=seed),
        grid=lambda features: [{"min_samples_leaf": [3, 1, 10, 30], "class_weight": _WEIGHTS}],
    ),
    "random forest": _Recipe(
        estimator=lambda seed, shape: RandomForestClassifier(50, random_state=seed),
        grid=lambda features: [{"min_samples_leaf": [1, 3, 10], "class_weight": _WEIGHTS}],
        final={"n_estimators": 200},
    ),
    "gradient boosting": _Recipe(
        estimator=lambda seed, shape: HistGradientBoostingClassifier(
            max_iter=60,
            max_leaf_nodes=8,
            min_samples_leaf=10,
            l2_regularization=1.0,
            max_features=0.3,
            max_bins=63,
            early_stopping=False,
            random_state=seed,
        ),
        grid=lambda features: [{"class_weight": _WEIGHTS}],
        decides=True,
    ),
    "SVM": _Recipe(
        estimator=lambda seed, shape: Pipeline(
            [("scale", StandardScaler()), ("svc", SVC(break_ties=True))]
        ),
        grid=lambda features: [
            {
                "svc__C": [10.0, 1.0, 100.0],
                "svc__gamma": [1 / features, 0.2 / features, 5 / features],
                "svc__class_weight": _WEIGHTS,
            }
        ],
        most=SVM_PATCHES,
        decides=True,
    ),
}

BASELINES = tuple(Baseline(name, features) for features in FEATURES for name in _RECIPES)


def baseline_of(given: Baseline | Any) -> Baseline:
    """The classical model, or a scikit-learn classifier as a model on the centre pixel.

    >>> from sklearn.neighbors import KNeighborsClassifier
    >>> baseline_of(KNeighborsClassifier()).name
    'KNeighborsClassifier'
    """
    if isinstance(given, Baseline):
        return given
    return Baseline(type(given).__name__, "centre pixel", given)


def spatial_folds(
    labels: np.ndarray, groups: np.ndarray | None, seed: int, wanted: int = FOLDS
) -> Folds:
    """Folds, balanced by class, that keep groups whole; fewer than requested if necessary, or none.

    Args:
        labels: int, `N`.
        groups: `N`; None: random folds.

    Returns:
        Pairs of training and held-out indices. Every patch is held out once, and every training
        side has at least two classes. The list is empty if this is impossible.
    """
    most = np.bincount(labels).max() if groups is None else len(np.unique(groups))
    splitter = StratifiedKFold if groups is None else StratifiedGroupKFold
    for n in range(min(wanted, most), 1, -1):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of classes rarer than folds
            try:
                folds = list(
                    splitter(n, shuffle=True, random_state=seed).split(labels, labels, groups)
                )
            except ValueError:  # every class is rarer than folds
                continue
        if all(len(held) and len(np.unique(labels[train])) > 1 for train, held in folds):
            return folds
    return []


def stratified_sample(labels: np.ndarray, size: int, seed: int) -> np.ndarray:
    """Ascending indices of at most `size` patches, stratified by class, with at least one of each.

    >>> labels = np.array([0] * 90 + [1] * 10)
    >>> np.bincount(labels[stratified_sample(labels, 10, seed=0)])
    array([9, 1])
    """
    if len(labels) <= size:
        return np.arange(len(labels))
    order = np.random.default_rng(seed).permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]
    counts = np.bincount(labels)
    firsts = np.cumsum(counts) - counts
    rank = np.arange(len(labels)) - firsts[labels[order]]
    quantile = rank / counts[labels[order]]
    return np.sort(order[np.argsort(quantile, kind="stable")[:size]])


def _untuned(baseline: Baseline) -> _Recipe:
    def seeded(seed: int, shape: tuple[int, int]) -> Any:
        try:
            copy = clone(baseline.estimator)
        except Exception as error:  # of a class that may be the user's
            raise OutcropError(
                baseline.name,
                f"cannot be copied as scikit-learn copies estimators ({first_line(error)}); "
                "correct its __init__ and get_params",
            ) from error
        draws = [name for name in copy.get_params() if name.split("__")[-1] == "random_state"]
        return copy.set_params(**dict.fromkeys(draws, seed))

    return _Recipe(estimator=seeded, grid=lambda features: [{}])


def _gives_scores(estimator: Any) -> bool:
    return hasattr(estimator, "predict_proba") or hasattr(estimator, "decision_function")


def _features(images: Any, kind: str) -> np.ndarray:
    return np.asarray(images if images.ndim == 2 else FEATURES[kind](images), dtype=np.float32)


def _temperature(scores: np.ndarray, y: np.ndarray) -> float:
    """The divisor of scores with the smallest log-loss, over patches whose class was in training.

    As in Platt (1999), Probabilistic outputs for support vector machines, the target is not 1 but
    (n + 1) / (n + 2), which keeps the result finite if all n patches are right.
    """
    offered = np.isfinite(scores[np.arange(len(y)), y])
    scores, y = scores[offered], y[offered]
    if len(y) == 0:
        return 1.0
    truth = np.arange(scores.shape[1]) == y[:, None]
    true, others = scores[truth], np.where(truth, -np.inf, scores)
    target = (len(y) + 1) / (len(y) + 2)

    def loss(log_temperature: float) -> float:
        temperature = np.exp(log_temperature)
        log_odds = true / temperature - logsumexp(others / temperature, axis=1)
        costs = target * np.logaddexp(0, -log_odds) + (1 - target) * np.logaddexp(0, log_odds)
        return costs.mean()

    return float(np.exp(minimize_scalar(loss, bounds=(-5, 15), method="bounded").x))
