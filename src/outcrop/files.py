"""Files that get their name only when they are complete; checks of damaged files."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import secrets
import shutil
import time
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from outcrop.errors import OutcropError

_TRIES, _WAIT = 100, 0.02
_CHECKSUM = "checksum"
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def explain(error: OSError, path: Path) -> OutcropError:
    """The error line for an operating-system error while writing `path`."""
    if error.errno in _FULL:
        return OutcropError(path, "the disk is full; free some space or write elsewhere")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return OutcropError(path, "cannot be written; check the permissions or write elsewhere")
    return OutcropError(path, f"cannot be written ({error.strerror or error}); write elsewhere")


@contextmanager
def new_file(path: str | Path, name: Path | None = None) -> Iterator[Path]:
    """A temporary name beside `path`, renamed to `path` when the block succeeds.

    The suffix is kept, because GDAL and others choose the format by it. If the block fails the
    temporary file goes and a file that stood under the name before is untouched.

    Args:
        name: what an error line says in place of `path`.

    Raises:
        OutcropError: the folder is missing, or the disk is full or read-only.
    """
    path = Path(path)
    check_new(path, overwrite=True)
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
    """A temporary folder beside `path`, renamed to `path` when the block succeeds.

    Raises:
        OutcropError: `path` exists and `overwrite` is false; the parent is missing; the disk is
            full or read-only.
    """
    path = Path(path)
    check_new(path, overwrite)
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.partial")
    # Made inside the block: a signal may come between the folder and the next line.
    try:
        temporary.mkdir()
        yield temporary
        if path.exists():
            shutil.rmtree(path)
        temporary.replace(path)
    except BaseException as error:
        _remove(temporary)
        if isinstance(error, OSError):
            raise explain(error, path) from error
        raise


def _remove(folder: Path) -> None:
    """Remove a folder, also if another thread still writes a last file into it.

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
    """Make the folder `path` of work that can be resumed; remove it if the block fails.

    For a block of several steps, whose error lines name the files by their final names.

    Raises:
        OutcropError: as `new_folder`.
    """
    path = Path(path)
    check_new(path, instead="resume")
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
    """Remove incomplete files of killed processes from a folder."""
    for left in folder.glob(".*.partial*"):
        if left.is_file():
            left.unlink(missing_ok=True)


def check_new(path: Path, overwrite: bool = False, instead: str = "overwrite") -> None:
    """Check before hours of work that a name can be written.

    Args:
        instead: the argument that allows `path` to exist, for the error line; "" if there is none.

    Raises:
        OutcropError: `path` exists and `overwrite` is false, or its parent folder is missing.
    """
    if path.exists() and not overwrite:
        remedy = f"choose another name{instead and f' or pass `{instead}=True`'}"
        raise OutcropError(path, f"exists already; {remedy}")
    if not path.parent.is_dir():
        raise OutcropError(path, f"the folder {path.parent} does not exist; make it first")


@contextmanager
def decoding(path: str | Path, what: str, remedy: str) -> Iterator[None]:
    """Convert every exception of the block into one error line about the file that is read.

    A decoder that meets bytes that no encoder has written raises whatever comes first: codecs of
    Zarr a RuntimeError, NumPy a SyntaxError, a table of shapes an IndexError. So the block catches
    all, and it must do nothing but read and check. The original error stays attached.

    Args:
        path: the file or folder that is read.
        what: what it should be, such as "a split".
        remedy: what to do where it is not.

    Raises:
        OutcropError: the block failed. Lines that name a file themselves are kept as they are.

    >>> with decoding("a.json", "a split", "try it"):
    ...     1 / 0
    Traceback (most recent call last):
        ...
    outcrop.errors.OutcropError: a.json: is not a split (division by zero), or is damaged; try it
    """
    try:
        yield
    except FileNotFoundError as error:
        missing = Path(error.filename or path)
        if missing == Path(path):
            name = what.partition(" ")[2].removeprefix("whole ")
            raise OutcropError(path, f"no such {name}; {remedy}") from None
        raise OutcropError(path, f"is not whole ({missing.name} is missing); {remedy}") from error
    except PermissionError as error:
        raise OutcropError(path, "cannot be read; check its permissions") from error
    except MemoryError as error:
        raise OutcropError(
            path, f"asks for more memory than there is; it is damaged or too large, {remedy}"
        ) from error
    except Exception as error:
        if isinstance(error, OutcropError) and str(error).startswith(str(path)):
            raise
        raise OutcropError(
            path, f"is not {what} ({first_line(error)}), or is damaged; {remedy}"
        ) from error


def first_line(error: Exception) -> str:
    """The first line of a long error message."""
    if isinstance(error, KeyError):
        return f"{error} is missing"
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(": ")[:200]


def write_json(path: str | Path, content: Any, name: Path | None = None) -> None:
    """Write `content` as indented JSON, completely or not at all; `name` as in `new_file`.

    What says its format gets a checksum, by which `read_json` sees later changes.
    """
    if isinstance(content, dict) and "format" in content:
        content = sealed(content)
    with new_file(path, name) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def read_json(path: str | Path, what: str, maker: str) -> Any:
    """Read JSON that outcrop wrote.

    Args:
        what: what the file holds.
        maker: the name in `outcrop` that makes one.

    Raises:
        OutcropError: the file is missing, is not JSON, or has been changed.
    """
    path = Path(path)
    article = "an" if what[0] in "aeio" else "a"
    with decoding(path, f"{article} {what}", f"make one with `outcrop.{maker}`"):
        content = json.loads(path.read_text(encoding="utf-8"))
        return unsealed(content) if isinstance(content, dict) else content


def file_hash(path: Path) -> str:
    """The SHA-256 of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sealed(content: Mapping[str, Any], beside: Any = None) -> dict[str, Any]:
    """Plain data with a checksum of itself and of `beside`.

    >>> unsealed(sealed({"classes": ["water"]}))
    {'classes': ['water']}
    """
    bare = {key: value for key, value in content.items() if key != _CHECKSUM}
    return {**bare, _CHECKSUM: _checksum(bare, beside)}


def unsealed(content: Mapping[str, Any], beside: Any = None) -> dict[str, Any]:
    """Plain data without its checksum; data without one is returned unchanged.

    Raises:
        ValueError: it has changed since it was sealed.
    """
    bare = {key: value for key, value in content.items() if key != _CHECKSUM}
    if content.get(_CHECKSUM, (expected := _checksum(bare, beside))) != expected:
        raise ValueError(
            f"its {_CHECKSUM} is not that of its content; if the change was meant, remove the "
            f'entry "{_CHECKSUM}"'
        )
    return bare


def _checksum(content: Any, beside: Any) -> str:
    # As they will be read: with text for keys and lists for tuples.
    plain = json.loads(json.dumps([content, beside], default=lambda number: number.item()))
    return f"{zlib.crc32(json.dumps(plain, sort_keys=True).encode()):08x}"
