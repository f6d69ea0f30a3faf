"""Class maps on disk: GeoTIFF with nodata, colours and class names that GIS programs show."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import numpy as np

from outcrop.errors import OutcropError
from outcrop.files import new_file
from outcrop.patches.palette import colours
from outcrop.sources.geotiff import write_geotiff
from outcrop.sources.scene import Scene

NODATA = 0
NO_CONFIDENCE = 255

Write = Callable[[np.ndarray, np.ndarray, int, int], None]


@contextmanager
def map_writer(
    path: str | Path, confidence: str | Path | None, scene: Scene, classes: Sequence[str]
) -> Iterator[Write]:
    """A function that writes class values and confidence at a row and column.

    The files appear under their names together, when both are whole. The names of the classes
    stand in the tags `CLASS_1`, ... of the band, and, because GDAL keeps category names nowhere
    else, in `PATH.aux.xml` beside the map.

    Raises:
        OutcropError: more than 254 classes; the disk is full.
    """
    if len(classes) > 254:
        raise OutcropError(path, f"cannot hold {len(classes)} classes; a map has at most 254")
    path = Path(path)
    with ExitStack() as renames:
        names = renames.enter_context(new_file(path.with_name(path.name + ".aux.xml")))
        names.write_text(_category_names(["nodata", *classes]), encoding="utf-8")
        temporary = [renames.enter_context(new_file(path))]
        if confidence is not None:
            temporary.append(renames.enter_context(new_file(confidence)))
        with ExitStack() as files:
            class_file = files.enter_context(_geotiff(temporary[0], path, scene, NODATA))
            _describe_classes(class_file, classes)
            writers = [_write_to(class_file)]
            for name in temporary[1:]:
                file = files.enter_context(
                    _geotiff(name, Path(str(confidence)), scene, NO_CONFIDENCE)
                )
                file.set_band_description(1, "confidence (per cent)")
                file.set_band_unit(1, "%")
                writers.append(_write_to(file))

            def write(values: np.ndarray, certain: np.ndarray, row: int, column: int) -> None:
                for writer, pixels in zip(writers, (values, certain), strict=False):
                    writer(pixels, row, column)

            yield write


def _geotiff(temporary: Path, path: Path, scene: Scene, nodata: int) -> AbstractContextManager[Any]:
    from affine import Affine

    return write_geotiff(
        temporary,
        path,
        dtype="uint8",
        count=1,
        height=scene.height,
        width=scene.width,
        crs=scene.crs,
        transform=Affine(*scene.transform),
        nodata=nodata,
        bigtiff="if_safer",
    )


def _describe_classes(dataset: Any, classes: Sequence[str]) -> None:
    table = {NODATA: (0, 0, 0, 0)}
    table |= {i: (*rgb, 255) for i, rgb in enumerate(colours(classes), start=1)}
    dataset.write_colormap(1, table)
    dataset.set_band_description(1, "class")
    dataset.update_tags(1, **{f"CLASS_{i}": name for i, name in enumerate(classes, start=1)})


def _write_to(dataset: Any) -> Callable[[np.ndarray, int, int], None]:
    from rasterio.windows import Window

    def write(values: np.ndarray, row: int, column: int) -> None:
        height, width = values.shape
        dataset.write(values, 1, window=Window(column, row, width, height))

    return write


def _category_names(names: Sequence[str]) -> str:
    categories = "".join(f"      <Category>{escape(name)}</Category>\n" for name in names)
    return (
        '<PAMDataset>\n  <PAMRasterBand band="1">\n    <CategoryNames>\n'
        f"{categories}    </CategoryNames>\n  </PAMRasterBand>\n</PAMDataset>\n"
    )
