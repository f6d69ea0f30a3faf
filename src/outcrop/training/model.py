"""`Model`: the contract of all trained models."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch

from outcrop.errors import OutcropError
from outcrop.sources.bands import listed
from outcrop.training.folder import Kind
from outcrop.training.origin import TrainedOn
from outcrop.training.recipe import LabelOf
from outcrop.typed import typed

_VERSION = 1


@dataclass(frozen=True, eq=False, kw_only=True)
class Model(ABC):
    """A trained model, with everything that is needed to use it on new patches.

    Attributes:
        classes: class names, in the order of the probabilities.
        bands: names of the bands, in the order of the channels.
        size: height and width of the patches in pixels.
        label_of: whether labels belonged to pixels or images in training. "image" in files of older
            versions.
        temperature: above 1 it lowers confidence, below 1 it raises it
            (`outcrop.metrics.calibration`); 1: no change.
        trained_on: data of the training side, if known.
    """

    classes: tuple[str, ...]
    bands: tuple[str, ...]
    size: tuple[int, int]
    label_of: LabelOf = "image"
    temperature: float = 1.0
    trained_on: TrainedOn | None = None

    @property
    @abstractmethod
    def device(self) -> torch.device:
        """The device of the model."""

    @property
    @abstractmethod
    def title(self) -> str:
        """Name of the model in tables."""

    @property
    @abstractmethod
    def identity(self) -> str:
        """A checksum: it differs between models with different predictions."""

    @property
    @abstractmethod
    def description(self) -> dict[str, Any]:
        """Everything but the learnt numbers, as JSON."""

    def predict_proba(self, images: np.ndarray) -> np.ndarray:
        """The calibrated probability of each class for each patch.

        Args:
            images: `N × bands × height × width`, any numeric dtype, in the units of the source;
                NaN and infinite pixels count as no data.

        Returns:
            float32, `N × classes`; rows sum to 1.

        Raises:
            OutcropError: another number of bands or another size than in training.
        """
        return self.probabilities_and_features(images)[0]

    @abstractmethod
    def probabilities_and_features(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """As `predict_proba`, with the features of each patch, float32 `N × features`."""

    def in_order(self, order: Sequence[int]) -> Self:
        """The same model for images with another order of bands.

        Args:
            order: for each band of this model its index in those images.
        """
        if list(order) == list(range(len(self.bands))):
            return self
        # Band j of the images is band `back[j]` of this model.
        back = np.argsort(order).tolist()
        trained_on = self.trained_on
        if trained_on is not None:
            trained_on = replace(trained_on, values=tuple(trained_on.values[i] for i in back))
        bands = tuple(self.bands[i] for i in back)
        return replace(self, bands=bands, trained_on=trained_on, **self._in_order(order, back))

    @abstractmethod
    def _in_order(self, order: Sequence[int], back: Sequence[int]) -> dict[str, Any]:
        """The further attributes that depend on the order of bands, in the new order."""

    @abstractmethod
    def save(self, folder: str | Path) -> None:
        """Write `model.json` and the learnt numbers into an existing folder.

        Raises:
            OutcropError: the folder is missing, or the disk is full.
        """


def check_images(model: Model, shape: tuple[int, ...], any_size: bool = False) -> None:
    """Check that a model was trained for such images.

    Raises:
        OutcropError: not four dimensions, or another number of bands or another size.
    """
    if len(shape) != 4:
        raise OutcropError("images", f"must be N × bands × height × width, not {shape}")
    if shape[1] != len(model.bands):
        raise OutcropError(
            "images",
            f"model wants {len(model.bands)} bands ({listed(model.bands)}), got {shape[1]}; "
            "choose the bands it was trained on",
        )
    if shape[2:] != model.size and not any_size:
        wanted, got = (f"{height} × {width}" for height, width in (model.size, shape[2:]))
        raise OutcropError(
            "images", f"model wants patches of {wanted} pixels, got {got}; cut them anew"
        )


def described(model: Model, kind: Kind) -> dict[str, Any]:
    """The entries of `model.json` that all models have."""
    return {
        "format": kind.model,
        "version": _VERSION,
        "classes": list(model.classes),
        "bands": list(model.bands),
        "size": list(model.size),
        "label_of": model.label_of,
        "temperature": model.temperature,
        "trained_on": None if model.trained_on is None else asdict(model.trained_on),
    }


def from_description(content: Mapping[str, Any]) -> dict[str, Any]:
    """The attributes from the result of `described`; older models may lack the last three.

    Raises:
        KeyError, TypeError, ValueError: the content is something else.
    """
    if content["version"] != _VERSION:
        raise ValueError("another version")
    bands = typed(tuple[str, ...], content["bands"], "bands")
    temperature = typed(float, content.get("temperature", 1.0), "temperature")
    if not 0 < temperature < math.inf:
        raise ValueError("the temperature is not above 0")
    known = content.get("trained_on")
    trained_on = typed(TrainedOn | None, known, "trained_on")
    if trained_on is not None and len(trained_on.values) != len(bands):
        raise ValueError("bands and their values differ in number")
    return {
        "classes": typed(tuple[str, ...], content["classes"], "classes"),
        "bands": bands,
        "size": typed(tuple[int, int], content["size"], "size"),
        "label_of": typed(LabelOf, content.get("label_of", "image"), "label_of"),
        "temperature": temperature,
        "trained_on": trained_on,
    }
