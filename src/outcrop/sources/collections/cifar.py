"""CIFAR-10 from its home page, in the binary version, so that nothing is unpickled.

A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009;
https://www.cs.toronto.edu/~kriz/cifar.html
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import numpy as np
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from outcrop.errors import OutcropError
from outcrop.files import explain
from outcrop.progress import console
from outcrop.sources.collections.collection import Collection, band_names
from outcrop.sources.collections.members import Members, open_members

URL = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
CHECKSUM = "md5:c32a1d4ab5d03f1284b67883e8d87530"

_TRAIN = tuple(f"data_batch_{i}.bin" for i in range(1, 6))
_TEST = "test_batch.bin"
_CLASSES = "batches.meta.txt"
_PIXELS = 3 * 32 * 32


def cifar10(cache: Path | None = None, url: str = URL, checksum: str = CHECKSUM) -> Collection:
    """CIFAR-10: 60 000 RGB images of 32 × 32 in ten classes, 10 000 of them held out.

    It is downloaded once (162 MB) and kept; its checksum is tested each time it is read.

    Args:
        cache: the folder to keep it in; by default the user's cache folder.
        url: where it is, or a mirror of it.
        checksum: algorithm and digest, as "md5:..." or "sha256:...".

    Raises:
        OutcropError: it cannot be downloaded or kept, or has another checksum.
    """
    path = _download(Path(cache) if cache else None, url, checksum)
    with open_members(path) as members:
        return read_cifar10(members)


def has_cifar10(members: Members) -> bool:
    """Whether these are the files of CIFAR-10 in the binary version.

    Raises:
        OutcropError: they are those of the Python version.
    """
    found = {PurePosixPath(name).name for name in members.names}
    if "data_batch_1" in found:
        raise OutcropError(
            members.path, f"is CIFAR-10 in Python pickles, which are not read; take {URL}"
        )
    return not found.isdisjoint((*_TRAIN, _TEST))


def read_cifar10(members: Members) -> Collection:
    """CIFAR-10 from its binary files, wherever they lie in a folder or an archive.

    Each record is a byte of label and 3072 bytes of pixels: the red, green and blue plane, row by
    row. The test batch is the validation side.

    Raises:
        OutcropError: a file is missing or truncated, or a label has no class.
    """
    paths = {PurePosixPath(name).name: name for name in members.names}
    if missing := [name for name in (*_TRAIN, _TEST, _CLASSES) if name not in paths]:
        raise OutcropError(members.path, f"CIFAR-10 without {', '.join(missing)}; get it anew")
    # In the order of the archive, so that its compressed stream is not read again for each file.
    wanted = sorted((*_TRAIN, _TEST, _CLASSES), key=lambda name: members.names.index(paths[name]))
    content = {name: members.read(paths[name]) for name in wanted}
    classes = tuple(content[_CLASSES].decode("utf-8", "replace").split())
    batches = []
    for name in (*_TRAIN, _TEST):
        where = members.where(paths[name])
        if not content[name] or len(content[name]) % (1 + _PIXELS):
            raise OutcropError(where, f"not whole records of {1 + _PIXELS} bytes; get it anew")
        batches.append(np.frombuffer(content[name], np.uint8).reshape(-1, 1 + _PIXELS))
        if batches[-1][:, 0].max() >= len(classes):
            raise OutcropError(where, f"labels outside the {len(classes)} classes; get it anew")
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
    by_hand = "download it by hand and pass the path of the file"
    try:
        with _download_columns() as progress:
            downloader = pooch.HTTPDownloader(_PoochBar(progress), chunk_size=1 << 16)
            name = url.rsplit("/", 1)[-1]
            return Path(pooch.retrieve(url, checksum, name, folder, downloader=downloader))
    except (OSError, ValueError) as error:
        if "does not match the known hash" in str(error):
            raise OutcropError(
                url, f"what came does not have the checksum {checksum}; try again, or {by_hand}"
            ) from error
        if isinstance(error, OSError) and error.errno is not None:
            raise explain(error, folder) from error
        response = getattr(error, "response", None)
        reason = "no answer" if response is None else f"HTTP {response.status_code}"
        raise OutcropError(url, f"cannot be downloaded ({reason}); {by_hand}") from error


def _download_columns() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )


class _PoochBar:
    """What pooch asks of a progress bar, on one of rich."""

    total = 0

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._task = progress.add_task("downloading")

    def update(self, count: int) -> None:
        self._progress.update(self._task, total=self.total, advance=count)

    def reset(self) -> None:
        self._progress.reset(self._task)

    def close(self) -> None:
        """The block around `progress` closes it."""
