"""Made-up ground, patches of it, and the command that finds them."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.ndimage import gaussian_filter

from tests.command_line import run

SIZE, SHAPE = 24, (40, 60, 70)
CLASSES = ("<b>shale", "salt, NA")
COLUMNS = [
    *("patch", "found", "source", "axis", "index", "row", "column", "flip", "confidence", "margin"),
    *("ambiguous", "gain", "offset", "residual", "score"),
]


def rock(seed: int, sigma=(1, 1.5, 1), shape=SHAPE) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=shape)
    return (7 * gaussian_filter(noise, sigma)).astype(np.float32)


def cut(samples: np.ndarray, axis: int, n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Windows of slices, and axis, slice, row and column of each."""
    stack, rng = np.moveaxis(samples, axis, 0), np.random.default_rng(seed)
    places = rng.integers(np.subtract(stack.shape, (1, SIZE, SIZE)) + 1, size=(n, 3))
    images = [stack[i, r : r + SIZE, c : c + SIZE] for i, r, c in places]
    return np.stack(images), np.insert(places, 0, axis, axis=1)


def save(name: str, images: np.ndarray, labels: np.ndarray | None = None) -> None:
    named = {} if labels is None else {"labels": labels, "classes": np.array(CLASSES)}
    np.savez(name, images=images, **named)


def places(table: pd.DataFrame) -> list[list[int]]:
    return table[["axis", "index", "row", "column"]].to_numpy(int).tolist()


def locate(words: str) -> pd.DataFrame:
    """The table that one command writes."""
    assert run(f"locate {words} -o t.csv --overwrite") == 0
    return pd.read_csv("t.csv", keep_default_na=False, na_values=[""])
