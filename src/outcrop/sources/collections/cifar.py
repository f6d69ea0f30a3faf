"""CIFAR-10 in the binary version, which needs no pickle.

A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009;
https://www.cs.toronto.edu/~kriz/cifar.html
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import numpy as np
from rich.progress import DownloadColumn, Progress

from outcrop.errors import OutcropError
from outcrop.files import explain
from outcrop.progress import progress_bar
from outcrop.sources.collections.collection import Collection, Members, band_names, open_members

URL = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
CHECKSUM = "md5:c32a1d4ab5d03f1284b67883e8d87530"

_TRAIN = tuple(f"data_batch_{i}.bin" for i in range(1, 6))
_TEST = "test_batch.bin"
_CLASSES = "batches.meta.txt"
_PIXELS = 3 * 32 * 32


def cifar10(cache: Path | None = None, url: str = URL, checksum: str = CHECKSUM) -> Collection:
    """CIFAR-10: 60 000 RGB images of 32 × 32 pixels in ten classes, 10 000 of them held out.

    The archive (162 MB) is downloaded once and kept. Its checksum is verified on every call.

    Args:
        cache: folder for the archive; by default the cache folder of the user.
        url: address of the archive or a mirror.
        checksum: algorithm and digest, as "md5:..." or "sha256:...".

    Raises:
        OutcropError: the archive cannot be downloaded or stored, or has another checksum.
    """
    path = _download(Path(cache) if cache else None, url, checksum)
    with open_members(path) as members:
        return read_cifar10(members)


def has_cifar10(members: Members) -> bool:
    """Whether the files are those of CIFAR-10 in the binary version.

    Raises:
        OutcropError: the files are those of the Python version.
    """
    found = {PurePosixPath(name).name for name in members.names}
    if "data_batch_1" in found:
        raise OutcropError(
            members.path, f"is CIFAR-10 in Python pickles, which are not read; pass {URL}"
        )
    return not found.isdisjoint((*_TRAIN, _TEST))


def read_cifar10(members: Members) -> Collection:
    """Read CIFAR-10 from its binary files, anywhere in a folder or an archive.

    Each record has one byte for the label and 3072 bytes for the pixels: the red, green and blue
    band, row by row. The test batch is the validation side.

    Raises:
        OutcropError: a file is missing or truncated; a label has no class.
    """
    paths = {PurePosixPath(name).name: name for name in members.names}
    if missing := [name for name in (*_TRAIN, _TEST, _CLASSES) if name not in paths]:
        raise OutcropError(members.path, f"lacks {', '.join(missing)} of CIFAR-10; fetch it again")
    # In the order of the archive, so that its compressed stream is read once.
    wanted = sorted((*_TRAIN, _TEST, _CLASSES), key=lambda name: members.names.index(paths[name]))
    content = {name: members.read(paths[name]) for name in wanted}
    classes = tuple(content[_CLASSES].decode("utf-8", "replace").split())
    batches = []
    for name in (*_TRAIN, _TEST):
        where = members.where(paths[name])
        if not content[name] or len(content[name]) % (1 + _PIXELS):
            raise OutcropError(
                where, f"has incomplete records of {1 + _PIXELS} bytes; fetch it again"
            )
        batches.append(np.frombuffer(content[name], np.uint8).reshape(-1, 1 + _PIXELS))
        if batches[-1][:, 0].max() >= len(classes):
            raise OutcropError(
                where, f"has labels outside the {len(classes)} classes; fetch it again"
            )
    records = np.concatenate(batches)
    held_out = len(batches[-1])
    return Collection(
        images=np.ascontiguousarray(records[:, 1:]).reshape(-1, 3, 32, 32),
        labels=records[:, 0].astype(np.int64),
        classes=classes,
        bands=band_names(3),
        sides=np.repeat(np.array([0, 1], np.int8), [len(records) - held_out, held_out]),
    )


def _download(cache: Path | None, url: str, checksum: str) -> Path:
    import pooch

    folder = cache or Path(pooch.os_cache("outcrop"))
    by_hand = "download it manually and pass the path of the file"
    try:
        with progress_bar(DownloadColumn()) as progress:
            downloader = pooch.HTTPDownloader(_PoochBar(progress), chunk_size=1 << 16)
            name = url.rsplit("/", 1)[-1]
            return Path(pooch.retrieve(url, checksum, name, folder, downloader=downloader))
    except (OSError, ValueError) as error:
        if "does not match the known hash" in str(error):
            raise OutcropError(
                url, f"the download does not have the checksum {checksum}; try again, or {by_hand}"
            ) from error
        if isinstance(error, OSError) and error.errno is not None:
            raise explain(error, folder) from error
        response = getattr(error, "response", None)
        reason = "no answer" if response is None else f"HTTP {response.status_code}"
        raise OutcropError(url, f"cannot be downloaded ({reason}); {by_hand}") from error


class _PoochBar:
    """The progress bar interface of pooch on a progress bar of rich."""

    total = 0

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._task = progress.add_task("downloading")

    def update(self, count: int) -> None:
        self._progress.update(self._task, total=self.total, advance=count)

    def reset(self) -> None:
        self._progress.reset(self._task)

    def close(self) -> None:
        """Do nothing; the block around `progress` closes it."""
