"""`ClassicalModel`: a trained classical classifier as a `Model`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from outcrop.errors import OutcropError
from outcrop.files import decoding, write_json
from outcrop.metrics.calibration import tempered
from outcrop.models.baselines import FittedBaseline
from outcrop.models.features import FEATURES
from outcrop.training.folder import CLASSICAL, read_description
from outcrop.training.model import Model, check_images, described, from_description
from outcrop.typed import typed


@dataclass(frozen=True, eq=False)
class ClassicalModel(Model):
    """A fitted classical classifier with its classes and the patches it expects.

    A classifier of the centre pixel takes patches of any size.

    Attributes:
        fitted: classifier and the kind of its features.
        filling: float32, `F`, values for features without data: their means on the training side.
        order: for each training band of `fitted` its index in `bands`; None: the same order.
    """

    fitted: FittedBaseline
    filling: np.ndarray
    order: tuple[int, ...] | None = None

    @property
    def device(self) -> torch.device:
        """The CPU."""
        return torch.device("cpu")

    @property
    def features(self) -> str:
        """The kind of features, a key of `outcrop.models.features.FEATURES`."""
        return self.fitted.baseline.features

    @property
    def title(self) -> str:
        """The classifier and its features."""
        return f"{self.fitted.baseline.name}, {self.features}"

    @property
    def identity(self) -> str:
        """The checksum of the fitted classifier."""
        return self.fitted.identity

    @property
    def seen(self) -> tuple[int, int]:
        """Rows and columns of a patch that the features depend on."""
        return (1, 1) if self.features == "centre pixel" else self.size

    @property
    def description(self) -> dict[str, Any]:
        """Everything but the fitted classifier, as JSON."""
        return {
            **described(self, CLASSICAL),
            "fitted": self.fitted.description,
            "filling": self.filling.tolist(),
            "order": None if self.order is None else list(self.order),
        }

    def _in_order(self, order: Sequence[int], back: Sequence[int]) -> dict[str, Any]:
        before = range(len(self.bands)) if self.order is None else self.order
        return {"order": tuple(order[i] for i in before)}

    def probabilities_and_features(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See `Model`; the features are the input of the classifier."""
        check_images(self, images.shape, any_size=self.seen == (1, 1))
        ordered = images if self.order is None else images[:, list(self.order)]
        features = filled(FEATURES[self.features](finite(ordered)), self.filling)
        return self.of_features(features), features

    def of_features(self, features: np.ndarray) -> np.ndarray:
        """Calibrated probabilities, float32, `N × classes`, from features `N × F` without gaps."""
        found = self.fitted.probabilities_of(features).astype(np.float32)
        return found if self.temperature == 1 else tempered(found, self.temperature)

    def save(self, folder: str | Path) -> None:
        """See `Model`."""
        folder = Path(folder)
        self.fitted.save(folder)
        write_json(folder / "model.json", self.description)


def finite(images: np.ndarray) -> np.ndarray:
    """Images with NaN for infinite pixels."""
    if images.dtype.kind != "f" or not np.isinf(images).any():
        return images
    return np.where(np.isinf(images), np.nan, images)


def filled(features: np.ndarray, filling: np.ndarray) -> np.ndarray:
    """Features `N × F` with `filling` where they are NaN."""
    gaps = np.isnan(features)
    return np.where(gaps, filling, features) if gaps.any() else features


def read_classical(folder: str | Path, trusted: Sequence[str] = ()) -> ClassicalModel:
    """Read a model that `ClassicalModel.save` wrote. No code in the files is executed.

    `trusted` are names of further types that the classifier may contain.

    Raises:
        OutcropError: files are missing, damaged or not of outcrop; a model of another kind.
    """
    folder = Path(folder)
    _, content = read_description(folder, CLASSICAL)
    with decoding(folder / "model.json", "a model of this outcrop", "train it anew"):
        shared = from_description(content)
        order = typed(tuple[int, ...] | None, content["order"], "order")
        if order is not None and sorted(order) != list(range(len(shared["bands"]))):
            raise ValueError("its order of bands is none")
        fitted_as = typed(dict[str, Any], content["fitted"], "fitted")
        filling = np.array(typed(list[float], content["filling"], "filling"), dtype=np.float32)
    fitted = FittedBaseline.from_description(folder, fitted_as, trusted)
    if len(filling) != fitted.width:
        raise OutcropError(
            folder / "model.json", "is damaged: features differ in number; train anew"
        )
    return ClassicalModel(fitted, filling, order=order, **shared)
