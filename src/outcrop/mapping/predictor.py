"""Class probabilities of every pixel of a tile, computed densely or patch by patch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from outcrop.mapping.images import ImageReader
from outcrop.models.dense import Dense
from outcrop.models.features import of_pixels
from outcrop.models.multiscale import MultiScaleNetwork
from outcrop.models.residual import ResidualNetwork
from outcrop.patches.flips import FLIPS, KEEP_SHAPE, flip, unflip
from outcrop.patches.positions import upper_left
from outcrop.training.classical import ClassicalModel
from outcrop.training.classifier import Classifier
from outcrop.training.device import exact_convolutions
from outcrop.training.model import Model
from outcrop.training.pictures import to_tensor

Method = Literal["dense", "patches"]

_TILE: dict[Method, int] = {"dense": 512, "patches": 256}
_TABLE = 1 << 23  # values of the features of a tile
_BATCH = 1024
_MIRROR = ("none", "left-right")


@dataclass(frozen=True, eq=False)
class Prediction:
    """Prediction for the pixels of a tile.

    Attributes:
        probabilities: float32, `K × h × w`, of each class; undefined where it was not wanted.
        features: float32, `C × h × w`, input of the last layer of the first model, or None.
    """

    probabilities: np.ndarray
    features: np.ndarray | None = None


class _Member(Protocol):
    """One model and its receptive field.

    Attributes:
        largest: maximum rows and columns of a tile.
        above, left: rows and columns that it needs above and left of a pixel.
        size: rows and columns that it needs for a single pixel. With flipped images it is odd and
            centred on the pixel: images are flipped about the pixel, and a flipped patch of even
            size then contains only pixels that were read.
    """

    largest: int
    above: int
    left: int
    size: tuple[int, int]

    def predict(self, pixels: np.ndarray, wanted: np.ndarray, features: bool) -> Prediction:
        """See `Predictor.predict`; `pixels` are `bands × (h + size - 1) × (w + size - 1)`."""


@dataclass(frozen=True, eq=False)
class Predictor:
    """One model, or several whose probabilities are averaged.

    Attributes:
        models: models with the same classes and bands.
        method: prediction of networks: "dense" for all pixels of a tile in one pass, "patches" for
            one patch per pixel. Classical models always predict all pixels of a tile in one pass.
        flips: names of `FLIPS`; probabilities are averaged over images in these positions, in
            addition to the mirror images over which a network averages itself.
    """

    models: tuple[Model, ...]
    method: Method
    flips: tuple[str, ...] = ("none",)

    @cached_property
    def _members(self) -> tuple[_Member, ...]:
        return tuple(map(self._member, self.models))

    def _member(self, model: Model) -> _Member:
        if isinstance(model, Classifier) and self.method == "dense":
            return _DenseMember(model, self.flips_of(model))
        return _patchwise(model, self.flips_of(model))

    def flips_of(self, model: Model) -> tuple[str, ...]:
        """Turns over which one of the models is averaged."""
        return tuple(dict.fromkeys((*_own_flips(model), *self.flips)))

    @property
    def networks(self) -> tuple[Classifier, ...]:
        """The models that are networks."""
        return tuple(one for one in self.models if isinstance(one, Classifier))

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes."""
        return self.models[0].classes

    @property
    def largest(self) -> int:
        """Maximum rows and columns of a tile."""
        return min(member.largest for member in self._members)

    @property
    def multiple(self) -> int:
        """Number that rows and columns of a tile must be multiples of."""
        strides = [one.network.stride for one in self.networks if self.method == "dense"]
        return int(np.lcm.reduce([1, *strides]))

    @cached_property
    def margins(self) -> tuple[int, int, int, int]:
        """Numbers of rows and columns needed around a tile: above, left, below and right."""
        return (
            max(member.above for member in self._members),
            max(member.left for member in self._members),
            max(member.size[0] - 1 - member.above for member in self._members),
            max(member.size[1] - 1 - member.left for member in self._members),
        )

    def read(
        self, reader: ImageReader, index: int, row: int, column: int, height: int, width: int
    ) -> np.ndarray:
        """Read the pixels of a tile and those that are needed around it: `bands × ...`."""
        above, left, below, right = self.margins
        size = above + height + below, left + width + right
        return reader.read(index, row - above, column - left, *size)

    def predict(self, pixels: np.ndarray, wanted: np.ndarray, features: bool) -> Prediction:
        """Predict every pixel of a tile.

        Args:
            pixels: result of `read`, in the source's units; NaN without data.
            wanted: bool, `h × w`, pixels to predict.
            features: whether to return features.
        """
        height, width = wanted.shape
        above, before, *_ = self.margins
        found: list[Prediction] = []
        for member in self._members:
            top, left = above - member.above, before - member.left
            rows = slice(top, top + height + member.size[0] - 1)
            columns = slice(left, left + width + member.size[1] - 1)
            found.append(member.predict(pixels[:, rows, columns], wanted, features and not found))
        mean = np.mean([one.probabilities for one in found], axis=0)
        return Prediction(mean, found[0].features)


def patch_by_patch(
    predictor: Predictor, reader: ImageReader, index: int, rows: np.ndarray, columns: np.ndarray
) -> np.ndarray:
    """Probabilities of single pixels of an image, predicted patch by patch: float32, `N × K`."""
    found = []
    for model in predictor.models:
        flips = predictor.flips_of(model)
        member = _patchwise(model, flips)
        tall, wide = member.size
        images = np.stack(
            [
                reader.read(index, upper_left(row, tall), upper_left(column, wide), tall, wide)
                for row, column in zip(rows.tolist(), columns.tolist(), strict=True)
            ]
        )
        found.append(member.of(images))
    return np.mean(found, axis=0)


def _patchwise(model: Model, flips: Sequence[str]) -> _ClassicalMember | _PatchMember:
    if isinstance(model, ClassicalModel):
        return _ClassicalMember(model, flips)
    assert isinstance(model, Classifier)
    return _PatchMember(model, flips)


def flips_of(models: Sequence[Model], axis: int | None = None) -> tuple[str, ...]:
    """All flips and rotations that do not change the class of an image.

    Args:
        models: the models; non-square patches allow only flips that keep their shape.
        axis: for a volume, the axis across the slices. In slices across axis 0 and 1 the samples
            run along the rows and keep their order.
    """
    if axis in (0, 1):
        return ("none", "up-down")
    square = all(one.size[0] == one.size[1] for one in models)
    return tuple(FLIPS) if square else KEEP_SHAPE


class _ClassicalMember:
    def __init__(self, model: ClassicalModel, flips: Sequence[str]) -> None:
        self._model = model
        self._flips = ("none",) if model.seen == (1, 1) else tuple(flips)
        self.size = _seen(model.seen, self._flips)
        self.above, self.left = (side // 2 for side in model.seen)
        side = int((_TABLE / model.fitted.width) ** 0.5)
        self.largest = max(16, min(_TILE["patches"], side))

    def predict(self, pixels: np.ndarray, wanted: np.ndarray, features: bool) -> Prediction:
        ordered = pixels if self._model.order is None else pixels[list(self._model.order)]
        likely, table = [], None
        for each in self._flips:
            seen, where = flip(ordered, each), flip(wanted, each)
            seen = seen[:, : where.shape[0] + self._model.seen[0] - 1]
            seen = seen[:, :, : where.shape[1] + self._model.seen[1] - 1]
            measured = of_pixels(self._model.features, seen, self._model.seen)
            found = np.zeros((len(self._model.classes), *where.shape), np.float32)
            found[:, where] = self._model.of_features(measured[:, where].T).T
            likely.append(unflip(found, each))
            if each == "none":
                table = np.where(where, measured, 0) if features else None
        return Prediction(np.mean(likely, axis=0), table)

    def of(self, images: np.ndarray) -> np.ndarray:
        """Probabilities `N × K` of patches `N × bands × ...` of the size `size`."""
        tall, wide = self._model.seen
        views = (flip(images, each)[..., :tall, :wide] for each in self._flips)
        return np.mean([self._model.predict_proba(view) for view in views], axis=0)


class _PatchMember:
    def __init__(self, classifier: Classifier, flips: Sequence[str]) -> None:
        self._classifier, self._flips = classifier, flips
        self.size, self.largest = _seen(classifier.size, flips), _TILE["patches"]
        self.above, self.left = (side // 2 for side in classifier.size)

    def predict(self, pixels: np.ndarray, wanted: np.ndarray, features: bool) -> Prediction:
        patches = np.lib.stride_tricks.sliding_window_view(pixels, self.size, axis=(1, 2))
        classes, channels = len(self._classifier.classes), self._classifier.module.channels
        likely = np.zeros((classes, *wanted.shape), np.float32)
        inner = np.zeros((channels, *wanted.shape), np.float32) if features else None
        at = np.argwhere(wanted)
        for start in range(0, len(at), _BATCH):
            row, column = at[start : start + _BATCH].T
            images = patches[:, row, column].swapaxes(0, 1)
            # All batches have one size, because kernels may sum in another order for another size.
            images = np.pad(images, ((0, _BATCH - len(row)), (0, 0), (0, 0), (0, 0)))
            mean, units = self._mean(images)
            likely[:, row, column] = mean[: len(row)].T
            if inner is not None:
                inner[:, row, column] = units[: len(row)].T
        return Prediction(likely, inner)

    def of(self, images: np.ndarray) -> np.ndarray:
        """Probabilities `N × K` of patches `N × bands × ...` of the size `size`."""
        parts = [images[start : start + _BATCH] for start in range(0, len(images), _BATCH)]
        return np.concatenate([self._mean(part)[0] for part in parts])

    def _mean(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Calibrated probabilities `N × K`, and features `N × C`."""
        tall, wide = self._classifier.size
        with torch.inference_mode(), exact_convolutions():
            both = {each: self._both(flip(images, each)[..., :tall, :wide]) for each in self._flips}
            likely = [logits.float().softmax(dim=1) for logits, _ in both.values()]
            mean = _calibrated(torch.stack(likely).mean(dim=0), self._classifier, dim=1)
            own = torch.stack([both[each][1] for each in _own_flips(self._classifier)])
            return mean.cpu().numpy(), own.float().mean(dim=0).cpu().numpy()

    def _both(self, images: np.ndarray) -> tuple[Tensor, Tensor]:
        return self._classifier.module.logits_and_features(_normal(self._classifier, images))


class _DenseMember:
    def __init__(self, classifier: Classifier, flips: Sequence[str]) -> None:
        self._classifier, self._flips = classifier, flips
        module = classifier.module
        self._dense = (
            Dense(module, classifier.size) if isinstance(module, ResidualNetwork) else None
        )
        self.largest, before = _TILE["dense"], self._dense.before if self._dense else 0
        tall, wide = _seen(classifier.size, flips)
        self.size = tall + 2 * before, wide + 2 * before
        self.above, self.left = tall // 2 + before, wide // 2 + before

    def predict(self, pixels: np.ndarray, wanted: np.ndarray, features: bool) -> Prediction:
        own = _own_flips(self._classifier) if features else ()
        likely, units = [], []
        with torch.inference_mode(), exact_convolutions():
            for each in self._flips:
                logits, its = self._both(flip(pixels, each)[None], each in own)
                likely.append(unflip(logits[0].float().softmax(dim=0).cpu().numpy(), each))
                if its is not None:
                    units.append(unflip(its[0].float().cpu().numpy(), each))
            mean = torch.from_numpy(np.mean(likely, axis=0))
            given = _calibrated(mean, self._classifier, dim=0).numpy()
        return Prediction(given, np.mean(units, axis=0) if units else None)

    def _both(self, images: np.ndarray, features: bool) -> tuple[Tensor, Tensor | None]:
        x = _normal(self._classifier, images)
        height, width = x.shape[2] - self.size[0] + 1, x.shape[3] - self.size[1] + 1
        if self._dense is None:
            module = self._classifier.module
            assert isinstance(module, MultiScaleNetwork)
            tall, wide = self._classifier.size
            x = x[:, :, : height + tall - 1, : width + wide - 1]
            logits, its = module.dense(x, height, width)
            return logits[None], its[None] if features else None
        rows, columns = self._dense.window(height, width)
        x = x[:, :, :rows, :columns]
        return self._dense.logits_and_features(x) if features else (self._dense.logits(x), None)


def _own_flips(model: Model) -> tuple[str, ...]:
    """Turns over which a model averages by itself, as in its area of applicability."""
    return _MIRROR if isinstance(model, Classifier) and model.flip else _MIRROR[:1]


def _seen(size: tuple[int, int], flips: Sequence[str]) -> tuple[int, int]:
    """Rows and columns around a pixel that a patch of `size` covers in all of its flips."""
    if tuple(flips) == ("none",):
        return size
    height, width = size
    return 2 * (height // 2) + 1, 2 * (width // 2) + 1


def _normal(classifier: Classifier, images: np.ndarray) -> Tensor:
    """Normalised images, `N × bands × height × width`, on the device of a classifier."""
    return classifier.normalisation(to_tensor(images).to(classifier.device))


def _calibrated(probabilities: Tensor, classifier: Classifier, dim: int) -> Tensor:
    """Probabilities at the classifier's temperature, which does not change the class."""
    if classifier.temperature == 1:
        return probabilities
    tiny = torch.finfo(probabilities.dtype).tiny
    return (probabilities.clamp_min(tiny).log() / classifier.temperature).softmax(dim=dim)
