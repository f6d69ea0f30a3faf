"""The files of a folder or an archive under one interface; nothing is unpacked to disk."""

from __future__ import annotations

import os
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from outcrop.errors import OutcropError
from outcrop.files import decoding

ARCHIVES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".txz", ".zip")
_LARGEST = 1 << 30


@dataclass(frozen=True)
class Members:
    """The files of a folder or an archive.

    Attributes:
        path: the folder or the archive.
        names: the files in it, relative, with forward slashes, in the order that reads fastest.
            Hidden files and what macOS adds to archives are left out.
        load: the content of a file by its name.
    """

    path: Path
    names: tuple[str, ...]
    load: Callable[[str], bytes]

    def where(self, name: str) -> str:
        """A file as error lines name it.

        >>> Members(Path("a.tar"), (), lambda name: b"").where("cat/1.jpg")
        'a.tar:cat/1.jpg'
        """
        return str(self.path / name) if self.path.is_dir() else f"{self.path}:{name}"

    def read(self, name: str) -> bytes:
        """The content of a file.

        Raises:
            OutcropError: the file, or the archive at this place, cannot be read.
        """
        with decoding(self.where(name), "a whole file", "get it anew"):
            return self.load(name)


@contextmanager
def open_members(path: Path) -> Iterator[Members]:
    """The files of the folder, tar or zip at `path`, which stays open for the block.

    Raises:
        OutcropError: the archive is damaged, encrypted, or has members that point outside it or
            are larger than 1 GiB; the folder cannot be listed.
    """
    if path.is_dir():
        yield _folder(path)
        return
    with ExitStack() as stack:
        with decoding(path, f"a whole {path.suffix} archive", "get it anew"):
            if path.suffix.lower() == ".zip":
                members = _zip(path, stack.enter_context(zipfile.ZipFile(path)))
            else:
                members = _tar(path, stack.enter_context(tarfile.open(path)))
        yield members


def _folder(path: Path) -> Members:
    def fail(error: OSError) -> None:
        raise OutcropError(error.filename, f"cannot be listed ({error.strerror})") from error

    names = sorted(
        (Path(folder) / file).relative_to(path).as_posix()
        for folder, _, files in os.walk(path, onerror=fail, followlinks=True)
        for file in files
    )
    return Members(path, tuple(filter(_shown, names)), lambda name: (path / name).read_bytes())


def _zip(path: Path, archive: zipfile.ZipFile) -> Members:
    found = {}
    for info in archive.infolist():
        if info.flag_bits & 1:
            raise OutcropError(path, "is encrypted; unpack it with its password, pass the folder")
        if not info.is_dir():
            found[_safe(path, info.filename, info.file_size)] = info
    return Members(path, tuple(filter(_shown, found)), lambda name: archive.read(found[name]))


def _tar(path: Path, archive: tarfile.TarFile) -> Members:
    members = archive.getmembers()
    _check_end(archive)
    found = {_safe(path, m.name, m.size): m for m in members if m.isreg()}

    def load(name: str) -> bytes:
        content = archive.extractfile(found[name])
        assert content is not None
        return content.read()

    return Members(path, tuple(filter(_shown, found)), load)


def _check_end(archive: tarfile.TarFile) -> None:
    # tarfile takes a damaged or missing header for the end, and would drop what follows in silence
    assert archive.fileobj is not None
    archive.fileobj.seek(archive.offset)
    if archive.fileobj.read(tarfile.BLOCKSIZE).strip(b"\0"):
        raise tarfile.ReadError("damaged header")
    if archive.fileobj.tell() != archive.offset + tarfile.BLOCKSIZE:
        raise tarfile.ReadError("unexpected end of data")


def _safe(path: Path, name: str, size: int) -> str:
    parts = PurePosixPath(name)
    if parts.is_absolute() or ".." in parts.parts:
        raise OutcropError(
            path, f"member '{name}' points outside the archive; get it from a source you trust"
        )
    if size > _LARGEST:
        raise OutcropError(path, f"member '{name}' is larger than 1 GiB; cut it into patches")
    return str(parts)


def _shown(name: str) -> bool:
    return not any(part.startswith(".") or part == "__MACOSX" for part in name.split("/"))
