"""A look at held-out pictures and at samples, at the end of each epoch."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from outcrop.generative.frechet import frechet_distance
from outcrop.generative.grids import grid, shown
from outcrop.generative.metrics import Looked
from outcrop.generative.model import VaeGanModel
from outcrop.generative.neighbours import nearest, sample_precision_recall
from outcrop.generative.reconstruction import relative_error
from outcrop.training.classifier import Classifier

_MOST = 1024
_COMPARED = 512
_COLUMNS, _ROWS = 8, 8
_NEAREST, _NEARLY = 0.1, 0.25
_NEIGHBOURS = 3


@dataclass(frozen=True, eq=False)
class Looker:
    """The pictures that are looked at after every epoch.

    Attributes:
        pictures: held out, in the source's units, `N × bands × size × size`; perhaps none.
        training: as many of the training side, for want of others.
        judge: a classifier whose features say how alike pictures are.
        seed: of the codes of the samples.
    """

    pictures: np.ndarray
    training: np.ndarray
    judge: Classifier | None
    seed: int

    def look(self, model: VaeGanModel) -> Looked:
        """Measure reconstructions and samples."""
        samples = model.sample(_MOST, self.seed)
        real = self.pictures if len(self.pictures) > 1 else self.training
        some = min(_COMPARED, len(real))
        known = {"repeats": repeats(*(model.in_range(one[:some]) for one in (samples, real)))}
        if len(self.pictures) > 1:
            if self.judge is not None and len(self.pictures) > _NEIGHBOURS:
                known |= self._like(samples)
            if model.network.has_encoder:
                known |= self._again(model)
        return Looked(**{name: value for name, value in known.items() if math.isfinite(value)})

    def grids(self, model: VaeGanModel) -> dict[str, np.ndarray]:
        """Samples, and pictures above their reconstructions, each as one picture."""
        number = _COLUMNS * _ROWS
        found = {"samples": model.sample(number, self.seed)}
        pictures = self.pictures[: number // 2]
        if model.network.has_encoder and len(pictures):
            found["reconstructions"] = beneath(_COLUMNS, pictures, model.reconstruct(pictures))
        return {
            name: grid(shown(model.in_range(images), model.bands), _COLUMNS)
            for name, images in found.items()
        }

    def _like(self, samples: np.ndarray) -> dict[str, float]:
        real, made = self._judged(self.pictures), self._judged(samples)[: len(self.pictures)]
        found = sample_precision_recall(real, made, _NEIGHBOURS, draws=1)
        return {
            "frechet": frechet_distance(real, made),
            "precision": found.precision.value,
            "recall": found.recall.value,
        }

    def _again(self, model: VaeGanModel) -> dict[str, float]:
        again = model.reconstruct(self.pictures)
        real, drawn = model.in_range(self.pictures), model.in_range(again)
        known = {"pixel_error": relative_error(real, drawn, draws=1).value}
        see = model.features if self.judge is None else self._judged
        if self.judge is not None or model.network.has_discriminator:
            known["feature_error"] = relative_error(see(self.pictures), see(again), draws=1).value
        return known

    def _judged(self, images: np.ndarray) -> np.ndarray:
        assert self.judge is not None
        return self.judge.probabilities_and_features(images)[1]


def evenly(index: np.ndarray, most: int = _MOST) -> np.ndarray:
    """At most so many of `index`, from all over it.

    >>> evenly(np.arange(7), 3).tolist()
    [0, 3, 6]
    """
    if len(index) <= most:
        return index
    return index[np.linspace(0, len(index) - 1, most).round().astype(int)]


def beneath(columns: int, *rows: np.ndarray) -> np.ndarray:
    """Pictures in the order of a grid of so many columns, where each stands below its like.

    >>> beneath(2, np.array([1, 2, 3]), np.array([10, 20, 30])).tolist()
    [1, 2, 10, 20, 3, 30]
    """
    starts = range(0, len(rows[0]), columns)
    return np.concatenate([row[start : start + columns] for start in starts for row in rows])


def repeats(samples: np.ndarray, real: np.ndarray) -> float:
    """The share of samples that are nearly the same as another one.

    Those whose nearest fellow is four times nearer than that of the tenth of real pictures that
    are most alike.

    Args:
        samples, real: finite numbers, `N × ...`, as many of both.
    """
    if len(samples) < 2 or len(real) < 2:
        return math.nan
    of_real, of_samples = (_to_fellow(one) for one in (real, samples))
    return float(np.mean(of_samples <= _NEARLY * np.quantile(of_real, _NEAREST)))


def _to_fellow(pictures: np.ndarray) -> np.ndarray:
    flat = pictures.reshape(len(pictures), -1)
    return nearest(flat, flat, 2)[1][:, 1]
