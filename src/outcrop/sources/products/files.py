"""Find products by the names of files and folders, on disk or in archives, and read metadata."""

from __future__ import annotations

import math
import os
import re
import struct
import tarfile
import xml.etree.ElementTree as ET
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TypeAlias

from outcrop.errors import OutcropError
from outcrop.sources.collections.collection import check_tar_end

# Metadata files have at most a few megabytes.
METADATA_BYTES = 16 << 20
# A Landsat archive has about thirty files; other archives may have millions.
MEMBERS_CHECKED = 100
# Errors of damaged or encrypted archives. Features that zipfile lacks raise a `RuntimeError`, names
# that are not text a `ValueError`.
UNREADABLE = (
    OSError,
    EOFError,
    KeyError,
    OverflowError,
    RuntimeError,
    ValueError,
    struct.error,
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
)
SAFE = re.compile(r"S2[A-D]_.+\.SAFE", re.I)
SAFE_NAME = re.compile(
    r"(?P<satellite>S2[A-D])_MSI(?P<level>L1C|L2A)_(?P<time>\d{8}T\d{6})_N(?P<baseline>\d{4})_R\d{3}"
    r"_T(?P<tile>\d\d[A-Z]{3})_.*",
    re.I,
)
SAFE_METADATA = re.compile(
    r"MTD_MSI(L1C|L2A)\.xml|S2[A-D]_(OPER|USER)_MTD_SAF(L1C|L2A)_.+\.xml", re.I
)
MTL = re.compile(r"(?P<id>.+)_MTL\.(?:txt|json|xml)", re.I)
LANDSAT = re.compile(
    r"L(?P<sensor>[COTEM])(?P<number>0\d)_L(?P<level>[12][A-Z]{2})_\d{6}_(?P<date>\d{8})_\d{8}_02_"
    r"(?:RT|T1|T2)",
    re.I,
)
LANDSAT_FILE = re.compile(rf"(?P<id>{LANDSAT.pattern})_((SR_|ST_)?B\d+|QA_PIXEL)\.TIF", re.I)
_SENTINEL_FILE = re.compile(
    r"(?:L2A_)?(?P<scene>T\d\d[A-Z]{3}_\d{8}T\d{6}|S2[A-D]_(?:OPER|USER)_MSI_L(?:1C|2A)_TL_.+)"
    r"_(?P<band>B\d\d|B8A|SCL)(?:_(?P<metres>10|20|60)m)?\.jp2",
    re.I,
)
# Before 2017 the scene classification had a different name.
_OLD_SCL = re.compile(r"(S2[A-D]_USER)_SCL_(L2A_TL_.+)_(20|60)m\.jp2", re.I)
# A folder with such files is not searched for products in its subfolders.
_IMAGE_SUFFIXES = (".tif", ".tiff", ".png", ".jpg", ".jp2", ".npy")


@dataclass(frozen=True)
class Folder:
    """The files of a folder, by relative names with forward slashes."""

    path: Path

    def entries(self, folder: str) -> tuple[list[str], list[str]]:
        """Sorted names of the folders and of the files in a folder; none if it does not exist."""
        folders: list[str] = []
        files: list[str] = []
        try:
            with os.scandir(self.path / folder) as entries:
                for entry in entries:
                    (folders if entry.is_dir() else files).append(entry.name)
        except (FileNotFoundError, NotADirectoryError):
            return [], []
        except OSError as error:
            raise OutcropError(
                self.path / folder, f"cannot be read ({error.strerror}); check the permissions"
            ) from None
        return sorted(folders), sorted(files)

    def read(self, name: str) -> bytes:
        """The first `METADATA_BYTES` + 1 bytes of a file."""
        with (self.path / name).open("rb") as file:
            return file.read(METADATA_BYTES + 1)

    def gdal(self, name: str) -> str:
        """The name by which GDAL opens a file."""
        return str(self.path / name)


@dataclass(frozen=True)
class Archive:
    """The files of a zip or tar file, read as those of a `Folder`.

    Attributes:
        path: the archive.
        members: names in the archive, by the names that `entries` returns.
        folders: names of the folders and of the files in each folder.
    """

    path: Path
    members: dict[str, str]
    folders: dict[str, tuple[set[str], set[str]]]

    @property
    def zipped(self) -> bool:
        """Whether the archive is a zip file and not a tar file."""
        return self.path.suffix.lower() == ".zip"

    def entries(self, folder: str) -> tuple[list[str], list[str]]:
        """See `Folder`."""
        folders, files = self.folders.get(folder, (set(), set()))
        return sorted(folders), sorted(files)

    def read(self, name: str) -> bytes:
        """See `Folder`."""
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
        """See `Folder`."""
        # The braces tell GDAL where the name of the archive ends.
        return f"/vsi{'zip' if self.zipped else 'tar'}/{{{self.path}}}/{name}"


FileTree: TypeAlias = Folder | Archive


def _tar_names(path: Path, is_product_name: Callable[[str], bool]) -> list[str]:
    """The names of the files in a tar file; only the first ones if none of them is of a product.

    Raises:
        tarfile.TarError: the file is damaged.
    """
    names: list[str] = []
    with tarfile.open(path, "r:") as tar:
        for member in tar:
            if len(names) == MEMBERS_CHECKED and not any(map(is_product_name, names)):
                return names
            if member.isfile():
                names.append(member.name)
        check_tar_end(tar)
    return names


def open_archive(path: Path, is_product_name: Callable[[str], bool]) -> Archive:
    """List the members of an archive.

    Args:
        path: a zip or tar file.
        is_product_name: function that tells whether a member belongs to a product. A tar file that
            does not begin with such members is not listed to its end, because that would read it
            completely.

    Raises:
        OutcropError: the archive is damaged.
    """
    try:
        if path.suffix.lower() == ".zip":
            with zipfile.ZipFile(path) as archive:
                names = [name for name in archive.namelist() if not name.endswith("/")]
        else:
            names = _tar_names(path, is_product_name)
    except UNREADABLE:
        raise OutcropError(path, "is a damaged or encrypted archive; fetch it again") from None
    if not all(map(str.isprintable, names)):
        raise OutcropError(path, "is damaged (it has unprintable names); fetch it again")
    members = {name.removeprefix("./"): name for name in names}
    folders: dict[str, tuple[set[str], set[str]]] = {}
    for name in members:
        above, _, inner = name.rpartition("/")
        folders.setdefault(above, (set(), set()))[1].add(inner)
        while above:
            above, _, inner = above.rpartition("/")
            folders.setdefault(above, (set(), set()))[0].add(inner)
    return Archive(path, members, folders)


def metadata(tree: FileTree, name: str) -> str:
    """The text of a metadata file.

    Raises:
        OutcropError: the file is missing, damaged, or not UTF-8 text.
    """
    where = tree.gdal(name)
    try:
        data = tree.read(name)
    except UNREADABLE:
        raise OutcropError(where, "cannot be read; fetch it again") from None
    if len(data) > METADATA_BYTES:
        raise OutcropError(where, f"is larger than {METADATA_BYTES >> 20} MiB; fetch it again")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise OutcropError(where, "is damaged (not UTF-8 text); fetch it again") from None


def parse_xml(where: str, text: str) -> ET.Element:
    """The root of an XML file. A document type is an error, because it can declare entities."""
    if "<!DOCTYPE" in text:
        raise OutcropError(where, "has a document type, unlike real metadata; fetch it again")
    try:
        return ET.fromstring(text)
    except (ET.ParseError, ValueError, RecursionError):
        raise OutcropError(where, "is damaged XML; fetch it again") from None


def local_name(element: ET.Element) -> str:
    """The tag of an element without its namespace."""
    return element.tag.rpartition("}")[2]


def day(where: str, text: str) -> str:
    """A date such as `2022-04-14` in metadata.

    Raises:
        OutcropError: there is no such day.
    """
    try:
        date.fromisoformat(text)
    except ValueError:
        raise OutcropError(where, f"is damaged (its date is {text}); fetch it again") from None
    return text


def number(where: str, text: str | None) -> float:
    """A finite number in metadata.

    Raises:
        OutcropError: the text is not a finite number.
    """
    try:
        value = float(text or "")
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise OutcropError(where, f"is damaged ({text!r:.40} is not a number); fetch it again")
    return value


@dataclass(frozen=True)
class Place:
    """Where a product is.

    Attributes:
        tree: the folder or archive.
        folder: the folder of the product in the tree.
        title: name of that folder or of the archive, or the common start of the file names.
        sentinel: whether it is Sentinel-2 and not Landsat.
        metadata: names of the product metadata files in `folder`.
        granule: the selected folder in `GRANULE`, or one within it; "" if the images are in
            `folder`.
    """

    tree: FileTree
    folder: str
    title: str
    sentinel: bool
    metadata: tuple[str, ...]
    granule: str | None = None

    @property
    def name(self) -> str:
        """A name that is unique in the tree."""
        return join(self.folder, self.metadata[0]) if self.metadata else self.folder or self.title


@dataclass(frozen=True)
class Image:
    """A file of one Sentinel-2 band.

    Attributes:
        file: name in the tree.
        scene: common start of the names of all files of a granule.
        band: `B02`, `B8A`, `SCL`.
        metres: resolution, if it is in the name.
    """

    file: str
    scene: str
    band: str
    metres: int | None


def find_places(path: Path) -> list[Place]:
    """The products at a path; none if there is something else.

    Raises:
        OutcropError: an archive is damaged, or a folder cannot be read.
    """
    full = Path(os.path.abspath(path))  # noqa: PTH100 - resolve() follows links
    if full.is_dir():
        if inside := _in_granule(path, full):
            return [inside]
        return _search(Folder(path), "", full.name)
    if not full.is_file():
        return []
    if SAFE_METADATA.fullmatch(path.name):
        return [Place(Folder(path.parent), "", full.parent.name, True, (path.name,))]
    if match := MTL.fullmatch(path.name):
        return [Place(Folder(path.parent), "", match["id"], False, (path.name,))]
    if path.suffix.lower() in (".zip", ".tar"):
        return _search(open_archive(path, _is_product_member), "", path.stem.removesuffix(".SAFE"))
    if LANDSAT.match(path.name) and path.name.lower().endswith((".tar.gz", ".tgz")):
        raise OutcropError(
            path, "is a compressed tar file, which is slow to read; run gunzip first"
        )
    return []


def _in_granule(path: Path, full: Path) -> Place | None:
    """The product of a folder `GRANULE`, or of a folder within it that has images."""
    for above in (full, *full.parents[:4]):
        if above.name == "GRANULE":
            safe = above.parent
            tree = Folder(safe if path.is_absolute() else Path(os.path.relpath(safe)))
            granule = full.relative_to(above).as_posix()
            if granule == ".":
                return _sentinel_place(tree, "", safe.name)
            if find_images(tree, join("GRANULE", granule)):
                return _sentinel_place(tree, "", safe.name, granule)
    return None


def named_like_a_product(path: Path) -> bool:
    """Whether the name of an unreadable path is that of a product."""
    return bool(SAFE.fullmatch(path.stem + ".SAFE") or LANDSAT.match(path.name))


def find_images(tree: FileTree, folder: str) -> list[Image]:
    """The band files in a folder, in its R10m, R20m and R60m, and in those of its IMG_DATA."""
    found = []
    for above in (folder, join(folder, "IMG_DATA")):
        for inner in ("", "R10m", "R20m", "R60m"):
            for name in tree.entries(join(above, inner))[1]:
                old = _OLD_SCL.fullmatch(name)
                modern = f"{old[1]}_MSI_{old[2]}_SCL_{old[3]}m.jp2" if old else name
                if match := _SENTINEL_FILE.fullmatch(modern):
                    file = join(above, inner, name)
                    metres = match["metres"] or inner.strip("Rm")
                    scene, band = match["scene"].upper(), match["band"].upper()
                    found.append(Image(file, scene, band, int(metres) if metres else None))
    return found


def join(*parts: str) -> str:
    """Join parts of a name in a tree."""
    return "/".join(part for part in parts if part)


def _search(tree: FileTree, folder: str, title: str, depth: int = 2) -> list[Place]:
    """The products in a folder of a tree, or in subfolders with the names of products."""
    folders, files = tree.entries(folder)
    places = []
    if any(map(SAFE_METADATA.fullmatch, files)) or "GRANULE" in folders or SAFE.fullmatch(title):
        places = [_sentinel_place(tree, folder, title)]
    elif find_images(tree, folder):
        places = [_sentinel_place(tree, folder, title, "")]
    landsat: dict[str, list[str]] = {}
    for name in files:
        if match := MTL.fullmatch(name):
            landsat.setdefault(match["id"].upper(), []).append(name)
    if not landsat:
        landsat = {m["id"].upper(): [] for name in files if (m := LANDSAT_FILE.fullmatch(name))}
    places += [Place(tree, folder, name, False, tuple(mtl)) for name, mtl in landsat.items()]
    if places or depth == 0 or any(name.lower().endswith(_IMAGE_SUFFIXES) for name in files):
        return places
    inner = [n for n in folders if not n.startswith(".") and n != "__MACOSX"]
    named = [n for n in inner if SAFE.fullmatch(n) or LANDSAT.match(n)]
    for name in named or (inner if len(inner) == 1 else []):
        places += _search(tree, join(folder, name), name, depth - 1)
    return places


def _sentinel_place(tree: FileTree, folder: str, title: str, granule: str | None = None) -> Place:
    metadata = tuple(filter(SAFE_METADATA.fullmatch, tree.entries(folder)[1]))
    return Place(tree, folder, title, True, metadata, granule)


def _is_product_member(name: str) -> bool:
    """Whether a name in an archive is that of a product."""
    *folders, file = name.split("/")
    return bool(
        any(SAFE.fullmatch(folder) for folder in folders)
        or LANDSAT.match(file)
        or MTL.fullmatch(file)
        or SAFE_METADATA.fullmatch(file)
    )
