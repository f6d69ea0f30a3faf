"""Classify every pixel of a scene, window by window."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from outcrop.errors import OutcropError
from outcrop.files import check_new
from outcrop.mapping.classmap import NO_CONFIDENCE, NODATA, map_writer
from outcrop.patches.positions import upper_left
from outcrop.progress import track
from outcrop.sources.scene import Scene, SceneReader, open_scene
from outcrop.training.classifier import Classifier
from outcrop.training.run import Run, classifier_of

_WINDOW = 256
_BATCH = 1024


def map_scene(
    model: Classifier | Run,
    scene: Scene | str | Path,
    output: str | Path,
    confidence: str | Path | None = None,
    step: int = 1,
    overwrite: bool = False,
) -> None:
    """Write the class map of a scene as a GeoTIFF on the scene's own grid.

    The class of a pixel is that of the patch it is the centre of; patches over the scene's edge
    are completed by mirroring, as in cutting. Pixels without data in any band are nodata. Memory
    is bounded by the window (256 × 256 pixels and half a patch around), not by the scene.

    Args:
        model: a trained classifier, or the run that holds it.
        scene: an open scene or a raster file.
        output: the map: uint8, 0 = nodata, then the classes from 1, with colours and names.
        confidence: a second file: the probability of the class in per cent, uint8, 255 = nodata.
        step: classify one pixel of each cell of `step × step` pixels and give its class to the
            whole cell: coarser, and `step²` times faster.
        overwrite: whether the files may exist.

    Raises:
        OutcropError: the scene has not the bands of the model, or is smaller than a patch; a
            file exists; the disk is full.
    """
    classifier = classifier_of(model)
    scene = scene if isinstance(scene, Scene) else open_scene(scene)
    _check(classifier, scene, step)
    files = [Path(output)] + ([Path(confidence)] if confidence is not None else [])
    if len({file.resolve() for file in files}) < len(files):
        raise OutcropError("--confidence", f"{confidence} is the map's name; take another one")
    for file in files:
        check_new(file, overwrite)
        if file.is_dir():
            raise OutcropError(file, "is a folder; name a file, e.g. map.tif")
        if file.exists() and any(file.samefile(source) for source in scene.files):
            raise OutcropError(file, "is the scene itself; choose another name for the map")
    cells = _WINDOW - _WINDOW % step
    windows = list(_windows(scene, cells))
    with (
        scene.reader() as reader,
        map_writer(output, confidence, scene, classifier.classes) as write,
    ):
        for row, column, height, width in track(windows, "classifying"):
            classes, certain = classify_window(classifier, reader, row, column, height, width, step)
            write(classes, certain, row, column)


def classify_window(
    classifier: Classifier,
    reader: SceneReader,
    row: int,
    column: int,
    height: int,
    width: int,
    step: int = 1,
) -> tuple[np.ndarray, np.ndarray]:
    """Class values (uint8, 0 = nodata, from 1) and confidence (uint8, per cent, 255 = nodata).

    Args:
        row, column, height, width: the window, inside the scene.
        step: see `map_scene`.
    """
    tall, wide = classifier.size
    around = reader.read(
        upper_left(row, tall), upper_left(column, wide), height + tall - 1, width + wide - 1
    )
    patches = np.lib.stride_tricks.sliding_window_view(around, (tall, wide), axis=(1, 2))
    patches = patches.transpose(1, 2, 0, 3, 4)
    valid = np.isfinite(patches[..., tall // 2, wide // 2]).all(axis=-1)
    classes = np.full(valid.shape, NODATA, np.uint8)
    confidence = np.full(valid.shape, NO_CONFIDENCE, np.uint8)
    at = np.argwhere(_one_of_each_cell(valid, step))
    for start in range(0, len(at), _BATCH):
        r, c = at[start : start + _BATCH].T
        probabilities = classifier.probabilities(patches[r, c])
        classes[r, c] = probabilities.argmax(axis=1) + 1
        confidence[r, c] = np.rint(100 * probabilities.max(axis=1))
    if step > 1:
        classes, confidence = (
            np.where(valid, _spread(values, at, step), nodata).astype(np.uint8)
            for values, nodata in ((classes, NODATA), (confidence, NO_CONFIDENCE))
        )
    return classes, confidence


def _one_of_each_cell(valid: np.ndarray, step: int) -> np.ndarray:
    """Of the valid pixels of each cell of `step × step` the one nearest its middle."""
    if step == 1:
        return valid
    row, column = np.nonzero(valid)
    middle = (step - 1) / 2
    distance = np.hypot(row % step - middle, column % step - middle)
    order = np.lexsort((distance, column // step, row // step))
    cell = row[order] // step * valid.shape[1] + column[order] // step
    first = order[np.r_[True, np.diff(cell) != 0]] if len(order) else order
    chosen = np.zeros_like(valid)
    chosen[row[first], column[first]] = True
    return chosen


def _spread(values: np.ndarray, at: np.ndarray, step: int) -> np.ndarray:
    """Give the value of each cell's chosen pixel to the whole cell."""
    height, width = values.shape
    cells = np.zeros((-(-height // step), -(-width // step)), values.dtype)
    row, column = at.T
    cells[row // step, column // step] = values[row, column]
    return cells.repeat(step, axis=0).repeat(step, axis=1)[:height, :width]


def _windows(scene: Scene, cells: int) -> Iterator[tuple[int, int, int, int]]:
    for row in range(0, scene.height, cells):
        for column in range(0, scene.width, cells):
            yield row, column, min(cells, scene.height - row), min(cells, scene.width - column)


def _check(classifier: Classifier, scene: Scene, step: int) -> None:
    if len(scene.bands) != len(classifier.bands):
        raise OutcropError(
            scene.title,
            f"has {len(scene.bands)} bands, but the model was trained on "
            f"{len(classifier.bands)} ({', '.join(classifier.bands)}); choose them with --bands",
        )
    if classifier.size[0] > scene.height or classifier.size[1] > scene.width:
        raise OutcropError(
            scene.title,
            f"is {scene.height} × {scene.width} pixels, smaller than the model's patches of "
            f"{classifier.size[0]} × {classifier.size[1]}; train on smaller patches",
        )
    if not 1 <= step <= _WINDOW:
        raise OutcropError("--step", f"must be from 1 to {_WINDOW}, not {step}")
