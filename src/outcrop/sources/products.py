"""Products of agencies: Sentinel-2 SAFE and Landsat Collection 2, known by folder or archive name.

Only names and metadata are read here, no pixels. Conventions and their sources:

- Sentinel-2 (ESA, Products Specification Document): reflectance = (stored + offset) /
  quantification value. The offset of a band is in the product metadata since processing baseline
  04.00 (25 January 2022); before, it is 0. Stored 0 is no data. Classes of the scene
  classification (SCL): 0 no data, 1 saturated or defective, 2 dark or topographic shadow, 3 cloud
  shadow, 4 vegetation, 5 not vegetated, 6 water, 7 unclassified, 8 and 9 cloud of medium and high
  probability, 10 thin cirrus, 11 snow or ice.
- Landsat Collection 2 (USGS, Landsat 4-7 and 8-9 Collection 2 Level-2 Science Product Guides):
  reflectance = stored × REFLECTANCE_MULT_BAND_n + REFLECTANCE_ADD_BAND_n. In Level-1 this is
  without the sun's angle; divided by the sine of the sun's elevation it is the reflectance at the
  top of the atmosphere (Landsat 8-9 Data Users Handbook). Stored 0 is no data. Bits of QA_PIXEL:
  0 fill, 1 dilated cloud, 2 cirrus (Landsat 8 and 9; unused before), 3 cloud, 4 cloud shadow,
  5 snow, 6 clear, 7 water.
"""

from __future__ import annotations

import json
import math
import os
import re
import tarfile
import xml.etree.ElementTree as ET
import zipfile
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from outcrop.errors import OutcropError

SCL_NO_DATA = (0, 1, 3, 8, 9, 10)
# The sensor's bands in the order of their band_id, with their native resolution in metres.
SENTINEL_BANDS = {
    "B01": 60,
    "B02": 10,
    "B03": 10,
    "B04": 10,
    "B05": 20,
    "B06": 20,
    "B07": 20,
    "B08": 10,
    "B8A": 20,
    "B09": 60,
    "B10": 60,
    "B11": 20,
    "B12": 20,
}
SCL_METRES = 20
# Baseline 04.00: all that was sensed since then has offsets, in the archive's processing too.
OFFSETS_SINCE = "20220125"
# Landsat Collection 2 Level-2 surface reflectance of all sensors.
SR_SCALE, SR_OFFSET = 2.75e-05, -0.2
# A folder that holds such files is not the wrapping of a product.
_PICTURES = (".tif", ".tiff", ".png", ".jpg", ".jp2", ".npy")
# Real metadata has at most a few megabytes.
METADATA_BYTES = 16 << 20
# A bundle of Landsat has some thirty files; other archives may have millions.
MEMBERS_LOOKED_AT = 100

_SAFE = re.compile(r"S2[A-D]_.+\.SAFE", re.I)
_SAFE_NAME = re.compile(
    r"(?P<satellite>S2[A-D])_MSI(?P<level>L1C|L2A)_(?P<time>\d{8}T\d{6})_N(?P<baseline>\d{4})_R\d{3}"
    r"_T(?P<tile>\d\d[A-Z]{3})_.*",
    re.I,
)
_SAFE_METADATA = re.compile(
    r"MTD_MSI(L1C|L2A)\.xml|S2[A-D]_(OPER|USER)_MTD_SAF(L1C|L2A)_.+\.xml", re.I
)
_SENTINEL_FILE = re.compile(
    r"(?:L2A_)?(?P<scene>T\d\d[A-Z]{3}_\d{8}T\d{6}|S2[A-D]_(?:OPER|USER)_MSI_L(?:1C|2A)_TL_.+)"
    r"_(?P<band>B\d\d|B8A|SCL)(?:_(?P<metres>10|20|60)m)?\.jp2",
    re.I,
)
# Before 2017 the scene classification had a name of its own kind.
_OLD_SCL = re.compile(r"(S2[A-D]_USER)_SCL_(L2A_TL_.+)_(20|60)m\.jp2", re.I)
_MTL = re.compile(r"(?P<id>.+)_MTL\.(?P<kind>txt|json|xml)", re.I)
_LANDSAT = re.compile(
    r"L(?P<sensor>[COTEM])(?P<number>0\d)_L(?P<level>[12][A-Z]{2})_\d{6}_(?P<date>\d{8})_\d{8}_02_"
    r"(?:RT|T1|T2)",
    re.I,
)
_LANDSAT_FILE = re.compile(
    rf"(?P<id>{_LANDSAT.pattern})_(?P<band>(?:SR_|ST_)?B\d+|QA_PIXEL)\.TIF", re.I
)
_LANDSAT_SENSORS = {"C": "OLI_TIRS", "O": "OLI", "E": "ETM", "T": "TM"}


@dataclass(frozen=True)
class ProductBand:
    """One band of a product.

    Attributes:
        file: a name that GDAL opens; the band is the first one of the file.
        name: `B02`, `B8A`, `SR_B4`, `ST_B10`, `B4`.
        scale, offset: physical value = stored × scale + offset.
        nodata: the stored value that means no data.
        unit: `reflectance` or `kelvin`.
    """

    file: str
    name: str
    scale: float
    offset: float
    nodata: float | None
    unit: str


@dataclass(frozen=True)
class QualityMask:
    """The quality file of a product, and what in it means no data.

    Attributes:
        file: a name that GDAL opens.
        name: `SCL` or `QA_PIXEL`.
        values: pixel values that are no data by default.
        bits: numbers of bits, from 0, each of which makes a pixel no data by default.
    """

    file: str
    name: str
    values: tuple[int, ...]
    bits: tuple[int, ...]


@dataclass(frozen=True)
class Product:
    """What is known of a product without reading its pixels.

    Attributes:
        path: the name it was opened by.
        title: the agency's name of the product.
        sensor: e.g. `Sentinel-2A MSI`, `Landsat 8 OLI_TIRS`.
        level: `L1C`, `L2A`, `L2SP`, `L1TP`, ...
        acquired: day of acquisition, as `2022-04-14`.
        bands: in the order of the sensor, or as they were asked for.
        mask: None if the product has none that is understood.
        assumed: sentences for the user: what was assumed, what was left out.
    """

    path: Path
    title: str
    sensor: str
    level: str
    acquired: str
    bands: tuple[ProductBand, ...]
    mask: QualityMask | None
    assumed: tuple[str, ...]


def is_product(path: str | Path) -> bool:
    """Whether a name is that of a Sentinel-2 or Landsat product: folder, archive or metadata file.

    Judged by names alone, so that a damaged product is still one. What is not there is none.
    """
    path = Path(path)
    try:
        return bool(_places(path))
    except OutcropError:
        return bool(_SAFE.fullmatch(path.stem + ".SAFE") or _LANDSAT.match(path.name))


def open_product(path: str | Path, bands: Sequence[str] | None = None) -> Product:
    """Read names and metadata of a product.

    Args:
        path: Sentinel-2 Level-1C or Level-2A: the `.SAFE` folder, a zip file that holds it, its
            product metadata (`MTD_MSIL2A.xml`), or a folder in `GRANULE`. Without metadata also
            `IMG_DATA`. Landsat Collection 2, Level-1 or Level-2: the folder or tar file with the
            bands and `*_MTL.txt`, or the MTL file itself (txt, xml, json). A folder or archive
            that holds nothing but one of these is also taken.
        bands: names of bands, in this order; others may then be missing. All spectral bands by
            default, without the panchromatic one and temperatures, which can be named here.

    Raises:
        OutcropError: no product, or several; files that are missing or belong to another product;
            damaged metadata; a band that the product does not have.
    """
    path = Path(path)
    places = _places(path)
    if not places:
        raise OutcropError(
            path,
            "is no Sentinel-2 or Landsat Collection 2 product; name a .SAFE folder, a folder with "
            "an MTL file, or their zip or tar file",
        )
    if len(places) > 1:
        raise OutcropError(
            path,
            f"holds {len(places)} products ({_listed([place.name for place in places])}); "
            "name one of them" + (" after unpacking" if path.is_file() else ""),
        )
    return (
        _open_sentinel(path, places[0], bands)
        if places[0].sentinel
        else (_open_landsat(path, places[0], bands))
    )


class _Tree(Protocol):
    """Files of a folder or an archive, by names relative to it, with slashes."""

    def entries(self, folder: str) -> tuple[list[str], list[str]]:
        """Names of the folders and of the files in a folder, sorted; none if it is not there."""

    def read(self, name: str) -> bytes:
        """The first `METADATA_BYTES` + 1 of a file."""

    def gdal(self, name: str) -> str:
        """The name by which GDAL opens a file."""


@dataclass(frozen=True)
class _Folder:
    path: Path

    def entries(self, folder: str) -> tuple[list[str], list[str]]:
        folders: list[str] = []
        files: list[str] = []
        try:
            with os.scandir(self.path / folder) as entries:
                for entry in entries:
                    (folders if entry.is_dir() else files).append(entry.name)
        except (FileNotFoundError, NotADirectoryError):
            return [], []
        except OSError as error:
            raise OutcropError(self.path / folder, f"cannot be read ({error.strerror})") from None
        return sorted(folders), sorted(files)

    def read(self, name: str) -> bytes:
        with (self.path / name).open("rb") as file:
            return file.read(METADATA_BYTES + 1)

    def gdal(self, name: str) -> str:
        return str(self.path / name)


@dataclass(frozen=True)
class _Archive:
    path: Path
    members: dict[str, str]
    """Names as `entries` gives them, and as the archive has them."""
    folders: dict[str, tuple[set[str], set[str]]]
    """Names of the folders and of the files in each folder."""

    @property
    def zipped(self) -> bool:
        return self.path.suffix.lower() == ".zip"

    def entries(self, folder: str) -> tuple[list[str], list[str]]:
        folders, files = self.folders.get(folder, (set(), set()))
        return sorted(folders), sorted(files)

    def read(self, name: str) -> bytes:
        member = self.members[name]
        if self.zipped:
            with zipfile.ZipFile(self.path) as archive, archive.open(member) as file:
                return file.read(METADATA_BYTES + 1)
        with tarfile.open(self.path, "r:") as tar:
            extracted = tar.extractfile(member)
            if extracted is None:
                raise KeyError(member)
            return extracted.read(METADATA_BYTES + 1)

    def gdal(self, name: str) -> str:
        # Braces: GDAL then does not look for the end of the archive's name itself.
        return f"/vsi{'zip' if self.zipped else 'tar'}/{{{self.path}}}/{name}"


@dataclass(frozen=True)
class _Place:
    """Where a product lies: its folder in a tree, and the metadata files found there."""

    tree: _Tree
    folder: str
    title: str
    sentinel: bool
    metadata: tuple[str, ...] = ()
    granule: str | None = None

    @property
    def name(self) -> str:
        """What tells it from others in the same tree."""
        return _join(self.folder, self.metadata[0]) if self.metadata else self.folder or self.title


def _places(path: Path) -> list[_Place]:
    """Where the products of a name lie; none if it is something else."""
    full = Path(os.path.abspath(path))  # noqa: PTH100 - resolve() would follow links
    if full.is_dir():
        above = full.parent if full.name == "IMG_DATA" else full
        if above.parent.name == "GRANULE" and _Folder(above).entries("IMG_DATA") != ([], []):
            tree = _Folder(_as_given(path, full, above.parents[1]))
            return [_safe(tree, "", above.parents[1].name, granule=above.name)]
        return _search(_Folder(path), "", full.name)
    if not full.is_file():
        return []
    if _SAFE_METADATA.fullmatch(path.name):
        return [_Place(_Folder(path.parent), "", full.parent.name, True, metadata=(path.name,))]
    if match := _MTL.fullmatch(path.name):
        return [_Place(_Folder(path.parent), "", match["id"], False, metadata=(path.name,))]
    if path.suffix.lower() in (".zip", ".tar"):
        return _search(_archive(path), "", path.stem.removesuffix(".SAFE"))
    if _LANDSAT.match(path.name) and path.name.lower().endswith((".tar.gz", ".tgz")):
        raise OutcropError(path, "is a compressed tar file, slow to read; unpack it first (gunzip)")
    return []


def _as_given(path: Path, full: Path, folder: Path) -> Path:
    """A folder above `full`, relative if the path to `full` was."""
    return folder if path.is_absolute() else Path(os.path.relpath(folder))


def _archive(path: Path) -> _Archive:
    """List an archive. A large tar file that does not start with a product is given up early."""
    names: list[str] = []
    try:
        if path.suffix.lower() == ".zip":
            with zipfile.ZipFile(path) as archive:
                names = [info.filename for info in archive.infolist() if not info.is_dir()]
        else:
            with tarfile.open(path, "r:") as tar:
                for member in tar:
                    if len(names) == MEMBERS_LOOKED_AT and not any(map(_named_so, names)):
                        break
                    if member.isfile():
                        names.append(member.name)
    except (OSError, zipfile.BadZipFile, tarfile.TarError, ValueError, EOFError):
        raise OutcropError(path, "is a damaged archive; fetch it again") from None
    members = {name.removeprefix("./"): name for name in names}
    folders: dict[str, tuple[set[str], set[str]]] = {}
    for name in members:
        above, _, inner = name.rpartition("/")
        folders.setdefault(above, (set(), set()))[1].add(inner)
        while above:
            above, _, inner = above.rpartition("/")
            folders.setdefault(above, (set(), set()))[0].add(inner)
    return _Archive(path, members, folders)


def _named_so(name: str) -> bool:
    """Whether a name within an archive is that of a product."""
    parts = name.split("/")
    return bool(
        any(_SAFE.fullmatch(part) or _LANDSAT.match(part) for part in parts)
        or _MTL.fullmatch(parts[-1])
        or _SAFE_METADATA.fullmatch(parts[-1])
    )


def _search(tree: _Tree, folder: str, title: str, depth: int = 2) -> list[_Place]:
    """Products in a folder of a tree, or in the folders within it whose names say so."""
    folders, files = tree.entries(folder)
    metadata = tuple(name for name in files if _SAFE_METADATA.fullmatch(name))
    if metadata or "GRANULE" in folders or _SAFE.fullmatch(title):
        places = [_safe(tree, folder, title)]
    elif _images(tree, folder):
        places = [_safe(tree, folder, title, granule="")]
    else:
        places = []
    ids: dict[str, list[str]] = {}
    for name in files:
        if match := _MTL.fullmatch(name):
            ids.setdefault(match["id"].upper(), []).append(name)
    if not ids:
        ids = {m["id"].upper(): [] for name in files if (m := _LANDSAT_FILE.fullmatch(name))}
    places += [_Place(tree, folder, name, False, tuple(found)) for name, found in ids.items()]
    if places or depth == 0 or any(name.lower().endswith(_PICTURES) for name in files):
        return places
    inner = [n for n in folders if not n.startswith(".") and n != "__MACOSX"]
    named = [n for n in inner if _SAFE.fullmatch(n) or _LANDSAT.match(n)]
    for name in named or (inner if len(inner) == 1 else []):
        places += _search(tree, _join(folder, name), name, depth - 1)
    return places


def _safe(tree: _Tree, folder: str, title: str, granule: str | None = None) -> _Place:
    metadata = tuple(n for n in tree.entries(folder)[1] if _SAFE_METADATA.fullmatch(n))
    return _Place(tree, folder, title, True, metadata, granule)


def _join(*parts: str) -> str:
    return "/".join(part for part in parts if part)


# Sentinel-2


@dataclass(frozen=True)
class _Image:
    """A file of one band. `scene` is what all files of a granule have in common."""

    file: str
    scene: str
    band: str
    metres: int | None


@dataclass(frozen=True)
class _Radiometry:
    """What is known of a Sentinel-2 product before its bands are looked for."""

    title: str
    level: str
    satellite: str
    date: str
    quantification: float
    offsets: dict[str, float]
    nodata: float
    scene: str | None
    """What the names of its files start with."""


def _images(tree: _Tree, folder: str) -> list[_Image]:
    """Band files in a folder, in its folders R10m, R20m, R60m, and in those of its IMG_DATA."""
    found = []
    for inner in ("", "R10m", "R20m", "R60m"):
        for outer in ("", "IMG_DATA"):
            for name in tree.entries(_join(folder, outer, inner))[1]:
                old = _OLD_SCL.fullmatch(name)
                match = _SENTINEL_FILE.fullmatch(
                    f"{old[1]}_MSI_{old[2]}_SCL_{old[3]}m.jp2" if old else name
                )
                if match:
                    metres = match["metres"] or inner.strip("Rm")
                    found.append(
                        _Image(
                            _join(folder, outer, inner, name),
                            match["scene"].upper(),
                            match["band"].upper(),
                            int(metres) if metres else None,
                        )
                    )
    return found


def _open_sentinel(path: Path, place: _Place, bands: Sequence[str] | None) -> Product:
    granule = _granule(path, place)
    images = _images(place.tree, granule)
    if not images:
        raise OutcropError(path, f"has no band files in {granule or 'it'}; fetch the product again")
    notes: list[str] = []
    if place.metadata:
        known = _from_metadata(path, place)
    else:
        known = _from_names(path, place, granule.rpartition("/")[2], images, notes)
    images = _of_one_scene(path, images, known.scene or _old_scene(granule), notes)
    wanted = tuple(n for n in SENTINEL_BANDS if not (n == "B10" and known.level == "L2A"))
    chosen = wanted if bands is None else _named(path, bands, wanted)
    missing = [name for name in chosen if not any(image.band == name for image in images)]
    if missing:
        raise OutcropError(path, _missing(missing, sorted({i.band for i in images} - {"SCL"})))
    found = tuple(
        ProductBand(
            file=place.tree.gdal(_finest(path, images, name, SENTINEL_BANDS[name], notes).file),
            name=name,
            scale=1 / known.quantification,
            offset=known.offsets[name] / known.quantification,
            nodata=known.nodata,
            unit="reflectance",
        )
        for name in chosen
    )
    mask = None
    if any(image.band == "SCL" for image in images):
        file = _finest(path, images, "SCL", SCL_METRES, []).file
        mask = QualityMask(place.tree.gdal(file), "SCL", SCL_NO_DATA, ())
    else:
        notes.append(f"{known.level} has no scene classification here: clouds are not masked")
    return Product(
        path=path,
        title=known.title,
        sensor=f"{known.satellite} MSI",
        level=known.level,
        acquired=known.date,
        bands=found,
        mask=mask,
        assumed=tuple(notes),
    )


def _granule(path: Path, place: _Place) -> str:
    """The folder of the one granule."""
    if place.granule == "":
        return place.folder
    above = _join(place.folder, "GRANULE")
    if place.granule is not None:
        return _join(above, place.granule)
    granules = [name for name in place.tree.entries(above)[0] if not name.startswith(".")]
    if not granules and _images(place.tree, place.folder):
        return place.folder
    if not granules:
        raise OutcropError(path, "has no folder GRANULE with images; fetch the product again")
    if len(granules) > 1:
        raise OutcropError(
            path,
            f"holds {len(granules)} granules; "
            + ("unpack it and " if isinstance(place.tree, _Archive) else "")
            + f"name the folder of one, {above}/ followed by {_listed(granules)}",
        )
    return _join(above, granules[0])


def _from_metadata(path: Path, place: _Place) -> _Radiometry:
    """What the product metadata says."""
    names = place.metadata
    in_name = _SAFE_NAME.match(place.title)
    if len(names) > 1 and in_name:
        names = tuple(name for name in names if in_name["level"].upper() in name.upper())
    if len(names) != 1:
        raise OutcropError(
            path, f"has several product metadata files ({_listed(place.metadata)}); name one"
        )
    name = _join(place.folder, names[0])
    where = place.tree.gdal(name)
    root = _xml(where, _metadata(where, place.tree, name))
    kind = re.fullmatch(r"Level-(1C|2A)_User_Product", _local(root))
    if not kind:
        raise OutcropError(
            where, f"is metadata of {_local(root)}; name a Level-1C or Level-2A product"
        )
    level = f"L{kind[1]}"
    elements: dict[str, list[ET.Element]] = {}
    for element in root.iter():
        elements.setdefault(_local(element).removeprefix("L2A_"), []).append(element)

    def text(*tags: str) -> str:
        for tag in tags:
            for element in elements.get(tag, []):
                if element.text and element.text.strip():
                    return element.text.strip()
        raise OutcropError(where, f"has no {tags[0]}; fetch it again")

    uri = text("PRODUCT_URI", "PRODUCT_URI_2A").removesuffix("/")
    title = uri.rpartition("/")[2].removesuffix(".SAFE")
    satellite = text("SPACECRAFT_NAME")
    start = text("PRODUCT_START_TIME")
    baseline = text("PROCESSING_BASELINE")
    if not re.fullmatch(r"\d{4}-\d\d-\d\dT.+", start) or not re.fullmatch(r"\d\d\.\d\d", baseline):
        raise OutcropError(
            where, f"is damaged (start {start}, baseline {baseline}); fetch it again"
        )
    quantification = _number(
        where, text("BOA_QUANTIFICATION_VALUE" if level == "L2A" else "QUANTIFICATION_VALUE")
    )
    if quantification <= 0:
        raise OutcropError(where, f"has quantification value {quantification:g}; fetch it again")
    tag = "BOA_ADD_OFFSET" if level == "L2A" else "RADIO_ADD_OFFSET"
    offsets = _offsets(where, elements.get(tag, []), tag, float(baseline))
    special = {
        _child(element, "SPECIAL_VALUE_TEXT"): _child(element, "SPECIAL_VALUE_INDEX")
        for element in elements.get("Special_Values", [])
    }
    of_files = _SAFE_NAME.match(title)
    if in_name and of_files and _scene(in_name) != _scene(of_files):
        raise OutcropError(
            where, f"is metadata of {title}, not of {place.title}; put the product's own there"
        )
    return _Radiometry(
        title=title,
        level=level,
        satellite=satellite,
        date=start[:10],
        quantification=quantification,
        offsets=offsets,
        nodata=_number(where, special.get("NODATA", "0")),
        scene=_scene(of_files or in_name),
    )


def _offsets(
    where: str, elements: Sequence[ET.Element], tag: str, baseline: float
) -> dict[str, float]:
    """The offset of each band, in stored units."""
    if not elements:
        # 99.99 is Sen2Cor run by users, which writes the offsets wherever there are any.
        if 4 <= baseline < 99:
            raise OutcropError(
                where, f"is of baseline {baseline:05.2f} and has no {tag}; fetch it again"
            )
        return dict.fromkeys(SENTINEL_BANDS, 0.0)
    values = {element.get("band_id"): _number(where, element.text) for element in elements}
    missing = [str(i) for i in range(len(SENTINEL_BANDS)) if str(i) not in values]
    # Level-2A has no band 10.
    if missing not in ([], ["10"] if tag == "BOA_ADD_OFFSET" else []) or len(values) != len(
        elements
    ):
        raise OutcropError(
            where, f"must have {tag} once for each band_id of 0 to 12; fetch it again"
        )
    return {name: values.get(str(i), 0.0) for i, name in enumerate(SENTINEL_BANDS)}


def _from_names(
    path: Path, place: _Place, granule: str, images: Sequence[_Image], notes: list[str]
) -> _Radiometry:
    """What the names say if there is no product metadata, noting what is assumed.

    Args:
        granule: the name of its folder.
    """
    match = _SAFE_NAME.match(place.title)
    first = images[0].scene
    names = [place.title.upper(), granule.upper(), first + "_"]
    named = [m[1] for name in names if (m := re.search(r"(?:^|_)(?:MSI)?(L1C|L2A)_", name))]
    if named:
        level, why = named[0], ""
    else:
        level = "L2A" if any(image.metres for image in images) else "L1C"
        why = f" (taken as {level}: file names have {'' if level == 'L2A' else 'no '}metres)"
    # Old names of files and granules have the day of processing instead.
    dates = [m[1] for n in names if (m := re.search(r"(?:MSIL.._|_V|^T.{5}_)(\d{8})T\d{6}_", n))]
    if not dates:
        raise OutcropError(path, f"has no date in its names; put MTD_MSI{level}.xml there")
    date = dates[0]
    of_old = re.search(r"_N(\d\d)\.(\d\d)$", granule)
    baseline = match["baseline"] if match else of_old[1] + of_old[2] if of_old else None
    if baseline and int(baseline) >= 9900:
        raise OutcropError(
            path,
            f"was processed by a user (N{baseline}), so its name does not give the offset; "
            f"put MTD_MSI{level}.xml there",
        )
    if baseline:
        offset = -1000.0 if int(baseline) >= 400 else 0.0
        reason = f"baseline {baseline[:2]}.{baseline[2:]} in its name"
    elif date >= OFFSETS_SINCE:
        offset, reason = -1000.0, "its date (baseline 04.00 or later)"
    else:
        offset = 0.0
        reason = (
            "its date (before baseline 04.00; if it was processed again since, reflectances are "
            "0.1 too high: put its metadata there)"
        )
    notes.append(
        f"no MTD_MSI{level}.xml{why}: reflectance = {'(stored - 1000)' if offset else 'stored'} / "
        f"10000 and 0 is no data, from {reason}"
    )
    satellite = next((n[2] for n in names if re.match(r"S2[A-D]_", n)), "")
    return _Radiometry(
        title=(place.title if match else first).removesuffix(".SAFE"),
        level=level,
        satellite=f"Sentinel-2{satellite}",
        date=f"{date[:4]}-{date[4:6]}-{date[6:]}",
        quantification=10000.0,
        offsets=dict.fromkeys(SENTINEL_BANDS, offset),
        nodata=0.0,
        scene=_scene(match),
    )


def _scene(match: re.Match[str] | None) -> str | None:
    """What file names start with, from the name of a product."""
    return f"T{match['tile']}_{match['time']}".upper() if match else None


def _old_scene(granule: str) -> str | None:
    """What file names start with, from the name of a granule of before 2017."""
    match = re.fullmatch(r"(S2._.+)_N\d\d\.\d\d", granule.rpartition("/")[2].upper())
    return match[1] if match else None


def _of_one_scene(
    path: Path, images: list[_Image], scene: str | None, notes: list[str]
) -> list[_Image]:
    """The images whose names start with `scene`; all of them if they start alike."""
    scenes = sorted({image.scene for image in images})
    if scene is None:
        if len(scenes) > 1:
            raise OutcropError(
                path,
                f"holds files of several scenes ({_listed(scenes)}) and nothing says which is "
                "meant; move the others away",
            )
        return images
    if scene not in scenes:
        raise OutcropError(
            path, f"holds files of {_listed(scenes)}, not of {scene}; fetch the product again"
        )
    others = [name for name in scenes if name != scene]
    if others:
        notes.append(f"files of {_listed(others)} are left out; the product is of {scene}")
    return [image for image in images if image.scene == scene]


def _finest(
    path: Path, images: Sequence[_Image], band: str, native: int, notes: list[str]
) -> _Image:
    """The file of a band at the sensor's own resolution, else the finest, which is noted."""
    files = [image for image in images if image.band == band]
    exact = [image for image in files if image.metres in (None, native)]
    if not exact:
        finest = min(image.metres for image in files if image.metres is not None)
        notes.append(f"{band} is taken at {finest} m; its file of {native} m is not there")
        exact = [image for image in files if image.metres == finest]
    if len(exact) > 1:
        raise OutcropError(
            path, f"has {band} twice ({_listed([i.file for i in exact])}); move one away"
        )
    return exact[0]


# Landsat


def _open_landsat(path: Path, place: _Place, bands: Sequence[str] | None) -> Product:
    files = {name.upper(): name for name in place.tree.entries(place.folder)[1]}
    if not place.metadata:
        return _landsat_without_metadata(path, place, files, bands)
    # All three say the same.
    name = min(place.metadata, key=lambda n: ("txt", "json", "xml").index(_kind(n)))
    where = place.tree.gdal(_join(place.folder, name))
    data = _metadata(where, place.tree, _join(place.folder, name))
    groups = {"txt": _odl, "json": _json, "xml": _landsat_xml}[_kind(name)](where, data)

    def value(group: str, key: str) -> str:
        try:
            return groups[group][key]
        except KeyError:
            raise OutcropError(where, f"has no {key} in {group}; fetch it again") from None

    if value("PRODUCT_CONTENTS", "COLLECTION_NUMBER").lstrip("0") != "2":
        raise OutcropError(where, "is not of Landsat Collection 2; fetch that, or name band files")
    title = value("PRODUCT_CONTENTS", "LANDSAT_PRODUCT_ID")
    level = value("PRODUCT_CONTENTS", "PROCESSING_LEVEL")
    number = value("IMAGE_ATTRIBUTES", "SPACECRAFT_ID").rpartition("_")[2]
    sensor = value("IMAGE_ATTRIBUTES", "SENSOR_ID")
    acquired = value("IMAGE_ATTRIBUTES", "DATE_ACQUIRED")
    if not re.fullmatch(r"\d{4}-\d\d-\d\d", acquired) or not re.fullmatch(r"L[12]..?", level):
        raise OutcropError(where, f"is damaged (level {level}, date {acquired}); fetch it again")
    notes: list[str] = []
    surface, sine = level.startswith("L2"), 1.0
    if not surface:
        sun = _number(where, value("IMAGE_ATTRIBUTES", "SUN_ELEVATION"))
        if not 0 < sun <= 90:
            raise OutcropError(
                where, f"was taken with the sun at {sun:g}° and has no reflectances; take another"
            )
        sine = math.sin(math.radians(sun))
        notes.append(
            f"reflectance at the top of the atmosphere, divided by the sine of the sun's "
            f"elevation ({sun:.2f}° at the middle of the scene)"
        )
    group = "LEVEL2_SURFACE_REFLECTANCE_PARAMETERS" if surface else "LEVEL1_RADIOMETRIC_RESCALING"
    every: dict[str, tuple[str, float, float, str]] = {}
    thermal = groups.get("LEVEL1_THERMAL_CONSTANTS", {})
    for key, file in groups["PRODUCT_CONTENTS"].items():
        if match := re.fullmatch(r"FILE_NAME_BAND_(\d+)", key):
            if not surface and f"K1_CONSTANT_BAND_{match[1]}" in thermal:
                continue  # its radiance is not linear in kelvin
            scale = _number(where, value(group, f"REFLECTANCE_MULT_BAND_{match[1]}")) / sine
            offset = _number(where, value(group, f"REFLECTANCE_ADD_BAND_{match[1]}")) / sine
            every[f"SR_B{match[1]}" if surface else f"B{match[1]}"] = (
                file,
                scale,
                offset,
                "reflectance",
            )
        elif match := re.fullmatch(r"FILE_NAME_BAND_(ST_B\d+)", key):
            kelvin = "LEVEL2_SURFACE_TEMPERATURE_PARAMETERS"
            scale = _number(where, value(kelvin, f"TEMPERATURE_MULT_BAND_{match[1]}"))
            offset = _number(where, value(kelvin, f"TEMPERATURE_ADD_BAND_{match[1]}"))
            every[match[1]] = file, scale, offset, "kelvin"
    every = dict(
        sorted(every.items(), key=lambda b: (b[1][3] == "kelvin", int(b[0].rpartition("B")[2])))
    )
    reflective = [name for name, (*_, unit) in every.items() if unit == "reflectance"]
    scaled = [key for key in groups.get(group, {}) if key.startswith("REFLECTANCE_MULT_BAND_")]
    if not reflective or len(reflective) != len(scaled):
        raise OutcropError(
            where,
            f"names files of {len(reflective)} bands of reflectance and scales of {len(scaled)}; "
            "fetch it again",
        )
    # The panchromatic band of 15 m would make all others four times as large.
    default = [n for n in reflective if not (n == "B8" and number in ("7", "8", "9"))]
    left = [name for name in every if name not in default]
    if bands is None and left:
        notes.append(
            f"{', '.join(left)} ({'temperature' if surface else 'panchromatic, 15 m'}) is left "
            f"out; to use it, name it in --bands"
        )
    of_others = {m["id"].upper() for n in files if (m := _LANDSAT_FILE.fullmatch(n))} - {
        title.upper()
    }
    if of_others:
        notes.append(f"files of {_listed(sorted(of_others))} are left out; the product is {title}")
    chosen = tuple(default) if bands is None else _named(path, bands, tuple(every))
    missing = [name for name in chosen if every[name][0].upper() not in files]
    if missing:
        raise OutcropError(path, _landsat_missing(missing, every, files))
    mask = None
    quality = value("PRODUCT_CONTENTS", "FILE_NAME_QUALITY_L1_PIXEL")
    if quality.upper() in files:
        mask = _qa_pixel(place, files[quality.upper()], number)
    else:
        notes.append(f"{quality} is not there: clouds are not masked")
    return Product(
        path=path,
        title=title,
        sensor=f"Landsat {number} {sensor}",
        level=level,
        acquired=acquired,
        bands=tuple(
            ProductBand(
                place.tree.gdal(_join(place.folder, files[file.upper()])),
                name,
                scale,
                offset,
                0.0,
                unit,
            )
            for name, (file, scale, offset, unit) in ((n, every[n]) for n in chosen)
        ),
        mask=mask,
        assumed=tuple(notes),
    )


def _landsat_without_metadata(
    path: Path, place: _Place, files: dict[str, str], bands: Sequence[str] | None
) -> Product:
    """A Level-2 product without MTL: its scale and offset are the same for all."""
    match = _LANDSAT.fullmatch(place.title)
    assert match  # that is how the place was found
    letter, number = match["sensor"].upper(), match["number"].lstrip("0")
    if not match["level"].startswith("2"):
        raise OutcropError(path, "has no MTL file, which Level-1 needs for its scale; fetch it")
    numbers = range(1, 8) if number in ("8", "9") else (1, 2, 3, 4, 5, 7)
    wanted = tuple(f"SR_B{i}" for i in numbers)
    chosen = wanted if bands is None else _named(path, bands, wanted)
    names = {band: f"{place.title}_{band}.TIF" for band in wanted}
    missing = [band for band in chosen if names[band] not in files]
    if missing:
        raise OutcropError(path, _missing(missing, [b for b in wanted if names[b] in files]))
    notes = [
        f"no MTL file: reflectance = stored × {SR_SCALE:g} - {-SR_OFFSET:g} and 0 is no data, as "
        "in all of Landsat Collection 2 Level-2"
    ]
    quality = f"{place.title}_QA_PIXEL.TIF"
    mask = _qa_pixel(place, files[quality], number) if quality in files else None
    if mask is None:
        notes.append(f"{quality} is not there: clouds are not masked")
    date = match["date"]
    return Product(
        path=path,
        title=place.title,
        sensor=f"Landsat {number} {_LANDSAT_SENSORS.get(letter, 'MSS')}",
        level=f"L{match['level'].upper()}",
        acquired=f"{date[:4]}-{date[4:6]}-{date[6:]}",
        bands=tuple(
            ProductBand(
                place.tree.gdal(_join(place.folder, files[names[band]])),
                band,
                SR_SCALE,
                SR_OFFSET,
                0.0,
                "reflectance",
            )
            for band in chosen
        ),
        mask=mask,
        assumed=tuple(notes),
    )


def _qa_pixel(place: _Place, file: str, number: str) -> QualityMask:
    bits = (0, 1, 2, 3, 4) if number in ("8", "9") else (0, 1, 3, 4)
    return QualityMask(place.tree.gdal(_join(place.folder, file)), "QA_PIXEL", (), bits)


def _landsat_missing(
    missing: Sequence[str], every: dict[str, tuple[str, float, float, str]], files: dict[str, str]
) -> str:
    """What to say of bands whose files are not there, perhaps because others' are."""
    ending = "_" + missing[0].upper() + ".TIF"
    others = [name for upper, name in files.items() if upper.endswith(ending)]
    if others:
        return (
            f"has {_listed(others)} where its metadata names {every[missing[0]][0]}; "
            "keep the files and the metadata of one product in a folder"
        )
    return _missing(missing, [name for name, (file, *_) in every.items() if file.upper() in files])


def _kind(name: str) -> str:
    return name.rpartition(".")[2].lower()


Groups = dict[str, dict[str, str]]


def _odl(where: str, data: bytes) -> Groups:
    """The groups of an MTL text file."""
    lines = [line.strip() for line in _text(where, data).splitlines()]
    groups: Groups = {}
    current: list[str] = []
    for line in lines:
        key, _, value = (part.strip() for part in line.partition("="))
        if key == "GROUP":
            current.append(value)
        elif key == "END_GROUP":
            if not current or current.pop() != value:
                raise OutcropError(where, f"is damaged (group {value}); fetch it again")
        elif value and current:
            groups.setdefault(current[-1], {})[key] = value.strip('"')
    if current or "END" not in lines:
        raise OutcropError(where, "is cut short; fetch it again")
    return _checked(where, groups)


def _json(where: str, data: bytes) -> Groups:
    """The groups of an MTL JSON file."""
    try:
        tree: Any = json.loads(_text(where, data))
        groups = {
            name: {key: str(value) for key, value in group.items()}
            for name, group in tree["LANDSAT_METADATA_FILE"].items()
        }
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise OutcropError(
            where, "is damaged, or is no metadata of Landsat; fetch it again"
        ) from None
    return _checked(where, groups)


def _landsat_xml(where: str, data: bytes) -> Groups:
    """The groups of an MTL XML file."""
    groups = {
        _local(group): {_local(item): (item.text or "").strip() for item in group}
        for group in _xml(where, data)
    }
    return _checked(where, groups)


def _checked(where: str, groups: Groups) -> Groups:
    if "PRODUCT_CONTENTS" not in groups:
        raise OutcropError(
            where, "is not metadata of Landsat Collection 2; fetch that, or name band files"
        )
    return groups


# Both


def _named(path: Path, bands: Sequence[str], every: Iterable[str]) -> tuple[str, ...]:
    """The bands that were asked for, by their full names."""
    names = {name.upper(): name for name in every}
    for band in bands:
        if band.upper() not in names:
            raise OutcropError(path, f"has no band {band}; it has {', '.join(names.values())}")
    return tuple(names[band.upper()] for band in bands)


def _missing(missing: Sequence[str], there: Sequence[str]) -> str:
    return f"has no file of {', '.join(missing)}; fetch it, or " + (
        f"choose from those that are there: --bands {','.join(there)}"
        if there
        else "the product again"
    )


def _listed(names: Sequence[str]) -> str:
    """Names for a message, the first three of many."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _metadata(where: str, tree: _Tree, name: str) -> bytes:
    """The bytes of a metadata file."""
    try:
        data = tree.read(name)
    except (
        OSError,
        KeyError,
        EOFError,
        RuntimeError,
        NotImplementedError,
        zipfile.BadZipFile,
        tarfile.TarError,
        zlib.error,
    ):
        raise OutcropError(where, "cannot be read; fetch it again") from None
    if len(data) > METADATA_BYTES:
        raise OutcropError(where, f"has more than {METADATA_BYTES >> 20} MiB; fetch it again")
    return data


def _text(where: str, data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise OutcropError(where, "is damaged (not UTF-8 text); fetch it again") from None


def _xml(where: str, data: bytes) -> ET.Element:
    """The root of an XML file without a document type, since only that can declare entities."""
    text = _text(where, data)
    if "<!DOCTYPE" in text:
        raise OutcropError(where, "has a document type, which metadata has not; fetch it again")
    try:
        return ET.fromstring(text)
    except (ET.ParseError, ValueError, RecursionError):
        raise OutcropError(where, "is damaged XML; fetch it again") from None


def _local(element: ET.Element) -> str:
    """The tag without its namespace."""
    return element.tag.rpartition("}")[2]


def _child(element: ET.Element, tag: str) -> str:
    return next(((c.text or "").strip() for c in element if _local(c) == tag), "")


def _number(where: str, text: str | None) -> float:
    try:
        number = float(text or "")
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise OutcropError(where, f"is damaged ('{text}' is not a number); fetch it again")
    return number
