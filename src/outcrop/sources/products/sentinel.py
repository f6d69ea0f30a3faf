"""Sentinel-2 Level-1C and Level-2A."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from outcrop.errors import OutcropError
from outcrop.sources.products.files import (
    SAFE_NAME,
    Archive,
    Image,
    Place,
    day,
    find_images,
    join,
    local_name,
    metadata,
    number,
    parse_xml,
)
from outcrop.sources.products.product import Product, listed, missing_bands_text, spelled_bands
from outcrop.sources.scene import Band, Mask

# The bands of the sensor in the order of their band_id, with the native resolution in metres.
SENTINEL_BANDS = {
    "B01": 60, "B02": 10, "B03": 10, "B04": 10, "B05": 20, "B06": 20, "B07": 20, "B08": 10,
    "B8A": 20, "B09": 60, "B10": 60, "B11": 20, "B12": 20,
}  # fmt: skip
# Level-2A lacks the cirrus band.
NOT_IN_L2A = "B10"
SCL_METRES = 20
# Classes of the scene classification that mean no data.
SCL_NO_DATA = (0, 1, 3, 8, 9, 10)
# Date of baseline 04.00. Products that were sensed since then have offsets.
OFFSETS_SINCE = "20220125"


@dataclass(frozen=True)
class _Metadata:
    """The properties from metadata or names, before band files are searched.

    Attributes:
        quantification: stored units per unit of reflectance.
        offsets: the offset of each band, in stored units.
        scene: common start of the names of the band files.
    """

    title: str
    level: str
    satellite: str
    acquired: str
    quantification: float
    offsets: dict[str, float]
    nodata: float
    scene: str | None


def open_sentinel(path: Path, place: Place, bands: Sequence[str] | None) -> Product:
    """Read the names and the metadata of a Sentinel-2 product; see `open_product`."""
    granule = _granule(path, place)
    name = granule.removeprefix(join(place.folder, "GRANULE/")).partition("/")[0]
    images = find_images(place.tree, granule)
    if not images:
        raise OutcropError(path, "has no band files in its granule; fetch the product again")
    notes: list[str] = []
    if place.metadata:
        known = _from_metadata(path, place)
    else:
        known = _from_names(path, place, name, images, notes)
    images = _select_scene(path, images, known.scene or _scene_of_old_granule(name), notes)
    wanted = tuple(n for n in SENTINEL_BANDS if known.level == "L1C" or n != NOT_IN_L2A)
    chosen = wanted if bands is None else spelled_bands(path, bands, wanted)
    there = {image.band for image in images}
    missing = [name for name in chosen if name not in there]
    if missing:
        raise OutcropError(path, missing_bands_text(missing, [n for n in wanted if n in there]))
    found = tuple(
        Band(
            file=place.tree.gdal(_best_image(path, images, name, SENTINEL_BANDS[name], notes).file),
            number=1,
            name=name,
            scale=1 / known.quantification,
            offset=known.offsets[name] / known.quantification,
            nodata=known.nodata,
            unit="reflectance",
        )
        for name in chosen
    )
    mask = None
    if "SCL" in there:
        image = _best_image(path, images, "SCL", SCL_METRES, notes)
        mask = Mask(place.tree.gdal(image.file), SCL_NO_DATA, ())
    else:
        notes.append("the scene classification (SCL) is missing: clouds are not masked")
    return Product(
        title=known.title,
        sensor=f"{known.satellite} MSI",
        level=known.level,
        acquired=known.acquired,
        bands=found,
        mask=mask,
        assumed=tuple(notes),
    )


def _granule(path: Path, place: Place) -> str:
    """The folder of the only granule."""
    if place.granule == "":
        return place.folder
    above = join(place.folder, "GRANULE")
    if place.granule is not None:
        return join(above, place.granule)
    granules = [name for name in place.tree.entries(above)[0] if not name.startswith(".")]
    if not granules and find_images(place.tree, place.folder):
        return place.folder
    if not granules:
        raise OutcropError(path, "has no folder GRANULE with images; fetch the product again")
    if len(granules) > 1:
        raise OutcropError(
            path,
            f"has {len(granules)} granules; "
            + ("unpack it and " if isinstance(place.tree, Archive) else "")
            + f"pass the folder of one, {above}/ followed by {listed(granules)}",
        )
    return join(above, granules[0])


def _from_metadata(path: Path, place: Place) -> _Metadata:
    """The properties from the product metadata."""
    names = place.metadata
    of_folder = SAFE_NAME.match(place.title)
    if len(names) > 1 and of_folder:
        names = tuple(name for name in names if of_folder["level"].upper() in name.upper())
    if len(names) != 1:
        raise OutcropError(
            path, f"has several product metadata files ({listed(place.metadata)}); pass one"
        )
    name = join(place.folder, names[0])
    where = place.tree.gdal(name)
    root = parse_xml(where, metadata(place.tree, name))
    kind = re.fullmatch(r"Level-(1C|2A)_User_Product", local_name(root))
    if not kind:
        raise OutcropError(
            where, f"is metadata of {local_name(root)!r:.40}; pass a product of Level-1C or 2A"
        )
    level = f"L{kind[1]}"
    elements: dict[str, list[ET.Element]] = {}
    for element in root.iter():
        # Before 2018, many tags of Level-2A have this prefix.
        elements.setdefault(local_name(element).removeprefix("L2A_"), []).append(element)

    def text(form: str, *tags: str) -> str:
        found = [e.text.strip() for tag in tags for e in elements.get(tag, []) if e.text]
        if not found:
            raise OutcropError(where, f"has no {tags[0]}; fetch it again")
        if not re.fullmatch(form, found[0]):
            raise OutcropError(where, f"is damaged ({tags[0]} is {found[0]!r:.40}); fetch it again")
        return found[0]

    title = text(r"[\w.:/-]+", "PRODUCT_URI", "PRODUCT_URI_2A").rstrip("/").rpartition("/")[2]
    title = title.removesuffix(".SAFE")
    acquired = day(where, text(r"\d{4}-\d\d-\d\dT.*", "PRODUCT_START_TIME")[:10])
    quantity = "BOA_QUANTIFICATION_VALUE" if level == "L2A" else "QUANTIFICATION_VALUE"
    quantification = number(where, text(r".*", quantity))
    if quantification <= 0:
        raise OutcropError(where, f"is damaged ({quantity} is {quantification:g}); fetch it again")
    special = {
        _child(element, "SPECIAL_VALUE_TEXT"): _child(element, "SPECIAL_VALUE_INDEX")
        for element in elements.get("Special_Values", [])
    }
    of_product = SAFE_NAME.match(title)
    if of_folder and of_product and _scene_of_product(of_folder) != _scene_of_product(of_product):
        raise OutcropError(
            where, f"is metadata of {title}, not of {place.title}; replace it by the right file"
        )
    tag = "BOA_ADD_OFFSET" if level == "L2A" else "RADIO_ADD_OFFSET"
    baseline = float(text(r"\d\d\.\d\d", "PROCESSING_BASELINE"))
    return _Metadata(
        title=title,
        level=level,
        satellite=text(r"Sentinel-2[A-Z]", "SPACECRAFT_NAME"),
        acquired=acquired,
        quantification=quantification,
        offsets=_offsets(where, elements.get(tag, []), tag, baseline),
        nodata=number(where, special.get("NODATA", "0")),
        scene=_scene_of_product(of_product or of_folder),
    )


def _child(element: ET.Element, tag: str) -> str:
    return next(((c.text or "").strip() for c in element if local_name(c) == tag), "")


def _offsets(
    where: str, elements: Sequence[ET.Element], tag: str, baseline: float
) -> dict[str, float]:
    """The offset of each band, in stored units."""
    if not elements:
        # Baseline 99.99 is Sen2Cor run by a user, which writes all offsets that exist.
        if 4 <= baseline < 99:
            raise OutcropError(where, f"has baseline {baseline:05.2f} but no {tag}; fetch it again")
        return dict.fromkeys(SENTINEL_BANDS, 0.0)
    values = {element.get("band_id", ""): number(where, element.text) for element in elements}
    offsets = {n: values[str(i)] for i, n in enumerate(SENTINEL_BANDS) if str(i) in values}
    missing = SENTINEL_BANDS.keys() - offsets - ({NOT_IN_L2A} if tag == "BOA_ADD_OFFSET" else set())
    if missing or not len(offsets) == len(values) == len(elements):
        raise OutcropError(
            where, f"lacks {tag} for some band_id from 0 to 12, or repeats it; fetch it again"
        )
    return offsets


def _from_names(
    path: Path, place: Place, granule: str, images: Sequence[Image], notes: list[str]
) -> _Metadata:
    """The properties from names, if there are no product metadata, with notes on assumptions.

    Args:
        granule: name of the folder of the granule.
    """
    match = SAFE_NAME.match(place.title)
    first = images[0].scene
    names = [place.title.upper(), granule.upper(), first + "_"]
    levels = [m[1] for n in names if (m := re.search(r"(?:^|_)(?:MSI)?_?(L1C|L2A)_", n))]
    if levels:
        level, why = levels[0], ""
    else:
        level = "L2A" if any(image.metres for image in images) else "L1C"
        resolution = "a resolution" if level == "L2A" else "no resolution"
        why = f" ({level} is assumed, because file names have {resolution})"
    # In old names of files and granules the time is the processing time.
    dates = [m[1] for n in names if (m := re.search(r"(?:MSIL.._|_V|^T.{5}_)(\d{8})T\d{6}_", n))]
    if not dates:
        raise OutcropError(path, f"has no date in its names; add MTD_MSI{level}.xml")
    sensed = dates[0]
    of_granule = re.search(r"_N(\d\d\.\d\d)$", granule)
    old = of_granule[1].replace(".", "") if of_granule else ""
    baseline = match["baseline"] if match else old
    if baseline >= "9900":
        raise OutcropError(
            path,
            f"was processed by a user (N{baseline}), so its offset is unknown; "
            f"add MTD_MSI{level}.xml",
        )
    if baseline:
        offset = -1000.0 if baseline >= "0400" else 0.0
        reason = f"baseline {baseline[:2]}.{baseline[2:]} in the name"
    elif sensed >= OFFSETS_SINCE:
        offset, reason = -1000.0, "the date (baseline 04.00 or later)"
    else:
        offset = 0.0
        reason = (
            "the date (before baseline 04.00; if the product was processed again since, "
            "reflectances are 0.1 too high: add its metadata)"
        )
    notes.append(
        f"no MTD_MSI{level}.xml{why}: assumed reflectance = "
        f"{'(stored - 1000)' if offset else 'stored'} / 10000 and nodata 0, from {reason}"
    )
    satellite = next((name[2] for name in names if re.match(r"S2[A-D]_", name)), "")
    return _Metadata(
        title=(place.title if match else first).removesuffix(".SAFE"),
        level=level,
        satellite=f"Sentinel-2{satellite}",
        acquired=f"{sensed[:4]}-{sensed[4:6]}-{sensed[6:]}",
        quantification=10000.0,
        offsets=dict.fromkeys(SENTINEL_BANDS, offset),
        nodata=0.0,
        scene=_scene_of_product(match),
    )


def _scene_of_product(match: re.Match[str] | None) -> str | None:
    """The common start of file names, from the name of a product."""
    return f"T{match['tile']}_{match['time']}".upper() if match else None


def _scene_of_old_granule(granule: str) -> str | None:
    """The common start of file names, from the name of a granule before 2017."""
    match = re.fullmatch(r"(S2._.+)_N\d\d\.\d\d", granule.upper())
    return match[1] if match else None


def _select_scene(
    path: Path, images: list[Image], scene: str | None, notes: list[str]
) -> list[Image]:
    """The images whose names begin with `scene`; if it is None, all, which must be of one scene."""
    scenes = sorted({image.scene for image in images})
    if scene is None:
        if len(scenes) > 1:
            raise OutcropError(
                path,
                f"has files of several scenes ({listed(scenes)}); move the files of all but one "
                "away",
            )
        return images
    if scene not in scenes:
        raise OutcropError(
            path, f"has files of {listed(scenes)}, not of {scene}; fetch the product again"
        )
    others = [name for name in scenes if name != scene]
    if others:
        notes.append(f"files of {listed(others)} are ignored; the product is of {scene}")
    return [image for image in images if image.scene == scene]


def _best_image(
    path: Path, images: Sequence[Image], band: str, native: int, notes: list[str]
) -> Image:
    """The file of a band at its native resolution, else the finest one, with a note."""
    files = [image for image in images if image.band == band]
    exact = [image for image in files if image.metres in (None, native)]
    if not exact:
        finest = min(image.metres for image in files if image.metres is not None)
        notes.append(f"{band} is read at {finest} m, because its file of {native} m is missing")
        exact = [image for image in files if image.metres == finest]
    if len(exact) > 1:
        raise OutcropError(
            path, f"has {band} twice ({listed([i.file for i in exact])}); move one away"
        )
    return exact[0]
