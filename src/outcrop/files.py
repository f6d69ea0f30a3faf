"""Files that appear under their name only when they are whole."""

from __future__ import annotations

import errno
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from outcrop.errors import OutcropError

_TRIES, _WAIT = 100, 0.02
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def explain(error: OSError, path: Path) -> OutcropError:
    """The user's view of an operating-system error met while writing `path`."""
    if error.errno in _FULL:
        return OutcropError(path, "the disk is full; free some space or write elsewhere")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return OutcropError(path, "cannot be written; check the permissions or write elsewhere")
    return OutcropError(path, f"cannot be written ({error.strerror or error}); write elsewhere")


@contextmanager
def new_file(path: str | Path, name: Path | None = None) -> Iterator[Path]:
    """A temporary name beside `path`, renamed to it when the block ends well.

    The suffix is kept, because GDAL and others choose the format by it. If the block fails the
    temporary file goes and a file that stood under the name before is untouched.

    Args:
        name: what an error line says in place of `path`.

    Raises:
        OutcropError: the folder is missing, or the disk is full or read-only.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise OutcropError(path, f"the folder {path.parent} does not exist; make it first")
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.partial{path.suffix}")
    try:
        yield temporary
        temporary.replace(path)
    except OSError as error:
        raise explain(error, name or path) from error
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def new_folder(path: str | Path, overwrite: bool = False) -> Iterator[Path]:
    """A temporary folder beside `path`, renamed to it when the block ends well.

    Raises:
        OutcropError: `path` exists and `overwrite` is false; the parent is missing; the disk is
            full or read-only.
    """
    path = Path(path)
    check_new(path, overwrite)
    try:
        temporary = Path(
            tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".partial", dir=path.parent)
        )
    except OSError as error:
        raise explain(error, path) from error
    try:
        temporary.chmod(0o777 & ~_umask())
        yield temporary
        if path.exists():
            shutil.rmtree(path)
        temporary.replace(path)
    except OSError as error:
        _remove(temporary)
        raise explain(error, path) from error
    except BaseException:
        _remove(temporary)
        raise


def _remove(folder: Path) -> None:
    """Remove a folder that other threads may still write a last file into, which makes it anew.

    A signal ends the main thread's work, and not that of Zarr's own thread.
    """
    gone = 0
    for _ in range(_TRIES):
        gone = 0 if folder.exists() else gone + 1
        if gone > 1:
            return
        shutil.rmtree(folder, ignore_errors=True)
        time.sleep(_WAIT)


@contextmanager
def kept_if_whole(path: str | Path) -> Iterator[None]:
    """Make the folder `path` of work that can be resumed; it goes again if the block fails.

    For a block of several steps, whose error lines name the files by their final names.

    Raises:
        OutcropError: as `new_folder`.
    """
    path = Path(path)
    check_new(path, instead="--resume")
    try:
        path.mkdir()
    except OSError as error:
        raise explain(error, path) from error
    try:
        yield
    except BaseException:
        shutil.rmtree(path, ignore_errors=True)
        raise


def sweep(folder: Path) -> None:
    """Remove the files that killed processes have left half-written in a folder."""
    for left in folder.glob(".*.partial*"):
        if left.is_file():
            left.unlink(missing_ok=True)


def check_new(path: Path, overwrite: bool = False, instead: str = "--overwrite") -> None:
    """Refuse early, before hours of work, a name that cannot be written.

    Args:
        instead: the option that allows `path` to exist, for the error line; "" if there is none.

    Raises:
        OutcropError: `path` exists and `overwrite` is false, or its parent folder is missing.
    """
    if path.exists() and not overwrite:
        remedy = f"choose another name{instead and f' or pass {instead}'}"
        raise OutcropError(path, f"exists already; {remedy}")
    if not path.parent.is_dir():
        raise OutcropError(path, f"the folder {path.parent} does not exist; make it first")


def write_json(path: str | Path, content: Any, name: Path | None = None) -> None:
    """Write `content` as indented JSON, whole or not at all; `name` as in `new_file`."""
    with new_file(path, name) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def read_json(path: str | Path, what: str, command: str) -> Any:
    """Read JSON that outcrop wrote.

    Args:
        what: what the file holds.
        command: which makes one.

    Raises:
        OutcropError: the file is missing, or is not JSON.
    """
    path = Path(path)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise OutcropError(path, f"no such {what}; make one with `outcrop {command}`") from None
    except (ValueError, OSError) as error:
        raise OutcropError(
            path, f"is not a {what} ({error}); make one with `outcrop {command}`"
        ) from error


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
