"""Fitted estimators of scikit-learn as bytes and back, without pickle."""

from __future__ import annotations

import hashlib
import io
import json
import warnings
from collections.abc import Iterator, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile

import numpy as np
from sklearn.exceptions import InconsistentVersionWarning
from sklearn.neighbors import KNeighborsClassifier, RadiusNeighborsClassifier

from outcrop.errors import OutcropError
from outcrop.files import decoding, first_line
from outcrop.models.trees import check_trees, parts_of

# Types that skops does not trust by itself. Reading them runs only their `__setstate__`.
# scikit-learn does not check the indices in trees; `check_trees` does.
TRUSTED = (
    "outcrop.models.gaussian.MaximumLikelihood",
    "sklearn.calibration._CalibratedClassifier",
    "sklearn.calibration._SigmoidCalibration",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn.gaussian_process._gpc._BinaryGaussianProcessClassifierLaplace",
    "sklearn.gaussian_process.kernels.ConstantKernel",
    "sklearn.gaussian_process.kernels.Product",
    "sklearn.gaussian_process.kernels.RBF",
    "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
    "sklearn.tree._tree.Tree",
    "sklearn.utils._bunch.Bunch",
)


def packed(estimator: Any, name: str) -> bytes:
    """A fitted estimator as a skops archive; `name` is that of the model in the error message.

    Raises:
        OutcropError: it contains objects that skops cannot write.
    """
    import skops.io  # imports all of scikit-learn, which takes seconds

    try:
        if any(True for _ in _with_search_trees(estimator)):
            estimator = deepcopy(estimator)
            for neighbours in _with_search_trees(estimator):
                neighbours._tree = None
        return skops.io.dumps(estimator, compression=ZIP_DEFLATED, compresslevel=1)
    except Exception as error:  # of a class that may be the user's
        raise OutcropError(
            name, f"cannot be saved ({first_line(error)}); take another classifier"
        ) from error


def check_trusted(archive: bytes, where: object, trusted: Sequence[str] = ()) -> None:
    """Check that an archive contains only types that `unpacked` reads.

    Raises:
        OutcropError: it contains other types.
    """
    import skops.io

    strange = set(skops.io.get_untrusted_types(data=archive)) - {*TRUSTED, *trusted}
    if strange:
        raise OutcropError(
            where,
            f"holds objects of types that are not trusted ({', '.join(sorted(strange))}); take a "
            "classifier of scikit-learn without them, or name the types as `trusted` in Python "
            "if they are yours",
        )


def unpacked(
    archive: bytes, where: Path, features: int, remedy: str, trusted: Sequence[str] = ()
) -> Any:
    """The estimator in a skops archive.

    Types are checked before any object is created; no code in the archive is executed.

    Args:
        archive: result of `packed`.
        where, remedy: file name and remedy for error messages.
        features: number of features F that the estimator was fitted to.
        trusted: names of further types, such as 'mypackage.models.MyClassifier'.

    Raises:
        OutcropError: not an archive, damaged, or with other types.
    """
    import skops.io

    with decoding(where, "a classical model", remedy):
        check_trusted(archive, where, trusted)
        with warnings.catch_warnings():
            # The caller says it in a line of its own.
            warnings.simplefilter("ignore", InconsistentVersionWarning)
            estimator = skops.io.loads(archive, trusted=[*TRUSTED, *trusted])
        check_trees(estimator, features, str(where))
        for neighbours in _with_search_trees(estimator):
            labels = neighbours.classes_[neighbours._y]
            neighbours.fit(neighbours._fit_X, labels)
    return estimator


def _with_search_trees(value: Any) -> Iterator[Any]:
    """The nearest-neighbour classifiers in a value that use a search tree.

    The tree is not written but built again from the training data: it counts its calls, so that
    equal models would differ, and its indices are not checked.
    """
    if isinstance(value, KNeighborsClassifier | RadiusNeighborsClassifier):
        if getattr(value, "_fit_method", "brute") != "brute":
            yield value
        return
    for part in parts_of(value):
        yield from _with_search_trees(part)


def content_hash(archive: bytes) -> str:
    """The SHA-256 of the content of an archive; it is the same for equal estimators.

    The archives themselves contain memory addresses and times.
    """
    with ZipFile(io.BytesIO(archive)) as members:
        hashes = {name: _file_hash(name, members.read(name)) for name in members.namelist()}

        def bare(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
            kept = {k: v for k, v in pairs if k not in ("__id__", "_skops_version")}
            if isinstance(kept.get("file"), str):
                kept["file"] = hashes[kept["file"]]
            return kept

        schema = json.loads(members.read("schema.json"), object_pairs_hook=bare)
    return hashlib.sha256(json.dumps(schema, sort_keys=True).encode()).hexdigest()


def _file_hash(name: str, content: bytes) -> str:
    if not name.endswith(".npy"):
        return hashlib.sha256(content).hexdigest()
    array = np.load(io.BytesIO(content), allow_pickle=False)
    # By field: the bytes between the fields of a record are whatever the memory held before.
    fields = [array] if array.dtype.names is None else [array[k] for k in array.dtype.names]
    found = hashlib.sha256(repr((array.shape, array.dtype.names)).encode())
    for field in fields:
        found.update(field.dtype.str.encode())
        found.update(field.tobytes())
    return found.hexdigest()
