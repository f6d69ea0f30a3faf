"""Stacks of grey slices as volumes: a folder of TIFF or PNG files, or a TIFF with several pages.

TIFF is read by GDAL, which supports every dtype and reads parts of a slice. PNG is read by Pillow,
because GDAL reads a truncated PNG file without an error and invents the missing rows.
"""

from __future__ import annotations

import re
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from outcrop.errors import OutcropError
from outcrop.files import decoding
from outcrop.progress import track, warn
from outcrop.sources.collections.image import limit_image_size
from outcrop.sources.dtypes import read_dtype
from outcrop.sources.volumes.cf import Packing
from outcrop.sources.volumes.volume import PLAIN_AXES, Fill, Triple, Volume, check_cube

FORMATS = {".png": "PNG", ".tif": "TIFF", ".tiff": "TIFF"}
_GREY = {"1": "uint8", "L": "uint8", "I;16": "uint16", "I": "uint16"}
_NOT_GREY = "is not grey; convert the slices to one band"
_CACHE_BYTES = 128 << 20
# A sign has no letter or digit before it: z_-20 has one, 2024-05 does not.
_SIGN = r"(?:(?<![^\W_])[+-])?"
_SIGN_AFTER_LETTERS = r"(?:(?<!\d)[+-])?"
# No part of v1.2.3 is a decimal fraction.
_FRACTION = r"(?:(?<!\d\.)\d+(?:\.\d+)?(?!\.?\d)|\d+)"
_READINGS = tuple(
    re.compile(sign + digits, re.ASCII)
    for sign in (_SIGN, _SIGN_AFTER_LETTERS)
    for digits in (_FRACTION, r"\d+")
)
_HYPHEN = re.compile(r"[^\W\d_]-\d", re.ASCII)


def describe_stack(path: Path) -> Volume:
    """Inspect all slices of a stack.

    Raises:
        OutcropError: there are no slices, or only one; there are TIFF and PNG slices; a slice is
            damaged, coloured, or differs in size or dtype from the first; the names are those of
            several volumes, or their numbers have a gap.
    """
    files, numbers = sort_slices(path, _files(path)) if path.is_dir() else ([path], None)
    slices: list[Slice] = []
    for file in track(files, "inspecting slices"):
        for part in slices_of(file):
            slices.append(part)
            if (part.shape, part.dtype) != (slices[0].shape, slices[0].dtype):
                raise OutcropError(
                    file,
                    f"is {part}, but {slices[0].file.name} is {slices[0]}; pass slices of one "
                    "size and dtype",
                )
    if len(slices) == 1:
        raise OutcropError(
            path, "is a single slice, not a volume; pass all slices, or open it as a scene"
        )
    shape = (len(slices), *slices[0].shape)
    cube, dtype = check_cube(path, shape, np.dtype(slices[0].dtype))
    if any(part.read_as != dtype for part in slices):
        dtype = np.dtype("float32")
    store = StackStore(tuple(slices), cube)
    if numbers is not None and len(numbers) != len(slices):
        numbers = None
    return Volume(path, "stack", cube, dtype, PLAIN_AXES, store, (numbers, None, None))


@dataclass(frozen=True)
class StackStore:
    """The slices of a stack, in order."""

    slices: tuple[Slice, ...]
    shape: Triple

    @property
    def chunks(self) -> Triple:
        """One slice, because most slices have to be decompressed completely."""
        return 1, self.shape[1], self.shape[2]

    @contextmanager
    def open(self) -> Iterator[Fill]:
        """Keep no file open, because there may be more slices than files that may be open."""

        def fill(out: np.ndarray, corner: Triple) -> None:
            first, row, column = corner
            rows = slice(row, row + out.shape[1])
            columns = slice(column, column + out.shape[2])
            for plane, part in zip(out, self.slices[first : first + len(out)], strict=True):
                np.copyto(plane, read_slice(part, rows, columns), casting="unsafe")

        yield fill


def _files(folder: Path) -> list[Path]:
    files = [
        file
        for file in folder.iterdir()
        if file.suffix.lower() in FORMATS and not file.name.startswith(".")
    ]
    if not files:
        raise OutcropError(
            folder, "has neither TIFF or PNG slices nor a Zarr array; pass the folder with them"
        )
    if len({FORMATS[file.suffix.lower()] for file in files}) > 1:
        raise OutcropError(folder, "has TIFF and PNG slices; keep only those of one volume")
    return files


@dataclass(frozen=True)
class Slice:
    """The location and the properties of one slice.

    Attributes:
        file: the file.
        page: GDAL's name of the page of a TIFF file.
        shape: number of rows and columns.
        dtype: NumPy's name of the stored dtype.
        packing: scale, offset and nodata value of a TIFF file.
        masked: whether the slice has a mask.
    """

    file: Path
    page: str
    shape: tuple[int, int]
    dtype: str
    packing: Packing
    masked: bool = False

    @property
    def read_as(self) -> np.dtype:
        """The dtype of its samples."""
        changed = self.masked or not self.packing.keeps
        return np.dtype("float32") if changed else read_dtype(np.dtype(self.dtype))

    def __str__(self) -> str:
        return f"{self.shape[0]} × {self.shape[1]} {self.dtype}"


def slices_of(file: Path) -> list[Slice]:
    """Inspect a file: one slice, or one per page of a TIFF file.

    Raises:
        OutcropError: the file cannot be read, or is not grey.
    """
    if FORMATS[file.suffix.lower()] == "PNG":
        with _png(file) as image:
            if image.mode not in _GREY:
                raise OutcropError(file, _NOT_GREY)
            size = image.height, image.width
            return [Slice(file, str(file), size, _GREY[image.mode], Packing())]
    with _tiff(file, str(file)) as dataset:
        # GDAL names a page GTIFF_DIR:12:name, and lists pages in text order.
        pages = sorted(dataset.subdatasets, key=lambda page: int(page.split(":")[1]))
        _check_stack(file, dataset.tags().get("TIFFTAG_IMAGEDESCRIPTION", ""))
        if not pages:
            return [_slice(file, str(file), dataset)]
    found = []
    for page in pages:
        with _tiff(file, page) as dataset:
            found.append(_slice(file, page, dataset))
    return found


def is_pages(file: Path) -> bool:
    """Whether a file is a TIFF file with several pages and without a georeference."""
    try:
        with _tiff(file, str(file)) as dataset:
            return len(dataset.subdatasets) > 1 and dataset.crs is None and not dataset.gcps[0]
    except OutcropError:
        return False


def read_slice(part: Slice, rows: slice, columns: slice) -> np.ndarray:
    """Read a part of a slice: `rows × columns`, in the dtype `read_as` or the stored one.

    Raises:
        OutcropError: the file is truncated or damaged, or has changed since it was inspected.
    """
    if FORMATS[part.file.suffix.lower()] == "PNG":
        with _png(part.file) as image:
            _check_same(part, (image.height, image.width))
            return np.asarray(image)[rows, columns]
    from rasterio.windows import Window

    with _tiff(part.file, part.page) as dataset:
        _check_same(part, dataset.shape)
        window = Window.from_slices(rows, columns)
        samples = part.packing.unpack(dataset.read(1, window=window), part.file)
        if part.masked:
            samples = np.where(dataset.read_masks(1, window=window) > 0, samples, np.nan)
        return samples


def _check_stack(file: Path, description: str) -> None:
    """Check that ImageJ did not write pages of several channels or times."""
    for what, count in re.findall(r"^(channels|frames)=(\d+)", description, re.MULTILINE):
        if description.startswith("ImageJ=") and int(count) > 1:
            raise OutcropError(
                file, f"has pages of {count} {what}; save one of them as a stack of slices"
            )


def _slice(file: Path, page: str, dataset: Any) -> Slice:
    from rasterio.enums import ColorInterp, MaskFlags

    dtype = dataset.dtypes[0]
    coloured = dataset.count != 1 or dataset.colorinterp[0] == ColorInterp.palette
    if coloured or dtype.startswith("complex"):
        raise OutcropError(file, _NOT_GREY)
    missing = () if dataset.nodata is None else (float(dataset.nodata),)
    packing = Packing(dataset.scales[0] or 1.0, dataset.offsets[0], missing)
    masked = MaskFlags.per_dataset in dataset.mask_flag_enums[0]
    return Slice(file, page, dataset.shape, dtype, packing, masked)


@contextmanager
def _png(file: Path) -> Iterator[Any]:
    from PIL import Image

    with _readable(file), limit_image_size(), Image.open(file, formats=("PNG",)) as image:
        yield image


@contextmanager
def _tiff(file: Path, page: str) -> Iterator[Any]:
    import rasterio
    from rasterio.errors import NotGeoreferencedWarning

    # By default GDAL lists the folder for sidecar files, again for every slice.
    quick = {"GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR", "GDAL_CACHEMAX": _CACHE_BYTES}
    with (
        _readable(file),
        rasterio.Env(**quick),
        limit_image_size(),
        warnings.catch_warnings(action="ignore", category=NotGeoreferencedWarning),
        rasterio.open(page, driver="GTiff") as dataset,
    ):
        yield dataset


def _check_same(part: Slice, shape: tuple[int, int]) -> None:
    if shape != part.shape:
        raise OutcropError(part.file, "has changed since it was opened; open the volume again")


def _readable(file: Path) -> AbstractContextManager[None]:
    return decoding(file, f"a complete {FORMATS[file.suffix.lower()]} file", "fetch it again")


def sort_slices(folder: Path, files: Sequence[Path]) -> tuple[list[Path], np.ndarray | None]:
    """Sort slices by the number in which their names differ; it may have a sign or a fraction.

    A hyphen after a letter is a minus sign only if other names have none there: z-4, z0, z4. Names
    without numbers are sorted alphabetically, and a note is printed.

    Returns:
        the sorted files, and their numbers, float64, `N`; None if the names have no numbers.

    Raises:
        OutcropError: names of several patterns, as of several volumes; two slices with one number;
            a gap in the numbers.
    """
    readings = [_Reading.of(pattern, files) for pattern in _READINGS]
    best = min(readings, key=lambda reading: reading.contradictions)
    if len(best.templates) > 1:
        if len(best.templates) < len(files):
            raise OutcropError(folder, _patterns_text(best, files))
        files = sorted(files, key=lambda file: (file.name.casefold(), file.name))
        if len(files) > 1:
            warn(
                f"{folder}: the names of the slices differ in more than a number; they are "
                f"sorted alphabetically, {files[0].name} first and {files[-1].name} last"
            )
        return list(files), None
    if len(files) == 1:
        return list(files), None
    varying = best.varying
    if not varying:
        raise OutcropError(folder, _same_number_text(files[0], files[1]))
    if not best.is_one_sequence:
        raise OutcropError(
            folder,
            f"has names with {len(varying)} different numbers, as of several volumes "
            f"({files[0].name}, {files[-1].name}); keep only the slices of one volume, with one "
            "number in each name",
        )
    column = varying[0]
    order = sorted(range(len(files)), key=lambda k: best.numbers[k][column])
    files = [files[k] for k in order]
    numbers = [best.numbers[k][column] for k in order]
    _check_steps(folder, files, numbers)
    hyphens = len(varying) == 1 and all(_HYPHEN.search(_plain_stem(file)) for file in files)
    if hyphens and best in readings[:2]:
        warn(
            f"{folder}: the hyphen in the names is not read as a minus sign, so "
            f"{files[0].name} is the first slice; if it is a minus sign, put _ before it"
        )
    return files, np.array([float(number) for number in numbers])


@dataclass(frozen=True)
class _Reading:
    """One way to separate the numbers in names from the text.

    Attributes:
        templates: the names without their numbers, and the number of files with each.
        numbers: the numbers of each file, in the order of its name.
    """

    templates: Counter[str]
    numbers: list[tuple[Decimal, ...]]

    @classmethod
    def of(cls, pattern: re.Pattern[str], files: Sequence[Path]) -> _Reading:
        stems = [_plain_stem(file) for file in files]
        return cls(
            Counter(pattern.sub("#", stem) for stem in stems),
            [tuple(Decimal(number) for number in pattern.findall(stem)) for stem in stems],
        )

    @property
    def varying(self) -> list[int]:
        """The positions at which the numbers differ, if all names have one template."""
        if len(self.templates) > 1:
            return []
        columns = enumerate(zip(*self.numbers, strict=True))
        return [place for place, column in columns if len(set(column)) > 1]

    @property
    def is_one_sequence(self) -> bool:
        """Whether all numbers that differ ascend or descend together, like an index and a depth."""
        if not self.varying:
            return False
        first, *rest = self.varying
        rows = sorted(self.numbers, key=lambda row: row[first])
        signs = [{after[k].compare(before[k]) for before, after in pairwise(rows)} for k in rest]
        return all(found in ({1}, {-1}) for found in signs)

    @property
    def contradictions(self) -> tuple[int, bool, bool, bool]:
        """What contradicts this way of reading, the most serious first.

        Nobody writes 0.9 and then 0.10: if names have different numbers of decimals, fractions do
        not end in 0.
        """
        if not self.is_one_sequence:
            return len(self.templates), True, True, True
        numbers = sorted(row[self.varying[0]] for row in self.numbers)
        digits = [number.as_tuple() for number in numbers]
        ragged = len({some.exponent for some in digits}) > 1 and any(
            int(some.exponent) < -1 and some.digits[-1] == 0 for some in digits
        )
        return len(self.templates), False, ragged, _first_gap(numbers) is not None


def _plain_stem(file: Path) -> str:
    """The name in lower case without its suffix, with a hyphen for a typographic minus sign."""
    return file.stem.casefold().replace("\N{MINUS SIGN}", "-")


def _first_gap(numbers: Sequence[Decimal]) -> int | None:
    """Index of the first step that is longer than the shortest; the last decimal may be rounded."""
    digits = max(-int(number.as_tuple().exponent) for number in numbers)
    slack = Decimal(1).scaleb(-digits) if digits > 0 else Decimal(0)
    steps = [after - before for before, after in pairwise(numbers)]
    return next((at for at, step in enumerate(steps) if step - min(steps) > slack), None)


def _check_steps(folder: Path, files: Sequence[Path], numbers: Sequence[Decimal]) -> None:
    for (file, number), (other, its) in pairwise(zip(files, numbers, strict=True)):
        if number == its:
            raise OutcropError(folder, _same_number_text(file, other))
    gap = _first_gap(numbers)
    if gap is not None:
        step = min(after - before for before, after in pairwise(numbers))
        raise OutcropError(
            folder,
            f"has slices with numbers in steps of {step}, but {files[gap + 1].name} follows "
            f"{files[gap].name}; add the missing slices, or number them evenly",
        )


def _same_number_text(file: Path, other: Path) -> str:
    return f"has {file.name} and {other.name} with the same number; keep only one of them"


def _patterns_text(reading: _Reading, files: Sequence[Path]) -> str:
    kinds = reading.templates.most_common()
    shown = [f"{template}{files[0].suffix} ({count})" for template, count in kinds[:3]]
    more = f" and {len(kinds) - 3} more" if len(kinds) > 3 else ""
    return (
        f"has slices with names of {len(kinds)} patterns, as of several volumes: "
        f"{', '.join(shown)}{more}, where # is a number; keep only those of one volume"
    )
