"""Folders and archives read alike: their entries, and metadata files in them."""

from __future__ import annotations

import math
import os
import struct
import tarfile
import xml.etree.ElementTree as ET
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Protocol

from outcrop.errors import OutcropError

# Real metadata has at most a few megabytes.
METADATA_BYTES = 16 << 20
# A bundle of Landsat has some thirty files; other archives may have millions.
MEMBERS_LOOKED_AT = 100
# What reading a damaged or encrypted archive may raise. `RuntimeError` includes what zipfile has
# not implemented, `ValueError` names that are not text.
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


class Tree(Protocol):
    """Files of a folder or an archive, by names relative to it, with slashes."""

    def entries(self, folder: str) -> tuple[list[str], list[str]]:
        """Names of the folders and of the files in a folder, sorted; none if it is not there."""

    def read(self, name: str) -> bytes:
        """The first `METADATA_BYTES` + 1 of a file."""

    def gdal(self, name: str) -> str:
        """The name by which GDAL opens a file."""


@dataclass(frozen=True)
class Folder:
    """A `Tree` on disk."""

    path: Path

    def entries(self, folder: str) -> tuple[list[str], list[str]]:
        """See `Tree`."""
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
        """See `Tree`."""
        with (self.path / name).open("rb") as file:
            return file.read(METADATA_BYTES + 1)

    def gdal(self, name: str) -> str:
        """See `Tree`."""
        return str(self.path / name)


@dataclass(frozen=True)
class Archive:
    """A `Tree` in a zip or tar file.

    Attributes:
        members: names as `entries` gives them, and as the archive has them.
        folders: names of the folders and of the files in each folder.
    """

    path: Path
    members: dict[str, str]
    folders: dict[str, tuple[set[str], set[str]]]

    @property
    def zipped(self) -> bool:
        """A zip file, else a tar file."""
        return self.path.suffix.lower() == ".zip"

    def entries(self, folder: str) -> tuple[list[str], list[str]]:
        """See `Tree`."""
        folders, files = self.folders.get(folder, (set(), set()))
        return sorted(folders), sorted(files)

    def read(self, name: str) -> bytes:
        """See `Tree`."""
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
        """See `Tree`."""
        # Braces: GDAL then does not look for the end of the archive's name itself.
        return f"/vsi{'zip' if self.zipped else 'tar'}/{{{self.path}}}/{name}"


def _tar_names(path: Path, named_so: Callable[[str], bool]) -> list[str]:
    """Names of the files in a tar file, or of the first ones if it does not start with a product.

    Raises:
        tarfile.TarError: it is damaged.
    """
    names: list[str] = []
    with tarfile.open(path, "r:") as tar:
        for member in tar:
            if len(names) == MEMBERS_LOOKED_AT and not any(map(named_so, names)):
                return names
            if member.isfile():
                names.append(member.name)
        # `tarfile` takes a header that is cut or damaged for the end; a block of zeros is the end.
        with path.open("rb") as file:
            file.seek(tar.offset)
            if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                raise tarfile.ReadError("no end")
    return names


def open_archive(path: Path, named_so: Callable[[str], bool]) -> Archive:
    """List an archive.

    Args:
        named_so: whether a name within is that of a product. A tar file that does not start with
            such names is not listed to its end, which would read it from end to end.

    Raises:
        OutcropError: it is damaged.
    """
    try:
        if path.suffix.lower() == ".zip":
            with zipfile.ZipFile(path) as archive:
                names = [name for name in archive.namelist() if not name.endswith("/")]
        else:
            names = _tar_names(path, named_so)
    except UNREADABLE:
        raise OutcropError(path, "is a damaged archive; fetch it again") from None
    if not all(map(str.isprintable, names)):
        raise OutcropError(path, "is a damaged archive (names in it); fetch it again")
    members = {name.removeprefix("./"): name for name in names}
    folders: dict[str, tuple[set[str], set[str]]] = {}
    for name in members:
        above, _, inner = name.rpartition("/")
        folders.setdefault(above, (set(), set()))[1].add(inner)
        while above:
            above, _, inner = above.rpartition("/")
            folders.setdefault(above, (set(), set()))[0].add(inner)
    return Archive(path, members, folders)


def metadata(tree: Tree, name: str) -> str:
    """The text of a metadata file.

    Raises:
        OutcropError: it is missing, damaged, or not UTF-8 text.
    """
    where = tree.gdal(name)
    try:
        data = tree.read(name)
    except UNREADABLE:
        raise OutcropError(where, "cannot be read; fetch it again") from None
    if len(data) > METADATA_BYTES:
        raise OutcropError(where, f"has more than {METADATA_BYTES >> 20} MiB; fetch it again")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise OutcropError(where, "is damaged (not UTF-8 text); fetch it again") from None


def parse_xml(where: str, text: str) -> ET.Element:
    """The root of an XML file without a document type, since only that can declare entities."""
    if "<!DOCTYPE" in text:
        raise OutcropError(where, "has a document type, which metadata has not; fetch it again")
    try:
        return ET.fromstring(text)
    except (ET.ParseError, ValueError, RecursionError):
        raise OutcropError(where, "is damaged XML; fetch it again") from None


def local_name(element: ET.Element) -> str:
    """The tag without its namespace."""
    return element.tag.rpartition("}")[2]


def is_day(text: str) -> bool:
    """Whether there is such a day, `2022-04-14`."""
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True


def number(where: str, text: str | None) -> float:
    """A finite number in metadata."""
    try:
        value = float(text or "")
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise OutcropError(where, f"is damaged ({text!r:.40} is not a number); fetch it again")
    return value
