"""Cut patches at the inline, crossline and time in a table."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from outcrop.errors import OutcropError
from outcrop.patches.at_positions import cut_at_positions
from outcrop.patches.positions import in_slice, upper_left
from outcrop.sources.volumes import open_volume
from tests.cubes import write_segy
from tests.test_cf import write_netcdf4

SHAPE = (10, 12, 14)
INLINES, CROSSLINES, TIMES = range(118, 98, -2), range(201, 213), np.arange(14) * 4.0


def _cube() -> np.ndarray:
    return np.random.default_rng(0).normal(size=SHAPE).astype("float32")


def _volume(folder):
    return write_segy(folder / "a.sgy", _cube(), inlines=INLINES, crosslines=CROSSLINES)


def _table(path, voxels: np.ndarray, axis, label=None, **columns) -> pd.DataFrame:
    """Rows of voxels by their lines."""
    lines = [np.array(line)[voxels[:, k]] for k, line in enumerate((INLINES, CROSSLINES, TIMES))]
    table = pd.DataFrame(dict(zip(("inline", "crossline", "time"), lines, strict=True)))
    table["axis"] = axis
    table["label"] = np.array(["salt", "shale"])[np.arange(len(table)) % 2]
    table = table.assign(**columns)
    table.to_csv(path, index=False)
    return table


@given(data=st.data(), size=st.sampled_from([1, 4, 5]))
@settings(max_examples=30, deadline=None)
def test_patches_are_centred_on_the_named_voxels(tmp_path_factory, data, size):
    folder = tmp_path_factory.mktemp("lines")
    seed = data.draw(st.integers(0, 999))
    random = np.random.default_rng(seed)
    voxels = np.unique(random.integers(0, SHAPE, (40, 3)), axis=0)
    axis = random.integers(0, 3, len(voxels))
    _table(folder / "t.csv", voxels, axis)
    inside = np.ones(len(voxels), bool)
    for n, (voxel, across) in enumerate(zip(voxels, axis, strict=True)):
        for other in in_slice(across):
            first = upper_left(int(voxel[other]), size)
            inside[n] &= first >= 0 and first + size <= SHAPE[other]
    patches = cut_at_positions(_volume(folder), folder / "t.csv", size=size)
    assert len(patches) == inside.sum()
    assert patches.dropped.get("edge", 0) == (~inside).sum()
    for n, (voxel, across) in enumerate(zip(voxels[inside], axis[inside], strict=True)):
        plane = np.take(_cube(), voxel[across], axis=across)
        top, left = (upper_left(int(voxel[other]), size) for other in in_slice(across))
        assert np.array_equal(patches.images[n, 0], plane[top : top + size, left : left + size])


def test_the_same_patches_as_by_row_and_column(tmp_path):
    voxels = np.argwhere(np.ones((3, 3, 3))) + np.array([4, 5, 6])
    _table(tmp_path / "t.csv", voxels, 0)
    volume = _volume(tmp_path)
    by_lines = cut_at_positions(volume, tmp_path / "t.csv", size=5)
    table = pd.read_csv(tmp_path / "t.csv").drop(columns=["inline", "crossline", "time"])
    table["index"] = voxels[:, 0]
    table["row"], table["column"] = voxels[:, 1] - 2, voxels[:, 2] - 2
    table.to_csv(tmp_path / "u.csv", index=False)
    assert cut_at_positions(volume, tmp_path / "u.csv", size=5).fingerprint == by_lines.fingerprint
    # Where all are given, row and column count: lines are what `outcrop locate` adds to them.
    both = table.assign(inline=100, crossline=201, time=0.0)
    both.to_csv(tmp_path / "v.csv", index=False)
    assert cut_at_positions(volume, tmp_path / "v.csv", size=5).fingerprint == by_lines.fingerprint


@pytest.mark.parametrize("names", [("IL", "XL", "TWT"), ("Inline ", "crossline", "Depth")])
def test_columns_may_have_the_usual_names(tmp_path, names):
    voxels = np.argwhere(np.ones((2, 2, 2))) + 4
    table = _table(tmp_path / "t.csv", voxels, 1)
    table = table.rename(columns=dict(zip(("inline", "crossline", "time"), names, strict=True)))
    table.to_csv(tmp_path / "t.csv", index=False)
    assert len(cut_at_positions(_volume(tmp_path), tmp_path / "t.csv", size=3)) == 8


def test_lines_of_netcdf_are_used(tmp_path):
    lines = {"iline": np.array(INLINES), "xline": np.array(CROSSLINES), "twt": TIMES}
    path = write_netcdf4(tmp_path / "a.nc", _cube(), {}, lines=lines)
    _table(tmp_path / "t.csv", np.argwhere(np.ones((2, 2, 2))) + 4, 1)
    at = cut_at_positions(path, tmp_path / "t.csv", size=3).positions
    assert set(at.index) == {4, 5}
    assert set(at.row) == {4, 5}


def test_times_between_samples_are_rounded_and_counted(tmp_path, capsys):
    voxels = np.argwhere(np.ones((2, 2, 2))) + 4
    table = _table(tmp_path / "t.csv", voxels, 0)
    table["time"] += np.array([1.4, -1.9, 0, 0] * 2)
    table.to_csv(tmp_path / "t.csv", index=False)
    at = cut_at_positions(_volume(tmp_path), tmp_path / "t.csv", size=3).positions
    assert np.array_equal(at.column, voxels[:, 2])
    assert "4 of 8 rows lie between two samples" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"inline": 105}, r"t.csv: line 2 has inline 105, but .*a.sgy has 118 to 100 by 2; cor"),
        ({"inline": 120}, r"line 2 has inline 120"),
        ({"crossline": 201.5}, r"line 2 has crossline 201.5, but .* has 201 to 212 by 1"),
        ({"time": 60}, r"line 2 has time 60, but .* has 0 to 52 by 4"),
        ({"time": -3}, r"line 2 has time -3"),
        ({"time": "late"}, r"line 2 has 'late' as time; write a number"),
        ({"inline": None}, r"line 2 has '' as inline; write a number"),
    ],
)
def test_positions_outside_the_volume_raise_an_error(tmp_path, change, line):
    table = _table(tmp_path / "t.csv", np.argwhere(np.ones((2, 2, 2))) + 4, 0).astype(object)
    for name, value in change.items():
        table.loc[0, name] = value
    table.to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(OutcropError, match=line) as caught:
        cut_at_positions(_volume(tmp_path), tmp_path / "t.csv", size=3)
    assert "\n" not in str(caught.value)


def test_missing_columns_and_coordinates_raise_an_error(tmp_path):
    volume = _volume(tmp_path)
    table = _table(tmp_path / "t.csv", np.argwhere(np.ones((2, 2, 2))) + 4, 0)
    table.drop(columns="time").to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(OutcropError, match=r"t.csv: has no column 'time or depth'; give one, or"):
        cut_at_positions(volume, tmp_path / "t.csv", size=3)
    table.to_csv(tmp_path / "t.csv", index=False)
    np.save(tmp_path / "a.npy", _cube())
    with pytest.raises(OutcropError, match=r"a.npy: has no coordinates along axis 0; give"):
        cut_at_positions(tmp_path / "a.npy", tmp_path / "t.csv", size=3)
    with pytest.raises(OutcropError, match="gives no patch: all 8 extend beyond the edge"):
        cut_at_positions(volume, tmp_path / "t.csv", size=12)


def test_through_the_command_line(tmp_path):
    _volume(tmp_path)
    _table(tmp_path / "t.csv", np.argwhere(np.ones((3, 3, 3))) + 4, 0).drop(columns="axis").to_csv(
        tmp_path / "t.csv", index=False
    )
    words = [
        "patches",
        "a.sgy",
        "--positions",
        "t.csv",
        "--axis",
        "2",
        "--size",
        "5",
        "-o",
        "p.zarr",
    ]
    command = [sys.executable, "-m", "outcrop", *words]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert open_volume(tmp_path / "a.sgy").axes == ("inline", "crossline", "sample")
