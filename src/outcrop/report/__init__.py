"""One HTML page and its pictures from a finished experiment."""

from pathlib import Path


def write_report(folder: Path, output: Path | None = None, overwrite: bool = False) -> Path:
    return folder
