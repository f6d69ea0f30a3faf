"""What is asked of a map, checked and made into a job, before hours of work."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np

from outcrop.errors import OutcropError
from outcrop.evaluation.trust import AreaOfTrust
from outcrop.files import check_new
from outcrop.mapping.job import Dissimilarity, Job
from outcrop.mapping.pictures import Pictures
from outcrop.mapping.predictor import Method, Predictor, turns_of
from outcrop.mapping.tiling import divide
from outcrop.patches.flips import KEEP_SHAPE
from outcrop.progress import tell
from outcrop.training.classifier import Classifier
from outcrop.training.run import Run, classifier_of

MOST_CLASSES = 254
_MOST_STEP = 256

Model = Classifier | Run
Wanted = Literal["auto", "dense", "patches"]


def layer_files(output: str | Path, **further: str | Path | None) -> dict[str, Path]:
    """The file of each layer that is wanted, the classes first."""
    named = {name: Path(path) for name, path in further.items() if path is not None}
    return {"classes": Path(output)} | named


def job_for(
    model: Model | Sequence[Model],
    pictures: Pictures,
    layers: tuple[str, ...],
    method: Wanted,
    turns: bool,
    step: int,
    axis: int | None = None,
    window: int = 1,
) -> Job:
    """How pictures are mapped.

    Args:
        model: one or several; several have the same classes and bands.
        layers: names of `outcrop.mapping.layers.LAYERS`; "trust" needs a run.
        method: "auto" is dense if all networks are without padding, else patch by patch.
        turns: whether to average over all turns under which a class stays the same.
        step, window: see `outcrop.mapping.scene.map_scene`.
        axis: of a volume, that its slices are across.

    Raises:
        OutcropError: models that differ; more classes than a map can hold; pictures of other bands
            or smaller than a patch; a step out of range or beside a dense map.
    """
    classifiers = _classifiers_of(model)
    chosen = _method_for(classifiers, method)
    _check_pictures(classifiers, pictures)
    _check_step(step, chosen)
    turned = turns_of(classifiers, axis) if turns else ("none",)
    predictor = Predictor(classifiers, chosen, turned)
    _tell_between_pixels(predictor, axis)
    multiple = int(np.lcm(predictor.multiple, step))
    tiling = divide(*pictures.shape, predictor.largest, multiple, window)
    return Job(predictor, tiling, layers, step, _trust_of(model) if "trust" in layers else None)


def check_files(files: Mapping[str, Path], sources: Sequence[Path], overwrite: bool) -> None:
    """Refuse, before hours of work, names that cannot be written.

    Args:
        files: by what they will hold.
        sources: the files that are mapped.

    Raises:
        OutcropError: a name twice; it exists and `overwrite` is false; it is a folder or a source.
    """
    taken: set[Path] = set()
    for name, file in files.items():
        if file.resolve() in taken:
            raise OutcropError(f"--{name}", f"{file} is the map's name; take another one")
        taken.add(file.resolve())
        check_new(file, overwrite)
        if file.exists() and any(file.samefile(source) for source in sources):
            raise OutcropError(file, "is what is to be mapped; choose another name for the map")


def _classifiers_of(model: Model | Sequence[Model]) -> tuple[Classifier, ...]:
    """One classifier or several, which say the same classes of the same bands.

    Raises:
        OutcropError: they do not; there is none; more classes than a map can hold.
    """
    several = model if isinstance(model, Sequence) else [model]
    classifiers = tuple(map(classifier_of, several))
    if not classifiers:
        raise OutcropError("model", "there is none; give one run or several")
    first = classifiers[0]
    for one in classifiers[1:]:
        for what in ("classes", "bands"):
            mine, its = getattr(one, what), getattr(first, what)
            if mine != its:
                raise OutcropError(
                    "--ensemble",
                    f"has a model of the {what} {', '.join(mine)}, the first is of "
                    f"{', '.join(its)}; take runs trained on the same patches",
                )
    if len(first.classes) > MOST_CLASSES:
        raise OutcropError(
            "map",
            f"cannot hold {len(first.classes)} classes; a map has at most {MOST_CLASSES}",
        )
    return classifiers


def _method_for(classifiers: Sequence[Classifier], wanted: Wanted) -> Method:
    """Densely if all networks are without padding, and patch by patch otherwise."""
    dense = all(one.network.padding == "none" for one in classifiers)
    if wanted == "auto":
        return "dense" if dense else "patches"
    return wanted


def _tell_between_pixels(predictor: Predictor, axis: int | None) -> None:
    """Say that labels of whole images of even size belong to no pixel, if that shows in the map.

    Such a network tells what is in the middle of a window, which lies between pixels. Averaging
    over turns about the pixel takes the displacement away.
    """
    for one in predictor.classifiers:
        even = any(side % 2 == 0 for side in one.size)
        if one.label_of == "image" and even and len(predictor.turns_of(one)) < len(KEEP_SHAPE):
            way = "an odd size" if axis in (0, 1) else "an odd size, or map with --turns"
            tell(
                f"the model learnt labels of whole images of {one.size[0]} × {one.size[1]} pixels, "
                "whose middle lies between pixels: the map lies up to half a pixel too far right "
                f"and down; train on {way}"
            )
            return


def _trust_of(model: Model | Sequence[Model]) -> Dissimilarity:
    """From features to how far they lie from the training data of the first run, 1 being as far
    as is trusted.

    Raises:
        OutcropError: it is no run, or one without an area of trust.
    """
    first = model[0] if isinstance(model, Sequence) else model
    if not isinstance(first, Run):
        raise OutcropError("--trust", "needs a run, not only its classifier; pass the run")
    return partial(_over_threshold, first.trust)


def _over_threshold(area: AreaOfTrust, features: np.ndarray) -> np.ndarray:
    return area.dissimilarity(np.ascontiguousarray(features)) / np.float32(area.threshold or 1)


def _check_pictures(classifiers: Sequence[Classifier], pictures: Pictures) -> None:
    """Refuse pictures that the classifiers were not made for.

    Raises:
        OutcropError: other bands; smaller than a patch.
    """
    bands = classifiers[0].bands
    if pictures.bands != len(bands):
        raise OutcropError(
            pictures.title,
            f"has {pictures.bands} bands, but the model was trained on "
            f"{len(bands)} ({', '.join(bands)}); choose them with --bands",
        )
    height, width = pictures.shape
    for one in classifiers:
        if one.size[0] > height or one.size[1] > width:
            raise OutcropError(
                pictures.title,
                f"is {height} × {width} pixels, smaller than the model's patches of "
                f"{one.size[0]} × {one.size[1]}; train on smaller patches",
            )


def _check_step(step: int, method: Method) -> None:
    """Refuse a step that is out of range, or beside a dense map.

    Raises:
        OutcropError: it is.
    """
    if not 1 <= step <= _MOST_STEP:
        raise OutcropError("--step", f"must be from 1 to {_MOST_STEP}, not {step}")
    if step > 1 and method == "dense":
        raise OutcropError(
            "--step", "has no meaning for a dense map, which computes every pixel; leave it out"
        )
