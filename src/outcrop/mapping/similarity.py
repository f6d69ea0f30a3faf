"""Is what is mapped like what the model was trained on? A look at some of it, before the map."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from outcrop.mapping.job import Dissimilarity, Job
from outcrop.mapping.pictures import Pictures
from outcrop.mapping.prepare import Trained, applicability_of, first_of
from outcrop.progress import tell
from outcrop.training.applicability import has_applicability
from outcrop.training.origin import far_words
from outcrop.training.run import Run

_SIDE, _PLACES = 48, 5
_EVERY = 8
_LARGE = 0.25


def warn_if_dissimilar(model: Trained | Sequence[Trained], job: Job, pictures: Pictures) -> None:
    """Say where values lie outside those of the training side, and how much is not has_area.

    Both are judged on windows of 48 × 48 pixels, five by five in a picture, in five slices of a
    volume. What lies outside the area of applicability of the first run is said where it is more
    than a fourth.
    """
    first = model[0] if isinstance(model, Sequence) else model
    known = first_of(model).trained_on
    has_area = isinstance(first, Run) and has_applicability(first.folder)
    if known is None and not has_area:
        return
    pixels, over = _seen(job, pictures, applicability_of(first) if has_area else None)
    words = None if known is None else far_words(first_of(model).bands, known.values, pixels)
    if words:
        tell(f"note: {pictures.title}: {words}")
    share = float(np.mean(over > 1)) if len(over) else 0.0
    if share > _LARGE:
        tell(
            f"note: {pictures.title}: about {share:.0%} lies outside the model's area of "
            "applicability, unlike anything that it was trained on; --dissimilarity maps where"
        )


def _seen(
    job: Job, pictures: Pictures, dissimilarity: Dissimilarity | None
) -> tuple[np.ndarray, np.ndarray]:
    """Pixels `bands × N`, NaN where there is no data, and how unlike the training data some are."""
    by, found, over = job.predictor, [], [np.empty(0, np.float32)]
    tall, wide = (-(-min(side, _SIDE) // by.multiple) * by.multiple for side in pictures.shape)
    with pictures.reader(ahead=False) as reader:
        for index, row, column in _places(pictures):
            pixels = reader.read(
                index, row - by.above, column - by.left,
                by.above + tall + by.below, by.left + wide + by.right,
            )  # fmt: skip
            inside = pixels[:, by.above :, by.left :][:, :tall, :wide]
            found.append(inside.reshape(len(pixels), -1))
            wanted = np.zeros((tall, wide), bool)
            wanted[_EVERY // 2 :: _EVERY, _EVERY // 2 :: _EVERY] = True
            wanted &= np.isfinite(inside).all(axis=0)
            if dissimilarity is not None and wanted.any():
                features = by.predict(pixels, wanted, features=True).features
                assert features is not None
                over.append(dissimilarity(features[:, wanted].T))
    return np.concatenate(found, axis=1), np.concatenate(over)


def _places(pictures: Pictures) -> Iterator[tuple[int, int, int]]:
    """Picture, and row and column of the upper-left pixel, of windows spread over all."""
    height, width = pictures.shape
    for index in _spread(pictures.count - 1):
        for row in _spread(height - min(height, _SIDE)):
            for column in _spread(width - min(width, _SIDE)):
                yield index, row, column


def _spread(last: int) -> list[int]:
    return [int(at) for at in np.unique(np.linspace(0, last, _PLACES).astype(int))]
