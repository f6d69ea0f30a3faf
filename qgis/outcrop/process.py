"""Run the `outcrop` command: progress, messages, Cancel and errors. Imports nothing of QGIS."""

from __future__ import annotations

import errno
import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import IO, Any, Callable

# QGIS sets these for its own Python, GDAL and PROJ; those of outcrop have other versions.
_OF_QGIS = (
    *("PYTHONHOME", "PYTHONPATH", "PYTHONSTARTUP", "PYTHONEXECUTABLE", "VIRTUAL_ENV"),
    *("GDAL_DATA", "GDAL_DRIVER_PATH", "PROJ_LIB", "PROJ_DATA", "GEOTIFF_CSV"),
    *("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "DYLD_INSERT_LIBRARIES"),
    *("QT_PLUGIN_PATH", "QT_QPA_PLATFORM_PLUGIN_PATH"),
)
INTERRUPT_SECONDS = 30.0
"""How long a process may tidy up after Cancel, until it is killed."""

_WINDOWS = os.name == "nt"


class OutcropFailed(Exception):  # noqa: N818
    """The command could not do its work; the text is its line on standard error."""


@dataclass(frozen=True)
class Progress:
    """How much of the present step is done, from 0 to 1."""

    share: float
    text: str


@dataclass(frozen=True)
class Message:
    """A line of the log. Its level is info, warning or error."""

    level: str
    text: str


@dataclass(frozen=True)
class Finished:
    """A process that ended by itself, or that Cancel ended.

    Attributes:
        output: what it printed on standard output.
        errors: its lines on standard error (of both, if they were watched) that were not JSON.
    """

    code: int
    output: str
    errors: tuple[str, ...]
    cancelled: bool


def parse_line(line: str) -> Progress | Message | str:
    """A line on standard error: progress, a message, or text that is not for programs.

    >>> parse_line('{"progress": 0.25, "text": "training"}')
    Progress(share=0.25, text='training')
    >>> parse_line("outcrop: scene.tif: no such file; check the name")
    'outcrop: scene.tif: no such file; check the name'
    """
    if line.startswith("{"):
        try:
            content = json.loads(line)
            if "progress" in content:
                share = min(max(float(content["progress"]), 0.0), 1.0)
                return Progress(share, str(content.get("text", "")))
            if "message" in content:
                return Message(str(content.get("level", "info")), str(content["message"]))
        except (TypeError, ValueError):
            pass
    return line


def clean_environment(environment: Mapping[str, str], **further: str) -> dict[str, str]:
    """The environment of QGIS without what is meant for QGIS's own Python, GDAL and PROJ."""
    kept = {name: value for name, value in environment.items() if name not in _OF_QGIS}
    return {**kept, "PYTHONUTF8": "1", "PYTHONUNBUFFERED": "1", **further}


def run(
    command: Sequence[str],
    on_line: Callable[[Progress | Message | str], None],
    is_cancelled: Callable[[], bool],
    folder: str | None = None,
    patience: float = INTERRUPT_SECONDS,
    watch_output: bool = False,
) -> Finished:
    """Run a command to its end, or until it is cancelled.

    Args:
        command: the program and its arguments.
        on_line: is called with each line on standard error, in this thread.
        is_cancelled: is asked about ten times a second.
        folder: where the command runs.
        patience: seconds that the process may take to end after Cancel.
        watch_output: `on_line` gets the lines on standard output, too.

    Raises:
        OutcropFailed: the program cannot be started.
    """
    try:
        if shutil.which(command[0]) is None:
            raise OSError(errno.ENOENT, "there is no such program")
        process = _start(command, folder)
    except OSError as error:
        reason = error.strerror or error
        raise OutcropFailed(f"{command[0]}: cannot be started ({reason}); check the path") from None
    lines: queue.Queue[str] = queue.Queue()
    output: list[str] = []
    keep = lines.put if watch_output else output.append
    readers = [
        threading.Thread(target=_read, args=(process.stderr, lines.put), daemon=True),
        threading.Thread(target=_read, args=(process.stdout, keep), daemon=True),
    ]
    for reader in readers:
        reader.start()
    cancelled, errors = False, []
    try:
        while process.poll() is None or readers[0].is_alive() or not lines.empty():
            if not cancelled and process.poll() is None and is_cancelled():
                cancelled = True
                end(process, patience)
            try:
                line = lines.get(timeout=0.1)
            except queue.Empty:
                # A helper process that outlives the command may keep the pipe open.
                if process.poll() is not None:
                    readers[0].join(1.0)
                    if lines.empty():
                        break
                continue
            parsed = parse_line(line.rstrip())
            if isinstance(parsed, str) and parsed:
                errors.append(parsed)
            if parsed:
                on_line(parsed)
    finally:
        # Ctrl-C in a terminal, or an error of QGIS.
        if process.poll() is None:
            end(process, patience)
    readers[1].join(5.0)
    return Finished(process.returncode, "".join(output), tuple(errors), cancelled)


def _start(command: Sequence[str], folder: str | None) -> subprocess.Popen[str]:
    options: dict[str, Any] = {}
    if _WINDOWS:
        options["creationflags"] = getattr(subprocess, "CREATE_NO_WINDOW", 0)
    else:
        # A group of its own: Cancel reaches the processes that the command starts, too.
        options["start_new_session"] = True
    return subprocess.Popen(
        [*_ending_with_qgis(), *command],
        cwd=folder,
        env=clean_environment(os.environ, OUTCROP_PROGRESS="json"),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        errors="replace",
        **options,
    )


@lru_cache(maxsize=1)
def _ending_with_qgis() -> tuple[str, ...]:
    """Words before a command with which the system ends it if QGIS crashes; Linux only."""
    program = shutil.which("setpriv") if sys.platform == "linux" else None
    if program is None:
        return ()
    words = (program, "--pdeathsig", "TERM")
    knows = subprocess.run([*words, "true"], capture_output=True, check=False).returncode == 0
    return words if knows else ()


def _read(stream: IO[str] | None, keep: Callable[[str], object]) -> None:
    assert stream is not None
    with stream:
        for line in stream:
            keep(line)


def end(process: subprocess.Popen[str], patience: float = INTERRUPT_SECONDS) -> None:
    """End a process and those that it started: as Ctrl-C does, then SIGTERM, then kill.

    On Windows a process without a console cannot be interrupted, so that it is killed at once.
    """
    if _WINDOWS:
        tree = ["taskkill", "/PID", str(process.pid), "/T", "/F"]
        subprocess.run(tree, capture_output=True, check=False)
        process.wait()
        return
    # The command itself is interrupted first: it ends its workers.
    _send(process, signal.SIGINT, group=False)
    if not _ends(process, patience * 2 / 3):
        _send(process, signal.SIGTERM, group=True)
        _ends(process, patience / 3)
    _send(process, signal.SIGKILL, group=True)
    process.wait()


def _send(process: subprocess.Popen[str], number: int, group: bool) -> None:
    try:
        if group:
            os.killpg(process.pid, number)
        elif process.poll() is None:
            process.send_signal(number)
    except (ProcessLookupError, PermissionError):
        pass


def _ends(process: subprocess.Popen[str], seconds: float) -> bool:
    until = time.monotonic() + seconds
    while process.poll() is None and time.monotonic() < until:
        time.sleep(0.05)
    return process.poll() is not None


def error_of(finished: Finished) -> str:
    """The line that says why a command failed, or that it was stopped."""
    last = finished.errors[-1] if finished.errors else ""
    if last.startswith("outcrop: "):
        return last[len("outcrop: ") :]
    if finished.cancelled:
        return "stopped"
    if finished.code < 0:
        return f"outcrop was ended by signal {-finished.code}; there may be too little memory"
    return last or f"outcrop ended with code {finished.code} and said nothing; see the log"
