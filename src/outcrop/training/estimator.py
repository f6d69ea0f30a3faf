"""`ResidualClassifier`: residual networks with the interface of scikit-learn."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from numbers import Integral
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import Tags, check_random_state
from sklearn.utils.class_weight import compute_class_weight
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from outcrop.files import check_new
from outcrop.models.architectures import ResidualNet
from outcrop.patches.patchset import PatchSet
from outcrop.progress import silence
from outcrop.sources.collections.collection import band_names
from outcrop.splits.split import TRAIN, Split
from outcrop.training.engine import train
from outcrop.training.recipe import Augmentation, ClassBalance, Machine, Recipe


@dataclass(kw_only=True, eq=False, repr=False)
class ResidualClassifier(ClassifierMixin, BaseEstimator):
    """A residual network as a scikit-learn classifier.

    It trains on all given patches, without a validation side; evaluate it by cross-validation. For
    patches with positions pass the patch set as X and a spatial splitter such as
    `BlockSplit(block=2_000)` as `cv`.

    X is `N × bands × height × width` of any numeric dtype in any units; NaN and infinite pixels are
    no data. Or X is `N × columns`, for a `Pipeline` with scalers of columns, and `shape` gives the
    shape of a row. Each band is normalised inside.

    Parameters of `ResidualNet` (depth to seen), `Recipe` (epochs to test_flip), `Augmentation`
    (flip to label_of) and `Machine` (device to gpu_memory) have the same meaning here. X has no
    positions, so that images cannot be cut again, None for rotate, gain and jitter means off, and
    "auto" for label_of means "image". Set rotate and jitter for images without a vertical, and
    label_of="pixel" for patches around a labelled pixel.
    Run searches in several processes, not threads, which share one generator of initial weights.

    Attributes:
        class_weight: weights of the classes in the loss, by label; "balanced": inversely
            proportional to the number of patches; None: 1 each. They are multiplied by
            `sample_weight`. To draw rare classes more often instead, set `class_balance`.
        shape: bands, height and width of a row of a two-dimensional X. One may be -1, as in
            `numpy.reshape`: (-1, 1, 1) treats each row as the bands of a single pixel.
        random_state: random seed of initial weights, order, augmentation and stochastic depth. The
            same number gives the same classifier on the same machine.
        folder: new folder for the run of one fit, for `outcrop map`, `outcrop export` and
            TensorBoard; None: the run is not kept.
        verbose: show progress on a terminal.
        classes_: labels, sorted.
        classifier_: the `Classifier`, to save, export or map with; its class names are the labels
            as text.
        loss_curve_: mean loss of the augmented training patches in each epoch, in nats.
        shape_: bands, height and width of the training patches.
        n_features_in_: number of values of a patch: bands · height · width.

    >>> X = np.random.default_rng(0).normal(size=(40, 1, 8, 8))
    >>> y = np.repeat(["forest", "water"], 20)
    >>> X[20:] += 3
    >>> model = ResidualClassifier(depth=8, width=4, epochs=8, batch=8, random_state=0)
    >>> model.fit(X, y).predict(X[[0, -1]])
    array(['forest', 'water'], dtype='<U6')
    """

    depth: int = ResidualNet.depth
    width: int = ResidualNet.width
    widen: int = ResidualNet.widen
    order: Literal["original", "pre-activation"] = ResidualNet.order
    bottleneck: bool = ResidualNet.bottleneck
    shortcut: Literal["identity", "projection"] = ResidualNet.shortcut
    levels: int = ResidualNet.levels
    survival: float = ResidualNet.survival
    survival_schedule: Literal["linear", "constant"] = ResidualNet.survival_schedule
    zero_init: bool = ResidualNet.zero_init
    stem: Literal["small", "large"] = ResidualNet.stem
    padding: Literal["zeros", "none"] = ResidualNet.padding
    halvings: int = ResidualNet.halvings
    seen: int | None = ResidualNet.seen
    epochs: int | None = Recipe.epochs
    batch: int | None = Recipe.batch
    class_balance: ClassBalance | None = Recipe.class_balance
    solver: Literal["sgd", "adamw"] | None = Recipe.solver
    learning_rate: float | None = Recipe.learning_rate
    momentum: float = Recipe.momentum
    nesterov: bool = Recipe.nesterov
    weight_decay: float | None = Recipe.weight_decay
    schedule: Literal["cosine", "step", "one-cycle"] = Recipe.schedule
    milestones: tuple[float, ...] = tuple(Recipe().milestones)
    drop: float = Recipe.drop
    warm_up: float | None = Recipe.warm_up
    label_smoothing: float = Recipe.label_smoothing
    average: float = Recipe.average
    test_flip: bool = Recipe.test_flip
    flip: bool = Augmentation.flip
    crop: int | None = Augmentation.crop
    rotate: bool | None = Augmentation.rotate
    gain: float | None = Augmentation.gain
    jitter: float | None = Augmentation.jitter
    noise: float = Augmentation.noise
    cutout: int = Augmentation.cutout
    label_of: Literal["auto", "pixel", "image"] = Augmentation.label_of
    device: str = Machine.device
    precision: Literal["auto", "32-true", "bf16-mixed"] = Machine.precision
    compile: Literal["auto", "always", "never"] = Machine.compile
    capture: Literal["auto", "never"] = Machine.capture
    recompute: int = Machine.recompute
    accumulate: int = Machine.accumulate
    gpu_memory: str | None = Machine.gpu_memory
    class_weight: Mapping[Any, float] | Literal["balanced"] | None = None
    shape: tuple[int, int, int] | None = None
    random_state: int | np.random.RandomState | None = None
    folder: str | Path | None = None
    verbose: bool = False

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> ResidualClassifier:
        """Train on all patches.

        Args:
            X: `N × bands × height × width`, or `N × columns` with `shape`.
            y: `N`, labels of any kind that can be sorted.
            sample_weight: `N`, non-negative weights in the loss; only their ratios matter. A patch
                of weight 2 counts in the loss as two patches do, but once in batches and batch
                normalisation; a patch of weight 0 is left out. None: 1 each.

        Raises:
            ValueError: X or y that cannot be used.
            OutcropError: an invalid setting; `folder` exists; the loss is NaN or infinite.
        """
        rows, shape = _rows(X)
        rows, y = validate_data(self, rows, y, ensure_all_finite=False)
        check_classification_targets(y)
        self.classes_, labels = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError("y has one class only; a classifier needs at least two classes")
        weights = self._weights(rows, y, labels, sample_weight)
        images = _reshaped(rows, shape or self.shape)
        self.shape_ = images.shape[1:]

        patches = PatchSet(
            images, labels, tuple(map(str, self.classes_)), band_names(self.shape_[0])
        )
        network = ResidualNet(**self._settings(ResidualNet))
        recipe = Recipe(
            **self._settings(Recipe),
            augmentation=Augmentation(**self._settings(Augmentation)),
            machine=Machine(**self._settings(Machine)),
            seed=self._seed(),
        )
        if self.folder is not None:
            check_new(Path(self.folder), instead="")
        with silence(not self.verbose), TemporaryDirectory() as temporary:
            folder = self.folder or Path(temporary) / "run"
            graph = self.folder is not None
            run = train(
                patches, _all_train(patches), folder, network, recipe,
                graph=graph, sample_weight=weights,
            )  # fmt: skip
        self.classifier_ = run.classifier
        self.loss_curve_ = [epoch.train.loss for epoch in run.metrics]
        return self

    def predict(self, X: Any) -> np.ndarray:
        """The most probable label of each patch, `N`."""
        found = self.predict_proba(X)
        return self.classes_[found.argmax(axis=1)]

    def predict_proba(self, X: Any) -> np.ndarray:
        """The probability of each class, float32, `N × classes` in the order of `classes_`.

        Raises:
            NotFittedError: before `fit`.
            ValueError: patches of another shape than those trained on.
        """
        check_is_fitted(self)
        rows, shape = _rows(X)
        rows = validate_data(self, rows, reset=False, ensure_all_finite=False)
        if shape not in (None, self.shape_):
            raise ValueError(
                f"X has patches of {_words(shape)}, but {type(self).__name__} is expecting "
                f"{_words(self.shape_)} as in fit"
            )
        return self.classifier_.predict_proba(_reshaped(rows, self.shape_))

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.two_d_array = self.shape is not None
        return tags

    def _settings(self, kind: type) -> dict[str, Any]:
        """The parameters that are fields of `kind`."""
        given = self.get_params(deep=False)
        # Searches draw NumPy numbers; JSON needs those of Python.
        plain = {k: v.item() if isinstance(v, np.generic) else v for k, v in given.items()}
        return {f.name: plain[f.name] for f in fields(kind) if f.name in plain}

    def _weights(
        self, rows: np.ndarray, y: np.ndarray, labels: np.ndarray, sample_weight: Any
    ) -> np.ndarray | None:
        """The weight of each patch in the loss; None: 1 each. `labels` are numbers of classes."""
        if sample_weight is None and self.class_weight is None:
            return None
        weights = _check_sample_weight(
            sample_weight, rows, dtype=np.float64, ensure_non_negative=True
        )
        counts = np.bincount(labels, weights)
        if np.count_nonzero(counts) < 2:
            raise ValueError("a classifier needs patches of weight above 0 in two classes or more")
        if self.class_weight == "balanced":
            # As in compute_class_weight, with a patch of weight 2 counted twice.
            by_class = counts.sum() / (len(counts) * np.where(counts > 0, counts, np.inf))
        else:
            by_class = compute_class_weight(self.class_weight, classes=self.classes_, y=y)
        return weights * by_class[labels]

    def _seed(self) -> int:
        if isinstance(self.random_state, Integral):
            return int(self.random_state)
        return int(check_random_state(self.random_state).randint(2**31 - 1))


def _rows(X: Any) -> tuple[Any, tuple[int, ...] | None]:
    """X with one row for each patch, and the shape of a patch if X is four-dimensional."""
    if getattr(X, "ndim", None) != 4:
        return X, None
    X = np.asarray(X)
    shape = X.shape[1:]
    return X.reshape(len(X), math.prod(shape)), shape


def _reshaped(rows: np.ndarray, shape: tuple[int, ...] | None) -> np.ndarray:
    if shape is None:
        raise ValueError(
            f"X has rows of {rows.shape[1]} numbers; pass N × bands × height × width, or "
            "shape=(bands, height, width)"
        )
    try:
        return rows.reshape(len(rows), *shape)
    except ValueError as error:
        raise ValueError(
            f"X has rows of {rows.shape[1]} numbers, which are no patches of {_words(shape)}; "
            "correct shape=(bands, height, width)"
        ) from error


def _words(shape: tuple[int, ...]) -> str:
    return " × ".join(map(str, shape))


def _all_train(patches: PatchSet) -> Split:
    n = len(patches)
    return Split(
        sides=np.full(n, TRAIN, np.int8),
        groups=np.arange(n),
        fingerprint=patches.fingerprint,
        how={"splitter": "all train"},
        spatial=False,
    )
