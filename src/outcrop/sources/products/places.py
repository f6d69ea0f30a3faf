"""Where products lie, by the names of files and folders alone."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from outcrop.errors import OutcropError
from outcrop.sources.products.trees import Folder, Tree, open_archive

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
# Before 2017 the scene classification had a name of its own kind.
_OLD_SCL = re.compile(r"(S2[A-D]_USER)_SCL_(L2A_TL_.+)_(20|60)m\.jp2", re.I)
# A folder that holds such files is not the wrapping of a product.
_PICTURES = (".tif", ".tiff", ".png", ".jpg", ".jp2", ".npy")


@dataclass(frozen=True)
class Place:
    """Where a product lies.

    Attributes:
        tree: the folder or archive.
        folder: the product's folder in the tree.
        title: the name of that folder, of the archive, or what the names of its files start with.
        sentinel: Sentinel-2, else Landsat.
        metadata: names of product metadata files in `folder`.
        granule: the folder in `GRANULE` that is meant, or one within it; "" if `folder` has the
            images itself.
    """

    tree: Tree
    folder: str
    title: str
    sentinel: bool
    metadata: tuple[str, ...]
    granule: str | None = None

    @property
    def name(self) -> str:
        """What tells it from others in the same tree."""
        return join(self.folder, self.metadata[0]) if self.metadata else self.folder or self.title


@dataclass(frozen=True)
class Image:
    """A file of one Sentinel-2 band.

    Attributes:
        file: its name in the tree.
        scene: what the names of all files of a granule start with.
        band: `B02`, `B8A`, `SCL`.
        metres: the resolution, where names say it.
    """

    file: str
    scene: str
    band: str
    metres: int | None


def find_places(path: Path) -> list[Place]:
    """Where the products of a name lie; none if it is something else.

    Raises:
        OutcropError: a damaged archive, or a folder that cannot be read.
    """
    full = Path(os.path.abspath(path))  # noqa: PTH100 - resolve() would follow links
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
        return _search(open_archive(path, _of_a_product), "", path.stem.removesuffix(".SAFE"))
    if LANDSAT.match(path.name) and path.name.lower().endswith((".tar.gz", ".tgz")):
        raise OutcropError(path, "is a compressed tar file, slow to read; unpack it first (gunzip)")
    return []


def _in_granule(path: Path, full: Path) -> Place | None:
    """The product of a folder `GRANULE`, or of one within it that has images."""
    for above in (full, *full.parents[:4]):
        if above.name == "GRANULE":
            safe = above.parent
            tree = Folder(safe if path.is_absolute() else Path(os.path.relpath(safe)))
            granule = full.relative_to(above).as_posix()
            if granule == ".":
                return _safe(tree, "", safe.name)
            if find_images(tree, join("GRANULE", granule)):
                return _safe(tree, "", safe.name, granule)
    return None


def named_like_a_product(path: Path) -> bool:
    """Whether what cannot be looked into should be a product."""
    return bool(SAFE.fullmatch(path.stem + ".SAFE") or LANDSAT.match(path.name))


def find_images(tree: Tree, folder: str) -> list[Image]:
    """Band files in a folder, in its folders R10m, R20m, R60m, and in those of its IMG_DATA."""
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
    """A name in a tree."""
    return "/".join(part for part in parts if part)


def _search(tree: Tree, folder: str, title: str, depth: int = 2) -> list[Place]:
    """Products in a folder of a tree, or in the folders within it whose names say so."""
    folders, files = tree.entries(folder)
    places = []
    if any(map(SAFE_METADATA.fullmatch, files)) or "GRANULE" in folders or SAFE.fullmatch(title):
        places = [_safe(tree, folder, title)]
    elif find_images(tree, folder):
        places = [_safe(tree, folder, title, "")]
    landsat: dict[str, list[str]] = {}
    for name in files:
        if match := MTL.fullmatch(name):
            landsat.setdefault(match["id"].upper(), []).append(name)
    if not landsat:
        landsat = {m["id"].upper(): [] for name in files if (m := LANDSAT_FILE.fullmatch(name))}
    places += [Place(tree, folder, name, False, tuple(mtl)) for name, mtl in landsat.items()]
    if places or depth == 0 or any(name.lower().endswith(_PICTURES) for name in files):
        return places
    inner = [n for n in folders if not n.startswith(".") and n != "__MACOSX"]
    named = [n for n in inner if SAFE.fullmatch(n) or LANDSAT.match(n)]
    for name in named or (inner if len(inner) == 1 else []):
        places += _search(tree, join(folder, name), name, depth - 1)
    return places


def _safe(tree: Tree, folder: str, title: str, granule: str | None = None) -> Place:
    metadata = tuple(filter(SAFE_METADATA.fullmatch, tree.entries(folder)[1]))
    return Place(tree, folder, title, True, metadata, granule)


def _of_a_product(name: str) -> bool:
    """Whether a name within an archive is that of a product."""
    *folders, file = name.split("/")
    return bool(
        any(SAFE.fullmatch(folder) for folder in folders)
        or LANDSAT.match(file)
        or MTL.fullmatch(file)
        or SAFE_METADATA.fullmatch(file)
    )
