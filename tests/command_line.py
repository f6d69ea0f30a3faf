"""The real command line, in this process or in one of its own."""

from __future__ import annotations

import os
import re
import resource
import shlex
import subprocess
import sys
from pathlib import Path

from outcrop.cli import main

ALONE = os.environ | {"OMP_NUM_THREADS": "1"}


def run(command: str) -> int:
    """One command in this process, as the console script would run it; the exit code."""
    try:
        return main(shlex.split(command))
    except SystemExit as end:
        return int(end.code or 0)


def argv(command: str) -> list[str]:
    """One command for a process of its own."""
    return [sys.executable, "-m", "outcrop", *shlex.split(command)]


def start(command: str, **options) -> subprocess.CompletedProcess[str]:
    """One command in a process of its own, to its end."""
    return subprocess.run(
        argv(command), capture_output=True, text=True, timeout=120, env=ALONE, **options
    )


def content(folder: Path) -> dict[str, tuple[int, int]]:
    """Everything below a folder, hidden files too, with size and time of the last change."""
    return {
        str(path.relative_to(folder)): (path.stat().st_size, path.stat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
    }


def check(code: int, out: str, err: str, *pieces: str) -> None:
    """Refused: one line on standard error with these pieces and a remedy; before it, notes."""
    err = re.sub(r"^(note: |training ResNet-8: |epoch \d+/).*\n", "", err, flags=re.MULTILINE)
    assert "Traceback" not in err
    assert err.endswith("\n")
    assert err.count("\n") == 1, err
    assert err.startswith("outcrop: "), err
    missing = [piece for piece in pieces if piece not in err]
    assert not missing, err
    assert re.search(r"; \S|expected |must be |needs |takes ", err), f"no remedy: {err}"
    assert out == ""
    assert code == 2


def check_refused(folder: Path, monkeypatch, capfd, command: str, *pieces: str) -> None:
    """A command in `folder` is refused, and leaves everything there as it was."""
    monkeypatch.chdir(folder)
    before = content(folder)
    code = run(command)
    check(code, *capfd.readouterr(), *pieces)
    assert content(folder) == before


def largest_file(size: int):
    """What makes every file of a process fail beyond `size` bytes, as a full disk does."""
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
