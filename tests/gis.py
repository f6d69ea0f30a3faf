"""Maps opened in QGIS, where it is installed: Debian's `python3-qgis`, without a screen.

PyQGIS belongs to the system's Python and not to the project's, so that it runs as a child.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

_PROGRAM = Path(__file__).with_name("qgis_child.py")
_SYSTEM = "/usr/bin:/bin"


@cache
def qgis_python() -> str | None:
    """The system's Python, if it has PyQGIS."""
    python = shutil.which("python3", path=_SYSTEM)
    if python is None or _run([python, "-c", "import qgis.core"]).returncode:
        return None
    return python


@contextmanager
def alone(**further: str) -> Iterator[dict[str, str]]:
    """The environment of a QGIS without a screen, with a home folder of its own."""
    with tempfile.TemporaryDirectory() as home:
        environment = {"PATH": _SYSTEM, "HOME": home, "XDG_RUNTIME_DIR": home}
        yield environment | {"QT_QPA_PLATFORM": "offscreen", "LC_ALL": "C.UTF-8"} | further


def _run(command):
    with alone() as environment:
        return subprocess.run(command, env=environment, capture_output=True, text=True)


def opened(*paths) -> list[dict]:
    """What QGIS makes of raster or vector files with their default style; skips without QGIS.

    Returns:
        for each file: `renderer`, its type; `legend`, a list of [label, #aarrggbb]; `bar`, of a
        colour bar what stands behind its numbers, or None; `table`, of a raster the attribute table
        that GDAL reads, by column [usage, values]; `drawn`, RGBA, uint8, `height × width × 4`, a
        pixel for each of the raster.
    """
    if qgis_python() is None:
        pytest.skip("QGIS is not installed")
    with tempfile.TemporaryDirectory() as folder:
        done = _run([qgis_python(), _PROGRAM, folder, *paths])
        assert done.returncode == 0, done.stderr
        drawn = [Path(folder) / f"{number}.png" for number in range(len(paths))]
        pixels = [np.asarray(Image.open(one).convert("RGBA")) for one in drawn]
    found = json.loads(done.stdout.splitlines()[-1])
    return [one | {"drawn": image} for one, image in zip(found, pixels, strict=True)]
