"""Layers of a map: classes, confidence, entropy, second-best class, dissimilarity."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

NODATA = 0
NO_SHARE = 255
_TINY = np.finfo(np.float32).tiny


@dataclass(frozen=True)
class Stop:
    """A value of a colour ramp, its colour as `#rrggbb`, and its entry in a legend."""

    value: int
    colour: str
    label: str


@dataclass(frozen=True)
class Ramp:
    """Colours of the values of a layer.

    Attributes:
        stops: stops in ascending order. Colours between them are interpolated; larger values have
            the last colour.
        bar: whether the legend is a colour bar; otherwise it lists the stops.
    """

    stops: tuple[Stop, ...]
    bar: bool = True


def _per_cent_ramp(colours: Sequence[str]) -> tuple[Stop, ...]:
    """Stops at equal distances from 0 to 100 %."""
    step = 100 // (len(colours) - 1)
    return tuple(Stop(step * i, colour, f"{step * i} %") for i, colour in enumerate(colours))


# Matplotlib's viridis and ColorBrewer's Blues: their order is visible for colour-blind readers and
# in grey. Okabe and Ito's vermilion differs clearly from every blue.
_VIRIDIS = ("#440154", "#3b528b", "#21918c", "#5ec962", "#fde725")
_BLUES = ("#f7fbff", "#c6dbef", "#6baed6", "#2171b5", "#08306b")
_BEYOND = Stop(101, "#d55e00", "above 100 %: outside the area of applicability")


@dataclass(frozen=True)
class Layer:
    """One band of uint8.

    Attributes:
        name: key in `LAYERS`.
        title: description of the band in the file.
        nodata: value of pixels without data.
        unit: unit of the values.
        ramp: colours of the values; None for classes, which have their own colours.
    """

    name: str
    title: str
    nodata: int
    unit: str = ""
    ramp: Ramp | None = None

    @property
    def averages(self) -> bool:
        """Whether values can be averaged; classes cannot."""
        return self.ramp is not None


_VIRIDIS_RAMP = Ramp(_per_cent_ramp(_VIRIDIS))
_REVERSED_RAMP = Ramp(_per_cent_ramp(_VIRIDIS[::-1]))
_BLUE_RAMP = Ramp((*_per_cent_ramp(_BLUES), _BEYOND), bar=False)
_ALL = (
    Layer("classes", "class", NODATA),
    Layer("confidence", "confidence (per cent)", NO_SHARE, "%", _VIRIDIS_RAMP),
    Layer(
        "entropy",
        "entropy (per cent of that of equally likely classes)",
        NO_SHARE,
        "%",
        _REVERSED_RAMP,
    ),
    Layer("second", "second-best class", NODATA),
    Layer("dissimilarity", "dissimilarity (per cent of the threshold)", NO_SHARE, "%", _BLUE_RAMP),
)
LAYERS: Mapping[str, Layer] = MappingProxyType({layer.name: layer for layer in _ALL})


def render(
    wanted: Sequence[str], probabilities: np.ndarray, dissimilarity: np.ndarray | None = None
) -> np.ndarray:
    """Compute the values of layers.

    Args:
        wanted: names of `LAYERS`.
        probabilities: float32, `K × ...`.
        dissimilarity: float32, `...`, dissimilarity over its threshold; for "dissimilarity".

    Returns:
        uint8, `len(wanted) × ...`: classes from 1; confidence, the probability of the class in
        per cent; entropy in per cent of log K, the Shannon entropy of equal probabilities;
        dissimilarity in per cent of the threshold, at most 254.

    >>> likely = np.array([[0.7, 0.5], [0.3, 0.5]], np.float32)
    >>> render(["classes", "confidence", "entropy", "second"], likely)
    array([[  1,   1],
           [ 70,  50],
           [ 88, 100],
           [  2,   2]], dtype=uint8)
    """
    made: dict[str, Callable[[], np.ndarray]] = {
        "classes": lambda: probabilities.argmax(axis=0) + 1,
        "confidence": lambda: np.rint(100 * probabilities.max(axis=0)),
        "entropy": lambda: np.rint(100 * _entropy(probabilities)),
        "second": lambda: _second(probabilities) + 1,
        "dissimilarity": lambda: _per_cent(dissimilarity),
    }
    return np.stack([made[name]().astype(np.uint8) for name in wanted])


def _entropy(probabilities: np.ndarray) -> np.ndarray:
    logarithms = np.log(np.maximum(probabilities, _TINY))
    return -(probabilities * logarithms).sum(axis=0) / np.log(len(probabilities))


def _second(probabilities: np.ndarray) -> np.ndarray:
    others = probabilities.copy()
    np.put_along_axis(others, probabilities.argmax(axis=0)[None], -1, axis=0)
    return others.argmax(axis=0)


def _per_cent(dissimilarity: np.ndarray | None) -> np.ndarray:
    assert dissimilarity is not None
    return np.minimum(np.rint(100 * dissimilarity), NO_SHARE - 1)
