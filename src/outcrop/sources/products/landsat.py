"""Landsat Collection 2, Level-1 and Level-2."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from outcrop.errors import OutcropError
from outcrop.sources.products.files import (
    LANDSAT,
    LANDSAT_FILE,
    Place,
    day,
    join,
    local_name,
    metadata,
    number,
    parse_xml,
)
from outcrop.sources.products.product import Product, listed, missing_bands_text, spelled_bands
from outcrop.sources.scene import Band, Mask

# Level-2 surface reflectance of all sensors.
SR_SCALE, SR_OFFSET = 2.75e-05, -0.2
# Bits of QA_PIXEL that mean no data. There is no cirrus, bit 2, before Landsat 8.
QA_BITS, QA_BITS_BEFORE_8 = (0, 1, 2, 3, 4), (0, 1, 3, 4)
_SENSORS = {"C": "OLI_TIRS", "O": "OLI", "T": "TM", "E": "ETM", "M": "MSS"}
_PANCHROMATIC = "B8"

Groups = dict[str, dict[str, str]]


def open_landsat(path: Path, place: Place, bands: Sequence[str] | None) -> Product:
    """Read the names and the metadata of a Landsat product; see `open_product`."""
    files = {name.upper(): name for name in place.tree.entries(place.folder)[1]}
    notes: list[str] = []
    known = _from_mtl(place, notes) if place.metadata else _from_names(path, place, notes)
    every = {band.name: band for band in known.bands}
    default = [
        name for name, band in every.items() if band.unit == "reflectance" and name != _PANCHROMATIC
    ]
    left = [band for name, band in every.items() if name not in default]
    if bands is None and left:
        kinds = {"temperature" if band.unit == "kelvin" else "panchromatic" for band in left}
        notes.append(
            f"{', '.join(band.name for band in left)} ({', '.join(sorted(kinds))}) is left out; "
            "select it with `bands` to use it"
        )
    chosen = default if bands is None else spelled_bands(path, bands, every)
    missing = [name for name in chosen if every[name].file.upper() not in files]
    if missing:
        raise OutcropError(path, _missing_files_text(missing, every, files))
    ids = {match["id"].upper() for name in files if (match := LANDSAT_FILE.fullmatch(name))}
    others = sorted(ids - {known.title.upper()})
    if others:
        notes.append(f"files of {listed(others)} are ignored; the product is {known.title}")

    def gdal(file: str) -> str:
        return place.tree.gdal(join(place.folder, files[file.upper()]))

    mask = known.mask
    if mask is not None and mask.file.upper() in files:
        mask = replace(mask, file=gdal(mask.file))
    elif mask is not None:
        notes.append(f"{mask.file} is missing: clouds are not masked")
        mask = None
    found = tuple(replace(every[name], file=gdal(every[name].file)) for name in chosen)
    return replace(known, bands=found, mask=mask, assumed=tuple(notes))


def _quality_mask(file: str, satellite: str) -> Mask:
    return Mask(file, (), QA_BITS if satellite in ("8", "9") else QA_BITS_BEFORE_8)


def _from_mtl(place: Place, notes: list[str]) -> Product:
    """The product with all its bands; they and the mask have the expected names of their files."""
    # The content of txt, json and xml is the same.
    name = min(place.metadata, key=lambda name: ("txt", "json", "xml").index(_kind(name)))
    name = join(place.folder, name)
    where = place.tree.gdal(name)
    read = {"txt": _read_text, "json": _read_json, "xml": _read_xml}[_kind(name)]
    groups = read(where, metadata(place.tree, name))
    if "PRODUCT_CONTENTS" not in groups:
        raise OutcropError(
            where, "is not metadata of Landsat Collection 2; fetch it again, or pass the band files"
        )

    def value(group: str, key: str, form: str) -> str:
        found = groups.get(group, {}).get(key)
        if found is None:
            raise OutcropError(where, f"has no {key} in {group}; fetch it again")
        if not re.fullmatch(form, found):
            raise OutcropError(where, f"is damaged ({key} is {found!r:.40}); fetch it again")
        return found

    def linear(group: str, what: str, band: str) -> tuple[float, float]:
        mult, add = (value(group, f"{what}_{x}_BAND_{band}", r".*") for x in ("MULT", "ADD"))
        return number(where, mult), number(where, add)

    if value("PRODUCT_CONTENTS", "COLLECTION_NUMBER", r"\d+").lstrip("0") != "2":
        raise OutcropError(
            where, "is not of Landsat Collection 2; fetch Collection 2, or pass the band files"
        )
    level = value("PRODUCT_CONTENTS", "PROCESSING_LEVEL", r"L[12]\w\w")
    acquired = day(where, value("IMAGE_ATTRIBUTES", "DATE_ACQUIRED", r"\d{4}-\d\d-\d\d"))
    # Level-2 files have the factors of Level-1 too, with the same keys in another group.
    surface = level.startswith("L2")
    group = "LEVEL2_SURFACE_REFLECTANCE_PARAMETERS" if surface else "LEVEL1_RADIOMETRIC_RESCALING"
    sine = 1.0 if surface else _sine_of_sun(where, value, notes)
    contents = groups["PRODUCT_CONTENTS"]
    numbers = sorted(
        int(match[1]) for key in contents if (match := re.fullmatch(r"FILE_NAME_BAND_(\d+)", key))
    )
    # The radiance of thermal bands is not linear in kelvin.
    thermal = groups.get("LEVEL1_THERMAL_CONSTANTS", {}) if not surface else {}
    numbers = [i for i in numbers if f"K1_CONSTANT_BAND_{i}" not in thermal]
    scaled = [key for key in groups.get(group, {}) if key.startswith("REFLECTANCE_MULT_BAND_")]
    if not numbers and not scaled:
        raise OutcropError(where, "has no reflectance bands; pass the band files instead")
    if len(numbers) != len(scaled):
        counts = f"{len(numbers)} files but {len(scaled)} scales of reflectance bands"
        raise OutcropError(where, f"has {counts}; fetch it again")
    bands = {}
    for i in numbers:
        scale, offset = linear(group, "REFLECTANCE", str(i))
        band, file = f"SR_B{i}" if surface else f"B{i}", contents[f"FILE_NAME_BAND_{i}"]
        bands[band] = Band(file, 1, band, scale / sine, offset / sine, 0.0, "reflectance")
    kelvin = "LEVEL2_SURFACE_TEMPERATURE_PARAMETERS"
    for key, file in contents.items():
        match = re.fullmatch(r"FILE_NAME_BAND_(ST_B\d+)", key)
        if match and kelvin in groups:
            scale, offset = linear(kelvin, "TEMPERATURE", match[1])
            bands[match[1]] = Band(file, 1, match[1], scale, offset, 0.0, "kelvin")
    title = value("PRODUCT_CONTENTS", "LANDSAT_PRODUCT_ID", r"\w+")
    satellite = value("IMAGE_ATTRIBUTES", "SPACECRAFT_ID", r"LANDSAT_\d")[-1]
    sensor = value("IMAGE_ATTRIBUTES", "SENSOR_ID", r"\w+")
    quality = value("PRODUCT_CONTENTS", "FILE_NAME_QUALITY_L1_PIXEL", r"[\w.]+")
    return Product(
        title=title,
        sensor=f"Landsat {satellite} {sensor}",
        level=level,
        acquired=acquired,
        bands=tuple(bands.values()),
        mask=_quality_mask(quality, satellite),
    )


def _sine_of_sun(where: str, value: Callable[[str, str, str], str], notes: list[str]) -> float:
    """The sine of the sun elevation, by which Level-1 reflectance is divided."""
    sun = number(where, value("IMAGE_ATTRIBUTES", "SUN_ELEVATION", r".*"))
    if not 0 < sun <= 90:
        raise OutcropError(
            where, f"has a sun elevation of {sun:g}°, so no reflectance; pass another scene"
        )
    notes.append(
        "reflectance at the top of the atmosphere, divided by the sine of the sun elevation "
        f"({sun:.2f}° at the centre of the scene)"
    )
    return math.sin(math.radians(sun))


def _from_names(path: Path, place: Place, notes: list[str]) -> Product:
    """Level-2 without MTL file: scale and offset are the same in all products."""
    match = LANDSAT.fullmatch(place.title)
    if not match or not match["level"].startswith("2"):
        raise OutcropError(path, "has no MTL file, which has the scale of Level-1; fetch it")
    satellite, date = match["number"].lstrip("0"), match["date"]
    notes.append(
        f"no MTL file: assumed reflectance = stored × {SR_SCALE:g} - {-SR_OFFSET:g} and nodata 0, "
        "as in all of Landsat Collection 2 Level-2"
    )
    names = [f"SR_B{i}" for i in range(1, 8) if i != 6 or satellite in ("8", "9")]
    return Product(
        title=place.title,
        sensor=f"Landsat {satellite} {_SENSORS[match['sensor'].upper()]}",
        level=f"L{match['level'].upper()}",
        acquired=f"{date[:4]}-{date[4:6]}-{date[6:]}",
        bands=tuple(
            Band(f"{place.title}_{name}.TIF", 1, name, SR_SCALE, SR_OFFSET, 0.0, "reflectance")
            for name in names
        ),
        mask=_quality_mask(f"{place.title}_QA_PIXEL.TIF", satellite),
    )


def _missing_files_text(
    missing: Sequence[str], bands: dict[str, Band], files: dict[str, str]
) -> str:
    """The error message for bands without a file, which may be of another product."""
    ending = f"_{missing[0]}.TIF"
    others = [name for upper, name in files.items() if upper.endswith(ending)]
    if others:
        return (
            f"has {listed(others)} where {bands[missing[0]].file!r:.100} is expected; put the "
            "files and the metadata of one product into one folder"
        )
    return missing_bands_text(
        missing, [n for n, band in bands.items() if band.file.upper() in files]
    )


def _kind(name: str) -> str:
    return name.rpartition(".")[2].lower()


def _read_text(where: str, text: str) -> Groups:
    """The groups of an MTL text file."""
    lines = [line.strip() for line in text.splitlines()]
    groups: Groups = {}
    current: list[str] = []
    for line in lines:
        key, _, value = (part.strip() for part in line.partition("="))
        if key == "GROUP":
            current.append(value)
        elif key == "END_GROUP":
            if not current or current.pop() != value:
                raise OutcropError(where, f"is damaged (group {value!r:.40}); fetch it again")
        elif value and current:
            groups.setdefault(current[-1], {})[key] = value.strip('"')
    if current or "END" not in lines:
        raise OutcropError(where, "is truncated; fetch it again")
    return groups


def _read_json(where: str, text: str) -> Groups:
    """The groups of an MTL JSON file."""
    try:
        tree: Any = json.loads(text)
        return {
            name: {key: str(value) for key, value in group.items()}
            for name, group in tree["LANDSAT_METADATA_FILE"].items()
        }
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise OutcropError(where, "is damaged or not metadata of Landsat; fetch it again") from None


def _read_xml(where: str, text: str) -> Groups:
    """The groups of an MTL XML file."""
    return {
        local_name(group): {local_name(item): (item.text or "").strip() for item in group}
        for group in parse_xml(where, text)
    }
