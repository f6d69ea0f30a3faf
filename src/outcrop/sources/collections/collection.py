"""Collections of labelled images without positions, and the files of a folder or an archive."""

from __future__ import annotations

import os
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import numpy as np

from outcrop.errors import OutcropError
from outcrop.files import decoding

if TYPE_CHECKING:
    from torch import Tensor

SIDES = ("train", "validation", "test")
ARCHIVES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".txz", ".zip")
_LARGEST = 1 << 30


@dataclass(frozen=True)
class Collection:
    """N labelled images of one size.

    Attributes:
        images: `N × bands × height × width`, uint8, uint16, int16 or float32, in the units of the
            files; NaN where a float image has no data.
        labels: int64, `N`, index into `classes`.
        classes: the class names, in the order of the labels.
        bands: the band names of the file; else "red", "green", "blue", or "grey", or "band 1" and
            so on.
        sides: int8, `N`, index into `SIDES`, as the collection defines them; None if it does not. A
            single held-out part is the validation side, whatever its name. There is a test side
            only if the collection has a validation and a test part.
        names: the file name of each image; None if the images are not in files of their own.
    """

    images: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]
    bands: tuple[str, ...]
    sides: np.ndarray | None = None
    names: tuple[str, ...] | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """Image, float32 `bands × height × width`, and label: a map-style dataset of PyTorch.

        >>> some = Collection(np.ones((2, 1, 4, 4)), np.array([1, 0]), ("cat", "dog"), ("grey",))
        >>> image, label = some[0]
        >>> image.shape, some.classes[label]
        (torch.Size([1, 4, 4]), 'dog')
        """
        import torch

        return torch.from_numpy(self.images[index].astype(np.float32)), int(self.labels[index])


def band_names(bands: int) -> tuple[str, ...]:
    """The default band names of an image with this number of bands.

    >>> band_names(1), band_names(3), band_names(2)
    (('grey',), ('red', 'green', 'blue'), ('band 1', 'band 2'))
    """
    usual = {1: ("grey",), 3: ("red", "green", "blue")}
    return usual.get(bands) or tuple(f"band {i}" for i in range(1, bands + 1))


def normalized_sides(sides: np.ndarray) -> np.ndarray:
    """Sides in which a single held-out part is the validation side, whatever its name.

    >>> normalized_sides(np.array([0, 2, 0])), normalized_sides(np.array([0, 2, 1]))
    (array([0, 1, 0], dtype=int8), array([0, 2, 1], dtype=int8))
    """
    sides = np.asarray(sides, dtype=np.int8)
    return sides if (sides == 1).any() else np.minimum(sides, 1)


def check_learnable(collection: Collection, path: Path) -> Collection:
    """The collection, if a classifier can be trained on it.

    Raises:
        OutcropError: there is only one class; a pixel is infinite; the centre pixel (`size // 2`)
            of an image is NaN.
    """
    images = collection.images
    if len(np.unique(collection.labels)) < 2:
        raise OutcropError(path, "has only one class; pass images of at least two classes")
    if images.dtype.kind != "f":
        return collection
    centre = images[..., images.shape[2] // 2, images.shape[3] // 2]
    flaws = (
        (np.isinf(images).any(axis=(1, 2, 3)), "has infinite pixels; use NaN for no data"),
        (np.isnan(centre).any(axis=1), "has no data at its centre; leave it out"),
    )
    for flawed, what in flaws:
        if flawed.any():
            first = int(flawed.argmax())
            name = collection.names[first] if collection.names else f"image {first}"
            raise OutcropError(path, f"{name} {what}")
    return collection


@dataclass(frozen=True)
class Members:
    """The files of a folder or an archive.

    Attributes:
        path: the folder or archive.
        names: relative file names with forward slashes, in the order that is fastest to read,
            without hidden files and the extra files of macOS.
        load: function that returns the content of a file.
    """

    path: Path
    names: tuple[str, ...]
    load: Callable[[str], bytes]

    def where(self, name: str) -> str:
        """The location of a file, for error messages.

        >>> Members(Path("a.tar"), (), lambda name: b"").where("cat/1.jpg")
        'a.tar:cat/1.jpg'
        """
        return str(self.path / name) if self.path.is_dir() else f"{self.path}:{name}"

    def read(self, name: str) -> bytes:
        """The content of a file.

        Raises:
            OutcropError: the file cannot be read, or the archive is damaged there.
        """
        with decoding(self.where(name), "a complete file", "fetch it again"):
            return self.load(name)


@contextmanager
def open_members(path: Path) -> Iterator[Members]:
    """List the files of a folder, tar or zip archive, which is open within the block.

    Raises:
        OutcropError: the archive is damaged or encrypted; a member is outside the archive or larger
            than 1 GiB; the folder cannot be listed.
    """
    if path.is_dir():
        yield _folder(path)
        return
    with ExitStack() as stack:
        with decoding(path, f"a complete {path.suffix} archive", "fetch it again"):
            if path.suffix.lower() == ".zip":
                members = _zip(path, stack.enter_context(zipfile.ZipFile(path)))
            else:
                members = _tar(path, stack.enter_context(tarfile.open(path)))
        yield members


def _folder(path: Path) -> Members:
    def fail(error: OSError) -> None:
        raise OutcropError(
            error.filename, f"cannot be listed ({error.strerror}); check the permissions"
        ) from error

    names = sorted(
        (Path(folder) / file).relative_to(path).as_posix()
        for folder, _, files in os.walk(path, onerror=fail, followlinks=True)
        for file in files
    )
    return Members(path, tuple(filter(_is_visible, names)), lambda name: (path / name).read_bytes())


def _zip(path: Path, archive: zipfile.ZipFile) -> Members:
    found = {}
    for info in archive.infolist():
        if info.flag_bits & 1:
            raise OutcropError(path, "is encrypted; unpack it and pass the folder")
        if not info.is_dir():
            found[_checked_name(path, info.filename, info.file_size)] = info
    return Members(path, tuple(filter(_is_visible, found)), lambda name: archive.read(found[name]))


def _tar(path: Path, archive: tarfile.TarFile) -> Members:
    members = archive.getmembers()
    check_tar_end(archive)
    found = {_checked_name(path, m.name, m.size): m for m in members if m.isreg()}

    def load(name: str) -> bytes:
        content = archive.extractfile(found[name])
        assert content is not None
        return content.read()

    return Members(path, tuple(filter(_is_visible, found)), load)


def check_tar_end(archive: tarfile.TarFile) -> None:
    """Check that the members are complete: tarfile takes a damaged or missing header for the end.

    Raises:
        tarfile.ReadError: there is no block of zeros after the last member that was read.
    """
    assert archive.fileobj is not None
    archive.fileobj.seek(archive.offset)
    if archive.fileobj.read(tarfile.BLOCKSIZE).strip(b"\0"):
        raise tarfile.ReadError("damaged header")
    if archive.fileobj.tell() != archive.offset + tarfile.BLOCKSIZE:
        raise tarfile.ReadError("unexpected end of data")


def _checked_name(path: Path, name: str, size: int) -> str:
    parts = PurePosixPath(name)
    if parts.is_absolute() or ".." in parts.parts:
        raise OutcropError(
            path, f"has the member '{name}', which is outside the archive; use a trusted archive"
        )
    if size > _LARGEST:
        raise OutcropError(
            path, f"has the member '{name}', which is larger than 1 GiB; cut it into patches"
        )
    return str(parts)


def _is_visible(name: str) -> bool:
    return not any(part.startswith(".") or part == "__MACOSX" for part in name.split("/"))
