"""Models and training do without the libraries of scenes and labels, as on a bare GPU server."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.command_line import ALONE

BARE = """
import sys

class Bare:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"rasterio", "geopandas", "pyogrio", "pyproj", "shapely"}:
            raise ModuleNotFoundError(f"No module named '{name}'", name=name)

sys.meta_path.insert(0, Bare())
from outcrop.cli import main
for command in sys.argv[1:]:
    if code := main(command.split()):
        sys.exit(code)
    print("end of a command")
"""


def class_folders(folder: Path, images: np.ndarray, labels: np.ndarray, sides: np.ndarray) -> Path:
    """JPEGs, PNGs and PNGs with a palette in turn, in `SIDE/CLASS/`."""
    for i, (image, label, side) in enumerate(zip(images, labels, sides, strict=True)):
        inside = folder / ("train", "test")[side] / ("dark", "bright")[label]
        inside.mkdir(parents=True, exist_ok=True)
        picture = Image.fromarray(image)
        if i % 3 == 0:
            picture.save(inside / f"{i}.jpg")
        else:
            (picture if i % 3 == 1 else picture.quantize()).save(inside / f"{i}.png")
    return folder


@pytest.mark.parametrize("kind", ["folders", "npz"])
def test_loose_pictures_train_and_are_judged(tmp_path: Path, kind: str) -> None:
    labels, sides = np.arange(48) % 2, np.arange(48) // 2 % 3 // 2
    noise = np.random.default_rng(0).integers(0, 60, (48, 8, 8, 3))
    images = (noise + 120 * labels[:, None, None, None]).astype(np.uint8)
    if kind == "npz":
        pictures = tmp_path / "pictures.npz"
        np.savez(pictures, images=images, labels=labels, sides=sides)
    else:
        pictures = class_folders(tmp_path / "pictures", images, labels, sides)
    run = tmp_path / "run"
    commands = (
        f"train {pictures} -o {run} --depth 8 --width 4 --epochs 3 --batch 8 --device cpu",
        f"evaluate {run} {pictures} --device cpu",
    )
    done = subprocess.run(
        [sys.executable, "-c", BARE, *commands],
        capture_output=True,
        text=True,
        timeout=120,
        env=ALONE,
    )
    assert done.returncode == 0, done.stderr
    trained, evaluated, _ = done.stdout.split("end of a command")
    assert "overall accuracy" in trained
    assert "overall accuracy" in evaluated
    assert (run / "model.safetensors").exists()
