"""Label volumes are reordered to their volume by the coordinates of lines and samples."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from outcrop.errors import OutcropError
from outcrop.patches.cut_volume import cut_volume
from outcrop.patches.patchset import read_patches
from outcrop.patches.reopen import reopen
from outcrop.sources.volumes import open_volume
from outcrop.sources.volumes.matching import align_labels
from tests.cubes import write_picture, write_segy, write_zarr

SHAPE = (10, 8, 12)
LABELS = np.ones(SHAPE)
LABELS[5:] = 2
UP, ACROSS = range(100, 120, 2), range(208, 200, -1)


def _samples() -> np.ndarray:
    return np.random.default_rng(0).normal(size=SHAPE).astype("float32")


def _plain(cube: np.ndarray, volume) -> np.ndarray:
    with volume.reader() as reader:
        for axis in range(3):
            whole = reader.slices(axis, 0, volume.shape[axis])
            assert np.array_equal(np.moveaxis(whole, 0, axis), cube)
            part = reader.slices(axis, 1, 4)
            assert np.array_equal(part, np.moveaxis(cube, axis, 0)[1:4])
        assert np.array_equal(reader.box((1, 2, 3), (4, 5, 5)), cube[1:4, 2:5, 3:5])
    return cube


@pytest.mark.parametrize("inlines", [UP, UP[::-1]])
@pytest.mark.parametrize("crosslines", [ACROSS, ACROSS[::-1]])
@pytest.mark.parametrize("by_crossline", [False, True])
def test_a_survey_in_any_trace_order_has_the_same_classes(
    tmp_path, inlines, crosslines, by_crossline
):
    volume = open_volume(write_segy(tmp_path / "a.sgy", _samples(), inlines=UP, crosslines=ACROSS))
    labels = np.arange(np.prod(SHAPE), dtype="float32").reshape(SHAPE)
    cube = labels[:: 1 if inlines is UP else -1, :: 1 if crosslines is ACROSS else -1]
    places = [(i, j) for j in range(8) for i in range(10)] if by_crossline else None
    path = write_segy(
        tmp_path / "l.sgy", cube, places, inlines=inlines, crosslines=crosslines, interval=4000
    )
    layer = align_labels(open_volume(path), volume)
    assert layer.shape == volume.shape
    _plain(labels, layer)


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_axes_and_samples_are_reordered_for_every_permutation(tmp_path_factory, data):
    cube = np.arange(np.prod((4, 5, 6)), dtype="float32").reshape(4, 5, 6)
    coordinates = [np.arange(length) * 2.5 + 7 for length in cube.shape]
    names = ("inline", "crossline", "sample")
    axes = data.draw(st.permutations(range(3)))
    orders = [data.draw(st.permutations(range(length))) for length in cube.shape]
    written = cube[np.ix_(*orders)].transpose(axes)
    path = tmp_path_factory.mktemp("order") / "a.npy"
    np.save(path, cube)
    volume = _named(open_volume(path), names, coordinates)
    np.save(path.with_name("b.npy"), written)
    theirs = [coordinates[axis][list(orders[axis])] for axis in axes]
    layer = _named(open_volume(path.with_name("b.npy")), [names[axis] for axis in axes], theirs)
    _plain(cube, align_labels(layer, volume))


def _named(volume, names, coordinates):
    from dataclasses import replace

    return replace(volume, axes=tuple(names), coordinates=tuple(coordinates))


def test_classes_follow_their_lines(tmp_path):
    write_segy(tmp_path / "a.sgy", _samples()[::-1], inlines=UP[::-1], crosslines=ACROSS)
    write_segy(tmp_path / "l.sgy", LABELS, inlines=UP, crosslines=ACROSS)
    patches = cut_volume(tmp_path / "a.sgy", tmp_path / "l.sgy", 0, 5)
    inline = np.array(UP[::-1])[patches.positions.index]
    assert set(inline[patches.labels == 0]) == set(UP[:5])
    assert set(inline[patches.labels == 1]) == set(UP[5:])


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"inlines": range(500, 520, 2)}, "inline 500 to 518 by 2 instead of inline 100 to 1"),
        ({"inlines": range(100, 110)}, "inline 100 to 109 by 1 instead of"),
        ({"crosslines": range(202, 210)}, "crossline 202 to 209 by 1 instead of crossline 20"),
        ({"interval": 2000}, "sample 0 to 22 by 2 instead of sample 0 to 44 by 4"),
        ({"cube": LABELS[:5]}, "inline 100 to 108 by 2 instead of inline 100 to 118 by 2"),
        ({"cube": LABELS[:, :, :6]}, "sample 0 to 20 by 4 instead of sample 0 to 44 by 4"),
    ],
)
def test_other_ranges_and_intervals_raise_an_error(tmp_path, change, line):
    made = {"inlines": UP, "crosslines": ACROSS}
    write_segy(tmp_path / "a.sgy", _samples(), **made)
    write_segy(tmp_path / "l.sgy", **{"cube": LABELS, **made, **change})
    with pytest.raises(OutcropError, match=f"l.sgy: has other coordinates than .*{line}") as caught:
        cut_volume(tmp_path / "a.sgy", tmp_path / "l.sgy", 0, 3)
    assert "\n" not in str(caught.value)


def test_an_assumed_order_prints_a_note(tmp_path, capsys):
    write_segy(tmp_path / "a.sgy", _samples(), inlines=UP, crosslines=ACROSS)
    np.save(tmp_path / "l.npy", LABELS.astype("uint8"))
    cut_volume(tmp_path / "a.sgy", tmp_path / "l.npy", 0, 3)
    printed = capsys.readouterr().err
    assert "l.npy: the stored order of its samples is used" in printed
    assert "inline 100 to 118 by 2, crossline 208 to 201 by 1, sample 0 to 44 by 4" in printed
    np.save(tmp_path / "b.npy", _samples())
    cut_volume(tmp_path / "b.npy", tmp_path / "l.npy", 0, 3)
    assert capsys.readouterr().err == ""
    np.save(tmp_path / "t.npy", LABELS.astype("uint8").transpose(0, 2, 1))
    with pytest.raises(OutcropError, match=r"so its axes may be swapped; pass labels"):
        cut_volume(tmp_path / "b.npy", tmp_path / "t.npy", 0, 3)


def _slices(folder, cube, numbers):
    folder.mkdir()
    for number, pixels in zip(numbers, cube, strict=True):
        write_picture(folder / f"z_{number}.tif", pixels.astype("float32"))
    return folder


def test_slice_numbers_are_lines_unless_they_are_a_count(tmp_path, capsys):
    volume = write_segy(tmp_path / "a.sgy", _samples()[::-1], inlines=UP[::-1], crosslines=ACROSS)
    labels = _slices(tmp_path / "by line", LABELS, UP)
    _plain(LABELS[::-1], align_labels(open_volume(labels), open_volume(volume)))
    counted = _slices(tmp_path / "counted", LABELS[::-1], range(1, 11))
    capsys.readouterr()
    _plain(LABELS[::-1], align_labels(open_volume(counted), open_volume(volume)))
    assert "the stored order of its samples" in capsys.readouterr().err
    elsewhere = _slices(tmp_path / "elsewhere", LABELS, range(40, 60, 2))
    with pytest.raises(OutcropError, match="inline 40 to 58 by 2 instead of inline 118 "):
        align_labels(open_volume(elsewhere), open_volume(volume))


def test_chunks_of_zarr_are_read_backwards_too(tmp_path):
    cube = np.arange(np.prod((7, 8, 9)), dtype="float32").reshape(7, 8, 9)
    names, lines = ("inline", "crossline", "sample"), [np.arange(length) for length in (7, 8, 9)]
    volume = _named(open_volume(write_zarr(tmp_path / "a.zarr", cube)), names, lines)
    turned = write_zarr(tmp_path / "b.zarr", cube[::-1, :, ::-1])
    layer = _named(open_volume(turned), names, [lines[0][::-1], lines[1], lines[2][::-1]])
    _plain(cube, align_labels(layer, volume))


def test_a_patch_set_stores_how_its_volume_was_read(tmp_path):
    made = {"inlines": UP, "crosslines": ACROSS, "at": (9, 21)}
    path = write_segy(tmp_path / "a.sgy", _samples(), **made)
    volume = open_volume(path, inline_byte=9, crossline_byte=21)
    np.save(tmp_path / "l.npy", LABELS.astype("uint8"))
    cut_volume(volume, tmp_path / "l.npy", 0, 3, output=tmp_path / "p.zarr")
    patches = read_patches(tmp_path / "p.zarr")
    assert reopen(patches) == [volume]
    made |= {"inlines": UP[::-1]}
    turned = write_segy(tmp_path / "b.sgy", _samples(), **made)
    with pytest.raises(OutcropError, match=r"b.sgy: has inline 118 to 100, where patches were cut"):
        reopen(patches, [turned])
