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
class Layer:
    """One band of uint8.

    Attributes:
        name: as in `LAYERS`.
        title: what it is called in the file.
        nodata: the value of pixels without data.
        unit: of the values.
        averages: whether the mean of values means something; classes have none.
    """

    name: str
    title: str
    nodata: int
    unit: str = ""
    averages: bool = True


LAYERS: Mapping[str, Layer] = MappingProxyType(
    {
        layer.name: layer
        for layer in (
            Layer("classes", "class", NODATA, averages=False),
            Layer("confidence", "confidence (per cent)", NO_SHARE, "%"),
            Layer("entropy", "entropy (per cent of that of equally likely classes)", NO_SHARE, "%"),
            Layer("second", "second-best class", NODATA, averages=False),
            Layer("trust", "dissimilarity (per cent of what is trusted)", NO_SHARE, "%"),
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
        dissimilarity: float32, `...`, over its threshold; for "trust".

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
        "trust": lambda: _per_cent(dissimilarity),
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
