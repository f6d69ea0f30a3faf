"""What a map says of a pixel: its class, and how sure that is."""

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
    """How the values of a layer are drawn.

    Attributes:
        stops: in the order of their values; colours between them are interpolated, and the last
            colour is that of all greater values.
        bar: whether a legend is a colour bar; else it lists the stops.
    """

    stops: tuple[Stop, ...]
    bar: bool = True


def _per_cent_ramp(colours: Sequence[str]) -> tuple[Stop, ...]:
    """Colours at equal distances from 0 to 100 %."""
    step = 100 // (len(colours) - 1)
    return tuple(Stop(step * i, colour, f"{step * i} %") for i, colour in enumerate(colours))


# Matplotlib's viridis and ColorBrewer's Blues: their order is seen by colour-blind readers and in
# grey. Okabe and Ito's vermilion is far from every blue.
_VIRIDIS = ("#440154", "#3b528b", "#21918c", "#5ec962", "#fde725")
_BLUES = ("#f7fbff", "#c6dbef", "#6baed6", "#2171b5", "#08306b")
_BEYOND = Stop(101, "#d55e00", "above 100 %: outside the area of applicability")


@dataclass(frozen=True)
class Layer:
    """One band of uint8.

    Attributes:
        name: as in `LAYERS`.
        title: what it is called in the file.
        nodata: the value of pixels without data.
        unit: of the values.
        ramp: how values are drawn; None for classes, which have colours of their own.
    """

    name: str
    title: str
    nodata: int
    unit: str = ""
    ramp: Ramp | None = None

    @property
    def averages(self) -> bool:
        """Whether the mean of values means something; classes have none."""
        return self.ramp is not None


LAYERS: Mapping[str, Layer] = MappingProxyType(
    {
        layer.name: layer
        for layer in (
            Layer("classes", "class", NODATA),
            Layer(
                "confidence",
                "confidence (per cent)",
                NO_SHARE,
                "%",
                Ramp(_per_cent_ramp(_VIRIDIS)),
            ),
            Layer(
                "entropy",
                "entropy (per cent of that of equally likely classes)",
                NO_SHARE,
                "%",
                Ramp(_per_cent_ramp(_VIRIDIS[::-1])),
            ),
            Layer("second", "second-best class", NODATA),
            Layer(
                "dissimilarity",
                "dissimilarity (per cent of the threshold)",
                NO_SHARE,
                "%",
                Ramp((*_per_cent_ramp(_BLUES), _BEYOND), bar=False),
            ),
        )
    }
)


def render(
    wanted: Sequence[str], probabilities: np.ndarray, dissimilarity: np.ndarray | None = None
) -> np.ndarray:
    """The values of layers.

    Args:
        wanted: names of `LAYERS`.
        probabilities: float32, `K × ...`.
        dissimilarity: float32, `...`, over its threshold; for "dissimilarity".

    Returns:
        uint8, `len(wanted) × ...`: classes from 1; confidence, the probability of the class in
        per cent; entropy in per cent of log K, Shannon's of equal probabilities; dissimilarity in
        per cent of the threshold, at most 254.

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
