"""The real command line, in this process or in one of its own."""

from __future__ import annotations

import os
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
