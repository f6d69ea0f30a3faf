"""The order of slices: pages of TIFF files, and files by the numbers in their names."""

from __future__ import annotations

import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from outcrop.errors import OutcropError
from outcrop.sources.kinds import is_volume
from outcrop.sources.volumes import open_volume
from outcrop.sources.volumes.stack import sort_slices
from tests.cubes import write_picture

FOLDER = Path("folder")


def _pages(path: Path, count: int, dtype: str = "uint8") -> Path:
    first, *rest = (Image.fromarray(np.full((4, 6), k, dtype)) for k in range(count))
    first.save(path, save_all=True, append_images=rest)
    return path


def _order(path: Path) -> list[float]:
    volume = open_volume(path)
    with volume.reader() as reader:
        return reader.slices(0, 0, volume.shape[0])[:, 0, 0].tolist()


@pytest.mark.parametrize("count", [2, 9, 10, 12, 120])
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_pages_are_in_page_order(tmp_path, count, dtype):
    path = _pages(tmp_path / "a.tif", count, dtype)
    assert _order(path) == list(range(count))
    assert is_volume(path)


def test_pages_of_several_channels_raise_an_error(tmp_path):
    pages = [Image.fromarray(np.full((4, 6), k, "uint8")) for k in range(12)]
    for channels in (1, 2):
        description = f"ImageJ=1.53\nimages=12\nchannels={channels}\nslices={12 // channels}\n"
        path = tmp_path / f"{channels}.tif"
        pages[0].save(path, save_all=True, append_images=pages[1:], description=description)
    assert _order(tmp_path / "1.tif") == list(range(12))
    with pytest.raises(OutcropError, match=r"2.tif: has pages of 2 channels; save one"):
        open_volume(tmp_path / "2.tif")


def test_files_with_pages_are_in_file_and_page_order(tmp_path):
    for number in (9, 10):
        _pages(tmp_path / f"part{number}.tif", 11)
    assert _order(tmp_path) == 2 * list(range(11))


def test_depths_are_in_ascending_order(tmp_path):
    for k in range(12):
        write_picture(tmp_path / f"z_{-20 + 4 * k}.tif", np.full((4, 6), k, "float32"))
    assert _order(tmp_path) == list(range(12))


def _sorted(names: list[str]) -> list[str]:
    return [file.name for file in sort_slices(FOLDER, [FOLDER / name for name in names])[0]]


@given(
    first=st.integers(-300, 300),
    step=st.integers(1, 50),
    count=st.integers(2, 30),
    decimals=st.integers(0, 2),
    width=st.integers(0, 6),
    before=st.sampled_from(["", "z_", "depth=", "2024-05-01 z ", "s7_", "Z_", "été_"]),
    after=st.sampled_from(["", "m", "_v2", " (copy)"]),
    data=st.data(),
)
@settings(max_examples=200, deadline=None)
def test_names_are_in_the_order_of_their_signed_numbers(
    first, step, count, decimals, width, before, after, data
):
    numbers = [(first + step * k) / 10**decimals for k in range(count)]
    names = [f"{before}{number:0{width}.{decimals}f}{after}.tif" for number in numbers]
    mixed = data.draw(st.permutations(names))
    files, found = sort_slices(FOLDER, [FOLDER / name for name in mixed])
    assert [file.name for file in files] == names
    assert np.allclose(np.diff(found), np.diff(numbers), atol=1e-9)


@pytest.mark.parametrize(
    "names",
    [
        ["z-20.tif", "z-16.tif", "z-12.tif", "z-8.tif", "z-4.tif", "z0.tif", "z4.tif"],
        ["d--2.tif", "d--1.tif", "d-0.tif", "d-1.tif"],
        ["z−2.tif", "z−1.tif", "z0.tif"],
        ["2024-05-9.tif", "2024-05-10.tif", "2024-05-11.tif"],
        ["v1.8.tif", "v1.9.tif", "v1.10.tif", "v1.11.tif"],
        ["v1.9.tif", "v1.10.tif"],
        ["z_-0.2.tif", "z_-0.1.tif"],
        ["z_-0.75.tif", "z_-0.5.tif", "z_-0.25.tif", "z_0.tif"],
        ["z_0.33.tif", "z_0.67.tif", "z_1.00.tif"],
        ["s9_z_-36.tif", "s10_z_-40.tif", "s11_z_-44.tif"],
        ["Slice_9.tif", "slice_10.TIF", "slice_011.tif"],
    ],
)
def test_hyphens_and_dots_are_interpreted_from_all_names(names, capsys):
    assert _sorted(names[::-1]) == names
    assert _sorted(names) == names
    assert capsys.readouterr().err == ""


def test_an_assumed_order_prints_a_note(capsys):
    assert _sorted(["z-2.tif", "z-10.tif", "z-6.tif"]) == ["z-2.tif", "z-6.tif", "z-10.tif"]
    assert "is not read as a minus sign, so z-2.tif is the first slice" in capsys.readouterr().err
    assert _sorted(["b.tif", "C.tif", "a.tif"]) == ["a.tif", "b.tif", "C.tif"]
    assert "sorted alphabetically, a.tif first and C.tif last" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("names", "line"),
    [
        (["a_1.tif", "a_2.tif", "b_1.tif", "b_2.tif"], r"2 patterns, .* a_#.tif \(2\), b_#.tif"),
        (["a1_1.tif", "a1_2.tif", "a2_1.tif", "a2_2.tif"], "names with 2 different numbers"),
        (["s_1.tif", "s_2.tif", "s_3.tif", "mean.tif"], r"s_#.tif \(3\), mean.tif \(1\)"),
        (["m10.tif", "m20.tif", "p0.tif", "p10.tif"], "names of 2 patterns"),
        (["s_1.tif", "s_01.tif", "s_2.tif"], "s_1.tif and s_01.tif with the same number"),
        (["s_1.tif", "s_1.tiff"], "s_1.tif and s_1.tiff with the same number"),
        (["s_1.tif", "s_2.tif", "s_4.tif"], "in steps of 1, but s_4.tif follows s_2.tif"),
        (["z_-8.tif", "z_-4.tif", "z_4.tif"], "in steps of 4, but z_4.tif follows z_-4.tif"),
        (
            ["z_0.5.tif", "z_1.0.tif", "z_2.0.tif"],
            "in steps of 0.5, but z_2.0.tif follows z_1.0.tif",
        ),
    ],
)
def test_mixed_names_and_gaps_raise_a_one_line_error(names, line):
    with pytest.raises(OutcropError, match=line) as caught:
        _sorted(names)
    assert "\n" not in str(caught.value)
    assert "; " in str(caught.value)


def test_pages_are_a_volume_for_commands_and_libraries_are_silent(tmp_path):
    _pages(tmp_path / "a.tif", 12)
    labels = np.ones((12, 4, 6), "uint8")
    labels[6:] = 2
    np.save(tmp_path / "l.npy", labels)
    words = ["patches", "a.tif", "--labels", "l.npy", "--axis", "0", "--size", "3", "-o", "p.zarr"]
    command = [sys.executable, "-m", "outcrop", *words]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _order(tmp_path / "a.tif")
