"""Class maps of scenes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from html import escape
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from outcrop.errors import OutcropError
from outcrop.executors import Scheduler
from outcrop.frames import Tabular, frame, georeferenced
from outcrop.mapping.classmap import sidecars, write_maps
from outcrop.mapping.engine import finished
from outcrop.mapping.images import Part, SceneImage
from outcrop.mapping.openmap import map_figure, open_map
from outcrop.mapping.prepare import (
    Trained,
    Wanted,
    all_opened,
    check_files,
    first_of,
    job_for,
    layer_files,
    warn_if_dissimilar,
    with_old_name,
)
from outcrop.patches.palette import palette
from outcrop.progress import warn
from outcrop.sources.grids import pixel_metres
from outcrop.sources.memory import AnyScene
from outcrop.sources.opening import open_scene, with_bands
from outcrop.sources.reading import Reading
from outcrop.sources.scene import Scene
from outcrop.training.model import Model

if TYPE_CHECKING:
    import pandas
    import xarray


@dataclass(frozen=True)
class MappedScene(Tabular):
    """The files of a map of a scene.

    In a notebook it shows a small picture of the map and the areas of its classes.

    Attributes:
        files: path of each layer by its name: "classes", and the requested ones of "confidence",
            "entropy", "second" and "dissimilarity".
        classes: names of the values from 1; 0 is no data.
    """

    files: Mapping[str, Path]
    classes: tuple[str, ...]

    def __repr__(self) -> str:
        return f"MappedScene({', '.join(f'{name}: {path}' for name, path in self.files.items())})"

    def to_frame(self) -> pandas.DataFrame:
        """One row per class: pixels, share of the map, and hectares (NaN if unknown).

        The map is read once, in windows.

        Raises:
            OutcropError: the file of the map is missing or damaged.
        """
        opened = open_map(self.files["classes"])
        columns = {
            "class": list(self.classes),
            "pixels": opened.pixels,
            "share": opened.sizes / opened.sizes.sum(),
            "hectares": opened.hectares,
        }
        return frame(columns, "class")

    def _repr_html_(self) -> str:
        try:
            return map_figure(self.files["classes"]) + super()._repr_html_()
        except OutcropError as error:
            return escape(f"{self!r}: {error}")

    def to_xarray(self, layer: str = "classes") -> xarray.DataArray:
        """A layer as DataArray (y, x), georeferenced as rioxarray does it.

        The variable `spatial_ref` holds the coordinate reference system and the transform. Rotated
        maps have no coordinates x and y, because these would need two dimensions.

        Raises:
            OutcropError: there is no such layer, or its file is missing.
        """
        if layer not in self.files:
            raise OutcropError(
                "layer", f"there is no '{layer}'; this map has {', '.join(self.files)}"
            )
        from outcrop.sources.raster_io import open_dataset

        with open_dataset(self.files[layer]) as dataset:
            values, transform = dataset.read(1), tuple(dataset.transform)[:6]
            crs, attributes = dataset.crs.to_wkt(), {"_FillValue": dataset.nodata}
        if layer in ("classes", "second"):
            attributes["classes"] = list(self.classes)
        return georeferenced(values, transform, crs, attributes, layer)


_PIXEL = 0.1  # Relative difference of pixel sizes that gives a note.


def map_scene(
    model: Trained | Sequence[Trained],
    scene: AnyScene,
    output: str | Path,
    confidence: str | Path | None = None,
    step: int = 1,
    overwrite: bool = False,
    *,
    entropy: str | Path | None = None,
    second: str | Path | None = None,
    dissimilarity: str | Path | None = None,
    method: Wanted = "auto",
    tta: bool = False,
    sieve: int = 0,
    window: int = 1,
    extent: Sequence[float] | None = None,
    scheduler: Scheduler | None = None,
    resume: bool = False,
    turns: bool | None = None,
) -> MappedScene:
    """Write the class map of a scene as a Cloud-Optimized GeoTIFF on the scene's own grid.

    A pixel gets the class of the patch around it. Patches over the edge of the scene are completed
    by mirroring, as in `cut`. Pixels without data in any band are nodata.

    A network without padding predicts all pixels of a window at once ("dense"). The result equals
    that of single patches up to rounding and is about a hundred times faster. A network with
    padding was trained with zeros around each patch, which a dense window does not have. It is
    therefore applied patch by patch, unless `method` is "dense".

    Classes are identical bit by bit for all values of `window` and all executors. Memory is bounded
    by a few windows. Finished windows are stored beside the map until it is complete.

    Args:
        model: a trained model, a run or its folder; or several, whose probabilities are averaged.
        scene: an open scene, a DataArray, or the name of a raster or product, which is read like
            the scenes of the training patches. Bands are matched by name.
        output: the map: uint8, 0 = nodata, then the classes from 1, with colours and names. Each
            file gets a style for QGIS, and the map a table of its classes for GDAL
            (`outcrop.mapping.classmap.write_maps`).
        confidence: further file: probability of the class in per cent, uint8, 255 = nodata.
        step: classify one pixel of each cell of `step × step` pixels and give its class to the
            whole cell; `step²` times faster. Only patch by patch.
        overwrite: whether the files, and those that belong to them by name, may exist.
        entropy: further file: Shannon entropy of the probabilities in per cent of that of equally
            likely classes, uint8, 255 = nodata.
        second: further file: second-best class, as in the map.
        dissimilarity: further file: dissimilarity index between a pixel and the training data of
            the first run, in per cent of the threshold of its area of applicability
            (`outcrop.metrics.applicability`), uint8, at most 254, 255 = nodata. Pixels above 100
            are outside.
        method: "dense", "patches", or "auto": dense if no network has padding.
        tta: test-time augmentation: average the probabilities over the flips and rotations by 90°
            of each patch.
        sieve: connected areas of fewer pixels get the class of their largest neighbour (minimum
            mapping unit); needs three bytes of disk space per pixel.
        window: minimum rows and columns that are read, computed and stored together, in whole tiles
            of up to 512.
        extent: part to map: smallest x and y, largest x and y in the scene's CRS. Only this part
            and its surroundings are read.
        scheduler: see `outcrop.executors.executor`; threads of this process if None.
        resume: continue a map that was interrupted.
        turns: old name of `tta`.

    Returns:
        The files and the class names.

    Raises:
        OutcropError: the scene lacks bands of the models, or is smaller than a patch; the models
            have different classes; window is below 1 or sieve below 0; a file exists; the disk is
            full.
    """
    tta = with_old_name(tta, turns)
    for name, number, least in (("window", window, 1), ("sieve", sieve, 0)):
        if number < least:
            raise OutcropError(f"`{name}`", f"must be {least} or more, not {number}")
    model = all_opened(model)
    first = first_of(model)
    if not isinstance(scene, Scene):
        source = scene
        (scene,) = open_like_training(first, lambda one: [open_scene(source, reading=one)])
    remedy = "choose them with `bands`, or name them with `band_names`"
    scene, note = with_bands(scene, first.bands, "the model", remedy)
    if note:
        warn(note)
    _note_missing_mask(first, scene)
    files = layer_files(
        output, confidence=confidence, entropy=entropy, second=second, dissimilarity=dissimilarity
    )
    part = None if extent is None else part_within(scene, extent)
    images = SceneImage.of(scene, part)
    job = job_for(model, images, tuple(files), method, tta, step, window=window)
    for file in files.values():
        if file.is_dir():
            raise OutcropError(file, "is a folder; name a file, e.g. map.tif")
    check_files(files, scene.files, overwrite, sidecars)
    _tell_pixels(first, scene)
    warn_if_dissimilar(model, job, images)
    windows, classes = job.tiling.windows, job.predictor.classes
    grid = scene if part is None else cropped(scene, part)
    with finished(job, images, windows, files["classes"], scheduler, resume) as store:
        done = ((one, store.read(one)) for one in windows)
        given = None if first.trained_on is None else first.trained_on.colours
        write_maps(files, grid, palette(classes, given), done, store.folder, sieve)
    return MappedScene(files, classes)


def open_like_training(
    model: Model,
    open_: Callable[[Reading], Sequence[Scene]],
    given: Mapping[str, Any] = MappingProxyType({}),
) -> Sequence[Scene]:
    """Open scenes with the reading of the training scenes.

    Values and bits of the mask are those of training if the scenes have a mask: one that is passed,
    or that of a product. Other scenes are read without a mask.

    Args:
        open_: opens the scenes with a reading.
        given: fields of `Reading` that the user sets instead.
    """
    usual = Reading() if model.trained_on is None else model.trained_on.for_others
    reading = replace(usual, **given)
    if "mask_values" in given or "mask_bits" in given:
        return open_(reading)
    without = replace(reading, mask_values=[], mask_bits=[])
    if reading.mask == ["none"] or reading == without:
        return open_(without)
    if reading.mask:
        return open_(reading)
    found = open_(without)
    return found if all(scene.mask is None for scene in found) else open_(reading)


def _note_missing_mask(model: Model, scene: Scene) -> None:
    """Print a note if the training scenes had a mask and this scene has none."""
    known = model.trained_on
    if known is None or scene.mask is not None or scene.reading.mask == ["none"]:
        return
    if known.reading.mask_values or known.reading.mask_bits:
        warn(
            f"{scene.title} has no quality mask, but the training scenes had one; clouds and "
            "other bad pixels get a class; pass `mask` to leave them out"
        )


def part_within(scene: Scene, extent: Sequence[float]) -> Part:
    """The part of a scene that an extent touches.

    Args:
        extent: smallest x and y, largest x and y in the scene's CRS.

    Raises:
        OutcropError: the extent is not valid, or touches no pixel of the scene.
    """
    if len(extent) != 4 or not (extent[0] < extent[2] and extent[1] < extent[3]):
        raise OutcropError(
            "`extent`",
            "must be 4 numbers with commas: smallest x, smallest y, largest x, largest y",
        )
    x, y = np.array(extent)[[0, 0, 2, 2]], np.array(extent)[[1, 3, 1, 3]]
    near = 1e-6
    row, column = scene.fractional_row_column(x, y)
    top, left = (max(0, int(np.floor(at.min() + near))) for at in (row, column))
    bottom = min(scene.height, int(np.ceil(row.max() - near)))
    right = min(scene.width, int(np.ceil(column.max() - near)))
    if bottom <= top or right <= left:
        bounds = ", ".join(f"{at:.9g}" for at in scene.bounds)
        raise OutcropError("`extent`", f"is outside {scene.title}; use an extent within {bounds}")
    return top, left, bottom - top, right - left


def cropped(scene: Scene, part: Part) -> Scene:
    """The grid of a part of a scene, for writing."""
    row, column, height, width = part
    a, b, c, d, e, f = scene.transform
    corner = a * column + b * row + c, d * column + e * row + f
    transform = (a, b, corner[0], d, e, corner[1])
    return replace(scene, transform=transform, height=height, width=width)


def _tell_pixels(model: Model, scene: Scene) -> None:
    """Print a note if the pixels have another size than the training pixels."""
    known = model.trained_on
    if known is None:
        return
    size = pixel_metres(scene)[0]
    if known.pixel and not any(np.isclose(size, wide, rtol=_PIXEL) for wide, _ in known.pixel):
        warn(
            f"{scene.title} has pixels of {size:.4g} m, but the model was trained on pixels "
            f"of {known.pixel[0][0]:.4g} m; pass `resolution` if the scene can be read like that"
        )
