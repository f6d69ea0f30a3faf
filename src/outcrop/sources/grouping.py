"""Find out which of the files that a user passes are bands of the same scene."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from outcrop.errors import OutcropError
from outcrop.sources import bands as band_lists
from outcrop.sources.grids import Grid, same_extent
from outcrop.sources.memory import as_list, is_dataarray, write_dataarray
from outcrop.sources.names import file_name, normalized_name, stem
from outcrop.sources.products import is_product
from outcrop.sources.raster_file import describe_raster

if TYPE_CHECKING:
    import xarray

AnyName: TypeAlias = "str | Path | xarray.DataArray"
JOIN = "+"


def file_names(files: AnyName | Sequence[AnyName]) -> list[str]:
    """The names of one file or several; DataArrays are written to files."""
    return [normalized_name(to_file(one)) for one in as_list(files)]


def to_file(name: AnyName) -> str | Path:
    """The name of a file; a DataArray is written to a file."""
    return write_dataarray(name) if is_dataarray(name) else name


def join_names(files: Iterable[AnyName | Sequence[AnyName]]) -> list[list[str]]:
    """The names of each scene: a single name, a sequence, or names with plus signs between them."""
    groups: list[list[str]] = []
    joining = False
    for one in files:
        if isinstance(one, str) and one == JOIN:
            if joining or not groups:
                raise OutcropError("+", "needs a file on both sides; pass both")
            joining = True
            continue
        names = file_names(one)
        if joining:
            groups[-1] += names
        else:
            groups.append(names)
        joining = False
    if joining:
        raise OutcropError("+", "needs a file on both sides; pass both")
    return groups


def group_files(given: list[list[str]], crs: str | None) -> list[list[str]]:
    """The names of each scene, where files with a single band and the same extent are grouped."""
    groups: list[list[str]] = []
    extents: list[tuple[Grid, list[str]]] = []
    for names in given:
        part = None if len(names) > 1 or is_product(names[0]) else describe_raster(names[0], crs)
        if part is None or len(part.bands) > 1:
            groups.append(names)
            continue
        group = next((group for grid, group in extents if same_extent(grid, part.grid)), None)
        if group is None:
            group = []
            extents.append((part.grid, group))
            groups.append(group)
        group.append(names[0])
    found = [group for _, group in extents]
    # Files that the user joined stay together.
    return [
        part
        for group in groups
        for part in (_split_dates(group) if any(group is one for one in found) else [group])
    ]


def _split_dates(names: list[str]) -> list[list[str]]:
    """Group files of one extent by the parts of their names that are not the band.

    Raises:
        OutcropError: two files have the same band of the same date.
    """
    stems = [stem(name) for name in names]
    if len(names) == 1:
        return [names]
    if all(map(band_lists.band_code, stems)):
        keys = [band_lists.name_without_band(one) for one in stems]
    else:
        keys = [""] * len(names)
    if len(set(zip(keys, stems, strict=True))) < len(names):
        keys = [f"{key} {Path(name).parent}" for key, name in zip(keys, names, strict=True)]
    found = [
        [name for name, its in zip(names, keys, strict=True) if its == key]
        for key in dict.fromkeys(keys)
    ]
    for group in found:
        _check_repeated_bands(group)
    return found


def _check_repeated_bands(names: list[str]) -> None:
    stems = [stem(name) for name in names]
    if not all(map(band_lists.band_code, stems)):
        return
    codes = [band_lists.identities([one])[0] for one in stems]
    for i, code in enumerate(codes):
        first = codes.index(code)
        if first < i:
            raise OutcropError(
                names[i],
                f"has band {code}, as {file_name(names[first])} does; pass one of them, or the "
                "folder of the product",
            )
