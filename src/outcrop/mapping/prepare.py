"""Checks before a map is computed, and the job that follows from its arguments."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np

from outcrop.errors import OutcropError
from outcrop.files import check_new
from outcrop.mapping.images import Images, VolumeImages
from outcrop.mapping.job import Dissimilarity, Job, divide
from outcrop.mapping.predictor import Method, Predictor, flips_of
from outcrop.metrics.applicability import AreaOfApplicability
from outcrop.patches.flips import KEEP_SHAPE
from outcrop.progress import warn
from outcrop.sources.bands import listed, match
from outcrop.sources.names import is_gdal_name
from outcrop.sources.volumes import Volume
from outcrop.training.applicability import has_applicability
from outcrop.training.classifier import Classifier
from outcrop.training.model import Model
from outcrop.training.origin import TrainedOn, far_words, plane_of
from outcrop.training.run import Run, Trained, model_of, opened

MOST_CLASSES = 254
_MOST_STEP = 256

Wanted = Literal["auto", "dense", "patches"]


def layer_files(output: str | Path, **further: str | Path | None) -> dict[str, Path]:
    """The file of each requested layer, the classes first."""
    named = {name: Path(path) for name, path in further.items() if path is not None}
    return {"classes": Path(output)} | named


def with_old_name(tta: bool, turns: bool | None) -> bool:
    """The argument `tta`, also under its old name, with a warning."""
    if turns is None:
        return tta
    warnings.warn(
        "the argument turns is now tta; the next version has the new name only",
        FutureWarning,
        stacklevel=3,
    )
    return turns


def job_for(
    model: Trained | Sequence[Trained],
    images: Images,
    layers: tuple[str, ...],
    method: Wanted,
    tta: bool,
    step: int,
    axis: int | None = None,
    window: int = 1,
) -> Job:
    """Check models and images and prepare the job that maps them.

    Args:
        model: one model or several with the same classes and bands.
        images: the images to be mapped.
        layers: names of `outcrop.mapping.layers.LAYERS`; "dissimilarity" needs a run.
        method: "auto" is dense if no network has padding, otherwise patch by patch.
        tta: whether to average over all flips and rotations that do not change the class.
        step, window: see `outcrop.mapping.scene.map_scene`.
        axis: for a volume, the axis across its slices.

    Raises:
        OutcropError: the models differ; a map cannot hold so many classes; the images have other
            bands than the models, are smaller than a patch, or are slices across another axis; a
            model was trained on flipped patches; the step is out of range, or the map is dense.
    """
    models = _models_of(model)
    chosen = method_for(models, method)
    _check_pictures(models, images)
    _check_orientation(models, images)
    flips = flips_of(models, axis) if tta else ("none",)
    predictor = Predictor(models, chosen, flips)
    _check_step(step, predictor)
    _tell_between_pixels(predictor, axis)
    multiple = int(np.lcm(predictor.multiple, step))
    tiling = divide(*images.shape, predictor.largest, multiple, window)
    dissimilarity = applicability_of(model) if "dissimilarity" in layers else None
    return Job(predictor, tiling, layers, step, dissimilarity)


def check_files(
    files: Mapping[str, Path],
    sources: Sequence[str],
    overwrite: bool,
    beside: Callable[[Path], Sequence[Path]] = lambda _: (),
) -> None:
    """Check the names of output files, before hours of work.

    Args:
        files: files by layer.
        sources: names of the rasters that are mapped.
        overwrite: whether the files may exist.
        beside: function that gives the files that are written or removed together with a file.

    Raises:
        OutcropError: a name occurs twice; a file, or one beside it, exists and `overwrite` is
            false; a name is a folder or a source; a file beside it belongs to another file too.
    """
    taken: set[Path] = set()
    scenes = [Path(source) for source in sources if not is_gdal_name(source)]
    owners = {one.resolve(): scene for scene in scenes for one in (scene, *beside(scene))}
    for name, file in files.items():
        if file.resolve() in taken:
            raise OutcropError(f"`{name}`", f"{file} is the name of the map; use another one")
        taken.add(file.resolve())
        check_new(file, overwrite)
        if file.exists() and any(file.samefile(scene) for scene in scenes):
            raise OutcropError(file, "is the scene to be mapped; use another name for the map")
        for one in (file, *beside(file)):
            if (owner := owners.setdefault(one.resolve(), file)) is not file:
                raise OutcropError(
                    file,
                    f"would share {one.name} with {owner}, because programs read it beside both; "
                    "use a name that differs in more than its ending",
                )
            check_new(one, overwrite)


def first_of(model: Trained | Sequence[Trained]) -> Model:
    """The first of several models; the others have the same bands and classes.

    Raises:
        OutcropError: there is none.
    """
    return model_of(all_opened(model)[0])


def all_opened(model: Trained | Sequence[Trained]) -> list[Model | Run]:
    """One model or run, or several, which may be given by their folders.

    Raises:
        OutcropError: there is none; a folder has no finished run.
    """
    several = [model] if isinstance(model, Model | Run | str | Path) else model
    if not several:
        raise OutcropError("model", "is missing; pass one run or several")
    return [opened(one) for one in several]


def _models_of(model: Trained | Sequence[Trained]) -> tuple[Model, ...]:
    """One model or several: same classes, which a map can hold, and same bands in one order."""
    models = tuple(map(model_of, all_opened(model)))
    first = models[0]
    for one in models[1:]:
        if one.classes != first.classes:
            raise OutcropError(
                "`model`",
                f"has a model with the classes {', '.join(one.classes)}, the first one has "
                f"{', '.join(first.classes)}; use runs trained on the same patches",
            )
    models = tuple(_in_bands_of(first, one) for one in models)
    if len(first.classes) > MOST_CLASSES:
        number = len(first.classes)
        raise OutcropError("map", f"cannot hold {number} classes; a map has at most {MOST_CLASSES}")
    return models


def _in_bands_of(first: Model, one: Model) -> Model:
    """A model with its bands, which must be the same, in the order of the first model."""
    found = match(first.bands, one.bands) if len(first.bands) == len(one.bands) else None
    if found is None:
        raise OutcropError(
            "`model`",
            f"has a model with the bands {listed(one.bands)}, the first one has "
            f"{listed(first.bands)}; use runs trained on the same bands",
        )
    return one.in_order(found.order)


def method_for(models: Sequence[Model], wanted: Wanted) -> Method:
    """The wanted method; "auto" is dense if no network has padding."""
    if wanted != "auto":
        return wanted
    networks = [one.network for one in models if isinstance(one, Classifier)]
    return "dense" if all(network.padding == "none" for network in networks) else "patches"


def _tell_between_pixels(predictor: Predictor, axis: int | None) -> None:
    """Warn that a model of labels of whole images of even size displaces the map.

    Such a network classifies the centre of a window, which lies between pixels. Averaging over
    flips about the pixel removes the displacement.
    """
    for one in predictor.networks:
        even = any(side % 2 == 0 for side in one.size)
        if one.label_of == "image" and even and len(predictor.flips_of(one)) < len(KEEP_SHAPE):
            way = "an odd size" if axis in (0, 1) else "an odd size, or map with `tta=True`"
            warn(
                f"the model was trained on labels of whole images of {one.size[0]} × {one.size[1]} "
                "pixels, whose centre lies between pixels: the map is displaced by up to half a "
                f"pixel to the right and down; train on {way}"
            )
            return


def applicability_of(model: Trained | Sequence[Trained]) -> Dissimilarity:
    """Function from features to the dissimilarity index of the first run over its threshold.

    Raises:
        OutcropError: the first model is not a run, or the run has no area of applicability.
    """
    first = all_opened(model)[0]
    if not isinstance(first, Run):
        raise OutcropError("`dissimilarity`", "needs the run of the model; pass the run")
    return partial(_over_threshold, first.applicability.on(first.model.device))


def _over_threshold(area: AreaOfApplicability, features: np.ndarray) -> np.ndarray:
    return area.dissimilarity(np.ascontiguousarray(features)) / np.float32(area.threshold or 1)


def _check_pictures(models: Sequence[Model], images: Images) -> None:
    """Raise an error if images have too few or many bands, or are smaller than a patch."""
    bands = models[0].bands
    if len(images.bands) != len(bands):
        raise OutcropError(
            images.title,
            f"has {len(images.bands)} bands, but the model was trained on "
            f"{len(bands)} ({', '.join(bands)}); select them with `bands`",
        )
    height, width = images.shape
    for one in models:
        if one.size[0] > height or one.size[1] > width:
            raise OutcropError(
                images.title,
                f"is {height} × {width} pixels, smaller than the model's patches of "
                f"{one.size[0]} × {one.size[1]}; train on smaller patches",
            )


def _check_orientation(models: Sequence[Model], images: Images) -> None:
    """Raise an error if images are slices across another axis, or the training patches flipped."""
    for known in (one.trained_on for one in models):
        if known is None:
            continue
        if isinstance(images, VolumeImages):
            _check_slices(known, images.volume, images.axis)
        if not known.has_flips():
            raise OutcropError(
                images.title,
                "is not flipped, but the model was trained on patches that are flipped relative to "
                f"their source ({', '.join(known.flips)}); train it on patches that "
                "`outcrop.with_positions` cuts from the source",
            )


def _check_slices(known: TrainedOn, volume: Volume, axis: int) -> None:
    """Raise an error if slices of a volume have another orientation than the training slices."""
    if known.has_slices(volume.axes, axis):
        return
    right = [other for other in range(3) if known.has_slices(volume.axes, other)]
    remedy = f"pass `axis={right[0]}`, or train on such slices" if right else ""
    named = plane_of(volume.axes, axis)
    if named is None or not known.planes:
        raise OutcropError(
            "`axis`",
            f"is {axis}, but the model was trained on slices across axis "
            f"{' and '.join(map(str, known.axes))}; {remedy}",
        )
    across, down, along = known.planes[0]
    remedy = remedy or f"write the volume with its axes in the order {across}, {down}, {along}"
    raise OutcropError(
        "`axis`",
        f"is {axis}, which gives slices across {named[0]} with {named[1]} down and {named[2]} "
        f"along; the model was trained on slices across {across} with {down} down and {along} "
        f"along; {remedy}",
    )


def _check_step(step: int, predictor: Predictor) -> None:
    """Raise an error if the step is out of range, or has no effect because the map is dense."""
    if not 1 <= step <= _MOST_STEP:
        raise OutcropError("`step`", f"must be from 1 to {_MOST_STEP}, not {step}")
    if step > 1 and predictor.method == "dense" and predictor.networks:
        raise OutcropError(
            "`step`", "has no effect on a dense map, which computes every pixel; leave it out"
        )


_SIDE, _PLACES = 48, 5
_EVERY = 8
_LARGE = 0.25


def warn_if_dissimilar(model: Trained | Sequence[Trained], job: Job, images: Images) -> None:
    """Warn if images differ from the training data of the first model.

    Two notes are printed: if values are outside the range of the training data, and if more than a
    fourth of the pixels are outside the area of applicability. Both are estimated from windows of
    48 × 48 pixels: five by five windows in an image, in five slices of a volume.
    """
    first = all_opened(model)[0]
    known, bands = model_of(first).trained_on, model_of(first).bands
    has_area = isinstance(first, Run) and has_applicability(first.folder)
    if known is None and not has_area:
        return
    pixels, over = _seen(job, images, applicability_of(first) if has_area else None)
    words = None if known is None else far_words(bands, known.values, pixels)
    if words:
        warn(f"{images.title}: {words}")
    share = float(np.mean(over > 1)) if len(over) else 0.0
    if share > _LARGE:
        warn(
            f"{images.title}: about {100 * share:.0f} % of the pixels are outside the model's area "
            "of applicability; map where with `dissimilarity`"
        )


def _seen(
    job: Job, images: Images, dissimilarity: Dissimilarity | None
) -> tuple[np.ndarray, np.ndarray]:
    """Pixels, `bands × N`, NaN without data; and the dissimilarity over its threshold of some."""
    by, found, over = job.predictor, [], [np.empty(0, np.float32)]
    above, left, *_ = by.margins
    tall, wide = (-(-min(side, _SIDE) // by.multiple) * by.multiple for side in images.shape)
    with images.reader(ahead=False) as reader:
        for index, row, column in _places(images):
            pixels = by.read(reader, index, row, column, tall, wide)
            inside = pixels[:, above : above + tall, left : left + wide]
            found.append(inside.reshape(len(pixels), -1))
            wanted = np.zeros((tall, wide), bool)
            wanted[_EVERY // 2 :: _EVERY, _EVERY // 2 :: _EVERY] = True
            wanted &= np.isfinite(inside).all(axis=0)
            if dissimilarity is not None and wanted.any():
                features = by.predict(pixels, wanted, features=True).features
                assert features is not None
                over.append(dissimilarity(features[:, wanted].T))
    return np.concatenate(found, axis=1), np.concatenate(over)


def _places(images: Images) -> Iterator[tuple[int, int, int]]:
    """Image number, row and column of the upper-left pixel of windows spread over all images."""
    height, width = images.shape
    for index in _spread(images.count - 1):
        for row in _spread(height - min(height, _SIDE)):
            for column in _spread(width - min(width, _SIDE)):
                yield index, row, column


def _spread(last: int) -> list[int]:
    return [int(at) for at in np.unique(np.linspace(0, last, _PLACES).astype(int))]
