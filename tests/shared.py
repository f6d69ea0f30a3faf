"""Where the real data lies beside the project, and the mark that skips tests without it."""

import os
import tarfile
from pathlib import Path

import numpy as np
import pytest

DATA = Path(os.environ.get("OUTCROP_SHARED", Path(__file__).parents[1].parent / "shared")) / "data"

needs_shared = pytest.mark.skipif(not DATA.is_dir(), reason="the shared data is not here")


def some_photographs(folder: Path, number: int) -> Path:
    """Class folders of photographs of CIFAR-10 drawn at random: to read all takes long."""
    with tarfile.open(DATA / "cifar10-jpeg.tar.xz") as archive:
        files = [member for member in archive if member.isfile()]
        # As `read_collection` sorts them: by class, those for training first.
        files.sort(key=lambda file: _order(file.name))
        drawn = [files[i] for i in np.random.default_rng(0).permutation(len(files))[:number]]
        # A step back unpacks the archive anew from its beginning.
        drawn.sort(key=lambda file: file.offset)
        archive.extractall(folder, drawn, filter="data")
    return folder


def _order(name: str) -> tuple[str, bool, str]:
    side, label, _ = name.split("/")
    return label, side == "test", name
