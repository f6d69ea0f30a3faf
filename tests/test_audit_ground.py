"""Checks of positions: variograms, distances, overlaps and recommended blocks."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from outcrop.auditing.audit import audit
from outcrop.auditing.autocorrelation import advise_blocks, measure_autocorrelation
from outcrop.auditing.check import Context, open_to_map
from outcrop.auditing.spatial import AutocorrelationCheck, DistanceCheck, covered, gaps
from outcrop.auditing.transfer import TransferCheck
from outcrop.auditing.variogram import draw_from_patches, draw_from_sources, variogram
from outcrop.errors import OutcropError
from outcrop.patches.cut import cut
from outcrop.patches.cut_volume import cut_volume as cut_volume_file
from outcrop.patches.positions import scene_positions, volume_positions
from outcrop.sources.volumes import open_volume
from outcrop.splits import (
    BUFFER,
    TRAIN,
    VALIDATION,
    BlockSplit,
    RandomSplit,
    Split,
    block_split,
)
from outcrop.splits.geometry import near
from tests.command_line import check_refused
from tests.patches import found_by
from tests.rasters import write_raster
from tests.synthetic import PIXEL, cut_scene, cut_volume, smooth

SIDE = 300
DRAWS = 3


def points(seed, number=1500, side=SIDE, windows=24):
    """Pixels of windows of 64, as the audit draws them."""
    rng = np.random.default_rng(seed)
    corner = rng.integers(0, side - 63, (windows, 1, 2))
    return (corner + rng.integers(0, 64, (windows, number // windows, 2))).reshape(-1, 2)


def draws_of(field, seed=0, count=4):
    at = [points(seed + i) for i in range(count)]
    return [(one.astype(float), field[tuple(one.T)]) for one in at]


def dense(sigma=3.0, seed=0, step=6, size=8):
    """Overlapping patches on a grid over a smooth field, of two classes in squares."""
    row, column = (grid.ravel() for grid in np.mgrid[10 : SIDE - 10 : step, 10 : SIDE - 10 : step])
    labels = (row // 40 + column // 40) % 2
    field = np.stack([smooth(sigma, seed), smooth(sigma, seed + 100)])
    return cut_scene(field, row, column, labels, size=size)


def in_halves(shape):
    labels = np.ones(shape, np.uint8)
    labels[: shape[0] // 2] = 2
    return labels


@cache
def measured(**kind):
    """Patches of a kind and their autocorrelation, measured once."""
    patches = dense(**kind)
    return patches, measure_autocorrelation(patches, draws=DRAWS)


def random_split(patches, seed=0):
    return RandomSplit(random_state=seed).assign(patches)


@pytest.mark.parametrize("sigma", [3, 10])
@pytest.mark.parametrize("seed", range(2))
def test_the_range_of_a_gaussian_field_is_found(sigma, seed):
    # White noise through a Gaussian filter: correlation exp(-(h / 2 sigma)^2), 5 % at 3.46 sigma.
    found = variogram(draws_of(smooth(sigma, seed)), 1.0)
    assert found.range == pytest.approx(3.46 * sigma, rel=0.15)
    assert found.model == "Gaussian"


@pytest.mark.parametrize("seed", range(2))
def test_the_range_of_an_exponential_field_is_found(seed):
    # exp(-h / 5), 5 % at 15; exact on a torus.
    away = np.hypot(*np.meshgrid(*[np.fft.fftfreq(SIDE) * SIDE] * 2))
    spectrum = np.sqrt(np.maximum(np.fft.fft2(np.exp(-away / 5)).real, 0))
    noise = np.random.default_rng(seed).normal(size=(SIDE, SIDE))
    field = np.fft.ifft2(spectrum * np.fft.fft2(noise)).real
    found = variogram(draws_of(field), 1.0)
    assert found.range == pytest.approx(15, rel=0.25)
    assert found.model == "Exponential"


def test_gamma_is_half_the_mean_squared_difference():
    rng = np.random.default_rng(0)
    at, values = rng.uniform(0, 30, (400, 2)), rng.normal(size=400)
    found = variogram([(at, values)], 0.5, robust=False)
    apart = np.hypot(*(at[:, None] - at).T)[np.triu_indices(400, 1)]
    squares = np.square(values[:, None] - values)[np.triu_indices(400, 1)]
    edges = np.geomspace(0.45, np.ptp(at, axis=0).max() / 2, 21)
    for lag, gamma in zip(found.lags, found.gamma, strict=True):
        k = np.searchsorted(edges, lag) - 1
        here = (apart >= edges[k]) & (apart < edges[k + 1])
        assert gamma == pytest.approx(squares[here].mean() / 2 / values.var())


def test_noise_has_no_range_and_a_slope_no_end():
    noise = np.random.default_rng(0).normal(size=(SIDE, SIDE))
    assert variogram(draws_of(noise), 1.0).range == 0
    slope = np.add.outer(np.arange(SIDE), np.arange(SIDE)) / SIDE + noise / 20
    assert np.isinf(variogram(draws_of(slope), 1.0).range)
    assert variogram(draws_of(np.zeros((SIDE, SIDE))), 1.0) is None


def test_two_thirds_of_the_variance_are_shared_up_to_a_lag():
    # exp(-(h / 2 sigma)^2) is two thirds at 1.274 sigma.
    found = variogram(draws_of(smooth(10, 0)), 1.0)
    assert found.two_thirds == pytest.approx(12.7, rel=0.25)


def test_the_range_from_patches_is_that_of_the_field():
    _, found = measured(sigma=5.0)
    assert found.origin == "the patches"
    assert found.range == pytest.approx(3.46 * 5 * PIXEL, rel=0.2)
    assert (found.ranges == found.range).all()
    assert 200 < found.labels.range < 800  # squares of 400 m


def test_autocorrelation_is_the_same_for_the_same_seed():
    patches, one = measured()
    again = measure_autocorrelation(patches, draws=DRAWS)
    np.testing.assert_array_equal(again.pixels[0].gamma, one.pixels[0].gamma)
    assert again.range == one.range
    assert measure_autocorrelation(patches, seed=1, draws=DRAWS).range != one.range


def test_a_volume_has_a_range_along_each_axis(tmp_path):
    volume = gaussian_filter(np.random.default_rng(0).normal(size=(96, 96, 96)), (8, 2, 2))
    np.save(tmp_path / "cube.npy", volume.astype(np.float32))
    np.save(tmp_path / "labels.npy", in_halves(volume.shape))
    patches = cut_volume_file(
        tmp_path / "cube.npy", tmp_path / "labels.npy", 0, 16, stride=20, slice_stride=9
    )
    found = measure_autocorrelation(patches, Context(patches).sources, draws=DRAWS)
    assert found.origin == "the volumes"
    assert found.ranges[0] > 2 * found.ranges[1:].max()
    assert found.ranges[1] == pytest.approx(3.46 * 2, rel=0.3)
    # exp(-(h / 16)^2) is two thirds at 10.2: so many slices look almost the same.
    through = found.through(patches.positions)
    assert through[:, 0].min() == pytest.approx(10.2, rel=0.35)
    assert (through[:, 1:] == 0).all()


def test_pixels_are_drawn_with_their_place():
    rows, columns = np.mgrid[:SIDE, :SIDE]
    scene = cut_scene(np.stack([rows, columns]), [20, 100, 250], [30, 200, 90], [0, 1, 0], size=9)
    for at, values in draw_from_patches(scene, seed=0, draws=2):
        np.testing.assert_allclose(at[:, 0], -(values[:, 0] + 0.5) * PIXEL)
        np.testing.assert_allclose(at[:, 1], (values[:, 1] + 0.5) * PIXEL)


@pytest.mark.parametrize("axis", range(3))
def test_voxels_are_drawn_with_their_place(axis):
    shape = (20, 30, 40)
    number = np.arange(np.prod(shape)).reshape(shape)
    patches = cut_volume(number, axis, [4, 9], np.array([10, 12]), np.array([9, 8]), [0, 1])
    for at, values in draw_from_patches(patches, seed=0, draws=2):
        voxel = np.stack(np.unravel_index(values[:, 0].astype(int), shape), axis=1)
        np.testing.assert_array_equal(at, voxel)


def test_pixels_of_scenes_and_volumes_are_drawn_with_their_place(tmp_path):
    rows, columns = np.mgrid[:80, :120].astype(np.float32)
    labels = np.zeros((80, 120), np.uint8)
    labels[::20, ::20] = 1
    labels[10::20, ::20] = 2
    patches = cut(
        write_raster(tmp_path / "scene.tif", np.stack([rows, columns])),
        write_raster(tmp_path / "labels.tif", labels, nodata=0),
        size=8,
    )
    for at, values in draw_from_sources(patches, Context(patches).sources, seed=0, draws=2):
        np.testing.assert_allclose(at[:, 0], 1_200_000 - 10 * (values[:, 0] + 0.5))
        np.testing.assert_allclose(at[:, 1], 600_000 + 10 * (values[:, 1] + 0.5))
    shape = (20, 30, 40)
    np.save(tmp_path / "cube.npy", np.arange(np.prod(shape), dtype=np.float32).reshape(shape))
    np.save(tmp_path / "classes.npy", in_halves(shape))
    patches = cut_volume_file(tmp_path / "cube.npy", tmp_path / "classes.npy", 0, 8, stride=7)
    for at, values in draw_from_sources(patches, Context(patches).sources, seed=0, draws=2, axis=2):
        voxel = np.stack(np.unravel_index(values[:, 0].astype(int), shape), axis=1)
        np.testing.assert_array_equal(at, voxel)


def test_sources_that_are_gone_or_changed_are_not_read(tmp_path):
    pixels = np.arange(40 * 50, dtype=np.uint16).reshape(40, 50) + 1
    labels = np.zeros((40, 50), np.uint8)
    labels[::8, ::8], labels[4::8, ::8] = 1, 2
    scene = write_raster(tmp_path / "scene.tif", pixels)
    patches = cut(scene, write_raster(tmp_path / "labels.tif", labels, nodata=0), size=4)
    assert [source.title for source in Context(patches).sources] == [str(scene)]
    write_raster(scene, pixels[:30])
    assert not Context(patches).sources
    scene.unlink()
    assert not Context(patches).sources


def test_what_cannot_be_mapped_is_refused(tmp_path):
    patches = dense()
    np.save(tmp_path / "cube.npy", np.zeros((9, 9, 9), np.float32))
    with pytest.raises(OutcropError, match="is a volume, but the patches are from scenes"):
        open_to_map([tmp_path / "cube.npy"], patches)
    one = write_raster(tmp_path / "one.tif", np.ones((1, 30, 30), np.uint8))
    with pytest.raises(OutcropError, match=r"has 1 band .* patch set has 2 bands .*; use"):
        open_to_map([one], patches)
    with pytest.raises(OutcropError, match="no such file"):
        open_to_map([tmp_path / "none.tif"], patches)
    with pytest.raises(OutcropError, match="`to_map`: needs `split`"):
        audit(patches, to_map=[one])
    lost = replace(patches, positions=None, sources=(), crs=None)
    with pytest.raises(OutcropError, match="`to_map`: needs positions"):
        audit(lost, to_map=[one])


boxes = st.lists(
    st.tuples(st.integers(0, 40), st.integers(0, 40), st.sampled_from([4, 6, 9])),
    min_size=1,
    max_size=12,
)


def in_a_scene(places):
    row, column, size = np.array(places).T
    x, y, zero = column * 1.0, -row * 1.0, np.zeros(len(row))
    return scene_positions(0, row, column, x, y, size, size, zero)


@given(boxes, boxes)
@settings(max_examples=60, deadline=None)
def test_gaps_are_those_of_the_definition(one, other):
    mine, theirs = in_a_scene(one), in_a_scene(other)
    gap, which = gaps(mine, theirs)
    for i, (row, column, size) in enumerate(one):
        every = [max(abs(row - r), abs(column - c)) - (size + s) / 2 for r, c, s in other]
        assert gap[i] == min(every) == every[which[i]]
    # A gap below a buffer means `near`, if all patches have the same size.
    if len({size for *_, size in one + other}) == 1:
        np.testing.assert_array_equal(gap < 3, near(mine, theirs, 3))


@given(
    st.lists(
        st.tuples(st.integers(0, 1), st.integers(0, 2), *[st.integers(4, 16)] * 3),
        min_size=2,
        max_size=10,
    ),
    st.floats(0, 5),
)
@settings(max_examples=60, deadline=None)
def test_gaps_in_volumes_are_those_of_the_definition(places, slack):
    source, axis, index, row, column = np.array(places).T
    positions = volume_positions(source, axis, index, row, column, (6, 8))
    gap, which = gaps(positions, positions, slack, themselves=True)
    low = positions.middle - positions.extent / 2
    high = positions.middle + positions.extent / 2
    for i in range(len(positions)):
        every = np.maximum(low - high[i], low[i] - high).max(axis=1) - slack
        every[(source != source[i]) | (np.arange(len(source)) == i)] = np.inf
        assert gap[i] == pytest.approx(every.min())
        assert np.isinf(gap[i]) or every[which[i]] == pytest.approx(every.min())


def test_gaps_are_the_same_in_parts(monkeypatch):
    positions = dense().positions
    whole = gaps(positions[:50], positions[50:])
    monkeypatch.setattr("outcrop.auditing.spatial._CHUNK", 7 * (len(positions) - 50))
    for one, other in zip(whole, gaps(positions[:50], positions[50:]), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(("shift", "share"), [(0, 1.0), (3, 0.7), (5, 0.5), (10, 0.0)])
def test_covered_is_the_share_of_the_area(shift, share):
    one = in_a_scene([(20, 20, 10)])
    assert covered(one, in_a_scene([(20, 20 + shift, 10)])) == pytest.approx(share)
    assert covered(one, in_a_scene([(20 + shift, 20, 10), (20 - shift, 20, 10)])) == pytest.approx(
        min(1, 2 * share)
    )


def test_covered_in_a_volume_counts_the_plane():
    one = volume_positions(0, 1, 7, np.array([20]), np.array([20]), 10)
    behind = volume_positions(0, 1, 9, np.array([20]), np.array([25]), 10)
    assert covered(one, behind) == 0
    assert covered(one, behind, np.array([0, 2, 0])) == pytest.approx(0.5)


def test_a_random_split_of_overlapping_patches_is_critical():
    patches = dense()
    split = random_split(patches)
    found = audit(patches, split)
    assert found.failed
    overlaps = next(one for one in found.findings if one.check == "overlaps")
    assert overlaps.severity == "critical"
    positions = patches.positions
    true = near(positions[split.validation], positions[split.train], 0).sum()
    assert overlaps.numbers["overlapping"] == true > 100
    assert overlaps.numbers["covered_share"] > 0.5
    assert "outcrop split --block" in overlaps.remedy
    for validation, train in overlaps.groups:
        assert split.sides[[validation, train]].tolist() == [VALIDATION, TRAIN]
        assert near(positions[[validation]], positions[[train]], 0)


def test_the_recommended_blocks_pass_the_audit():
    patches, autocorrelation = measured()
    advice = advise_blocks(patches, autocorrelation.ranges)
    assert advice.wide
    assert advice.block >= autocorrelation.range
    # Centres of patches of different sides are further apart than the range.
    assert advice.buffer + 8 * PIXEL >= autocorrelation.range
    split = BlockSplit(block=advice.block, buffer=advice.buffer).assign(patches)
    found = audit(patches, split)
    assert not found.failed, found
    (distance,) = (one for one in found.findings if one.check == "distance")
    assert distance.severity == "note"
    assert distance.numbers["gap"]["p10"] >= advice.buffer


@pytest.mark.parametrize("step", [6, 8, 10])
def test_without_a_buffer_sides_are_closer_than_the_range(step):
    patches, autocorrelation = measured(sigma=6.0, step=step)
    columns = patches.positions.column
    # Two halves without a buffer between them.
    sides = np.where(columns < columns.mean(), TRAIN, VALIDATION).astype(np.int8)
    split = Split(sides, sides.astype(int), patches.fingerprint)
    (found,) = found_by(DistanceCheck, patches, split, autocorrelation=autocorrelation)
    last = columns[sides == TRAIN].max()
    if step < 8:
        assert (found.check, found.severity) == ("overlaps", "critical")
        first = columns == columns[sides == VALIDATION].min()
        assert found.numbers["overlapping"] == first.sum()
        split = replace(split, sides=np.where(columns == last, BUFFER, sides).astype(np.int8))
        last -= step
        (found,) = found_by(DistanceCheck, patches, split, autocorrelation=autocorrelation)
    within = (columns[sides == VALIDATION] - last) * PIXEL < autocorrelation.range
    assert (found.check, found.numbers["overlapping"]) == ("distance", 0)
    assert found.numbers["within_range"] == pytest.approx(within.mean(), abs=1e-4)
    assert found.severity == ("warning" if within.mean() > 0.1 else "note")


def test_neighbouring_slices_count_as_overlap(tmp_path):
    volume = gaussian_filter(np.random.default_rng(0).normal(size=(64, 64, 64)), (6, 1.5, 1.5))
    index, row, column = (a.ravel() for a in np.mgrid[4:60:2, 8:56:8, 8:56:8])
    patches = cut_volume(volume, 0, index, row, column, (row > 30).astype(int))
    np.save(tmp_path / "cube.npy", volume.astype(np.float32))
    autocorrelation = measure_autocorrelation(
        patches, [open_volume(tmp_path / "cube.npy")], draws=DRAWS
    )
    sides = np.where(index % 4 == 0, VALIDATION, TRAIN).astype(np.int8)
    split = Split(sides, index, patches.fingerprint)
    (found,) = found_by(DistanceCheck, patches, split, autocorrelation=autocorrelation)
    assert (found.check, found.severity) == ("overlaps", "critical")
    assert found.numbers["overlapping_share"] == 1
    assert "slices away" in found.title
    # Without the volume the number of similar slices is unknown.
    (alone,) = found_by(
        DistanceCheck, patches, split, autocorrelation=measure_autocorrelation(patches, draws=DRAWS)
    )
    assert (alone.check, alone.numbers["overlapping"]) == ("distance", 0)
    halves = np.where(index < 32, VALIDATION, TRAIN).astype(np.int8)
    halves[np.abs(index - 32) < 14] = BUFFER
    (found,) = found_by(
        DistanceCheck,
        patches,
        Split(halves, index, patches.fingerprint),
        autocorrelation=autocorrelation,
    )
    assert (found.check, found.severity) == ("distance", "note")


def test_patches_without_positions_or_a_split():
    patches = dense()
    (found,) = found_by(DistanceCheck, patches)
    assert (found.check, found.severity) == ("overlaps", "note")
    assert found.numbers["overlapping"] == len(patches)
    apart = dense(step=9)
    assert found_by(DistanceCheck, apart) == []
    lost = replace(patches, positions=None, sources=(), crs=None)
    (found,) = found_by(DistanceCheck, lost)
    assert found.severity == "note"
    assert "outcrop locate" in found.remedy


def test_an_area_too_small_for_its_range_is_reported():
    patches, autocorrelation = measured(sigma=40.0)
    advice = advise_blocks(patches, autocorrelation.ranges)
    assert advice is None or not advice.wide
    (found,) = found_by(AutocorrelationCheck, patches, autocorrelation=autocorrelation, blocks=None)
    assert "label more" in found.remedy
    few = patches.subset(np.arange(10))
    (found,) = found_by(AutocorrelationCheck, few)
    assert "too few" in found.title


def test_distances_between_volumes_are_infinite():
    volume = gaussian_filter(np.random.default_rng(0).normal(size=(40, 40, 40)), 2)
    index, row, column = (a.ravel() for a in np.mgrid[4:36:4, 8:32:8, 8:32:8])
    patches = cut_volume(volume, 0, index, row, column, (row > 20).astype(int))
    second = np.arange(len(index)) % 2
    two = replace(
        patches,
        positions=replace(patches.positions, source=second.astype(np.int32)),
        sources=(*patches.sources, replace(patches.sources[0], name="other.npy")),
    )
    found = measure_autocorrelation(two, draws=DRAWS)
    assert all(one is None or one.lags[-1] <= 20 for one in found.pixels)
    _, which = gaps(two.positions, two.positions, themselves=True)
    assert (second[which] == second).all()
    assert block_split(two, None, None, 3, 0) is not None
    assert np.isinf(gaps(two.positions[second == 0], two.positions[second == 1])[0]).all()
    apart = Split(second.astype(np.int8), second, two.fingerprint)
    (finding,) = found_by(DistanceCheck, two, apart, autocorrelation=found)
    assert (finding.severity, "in different volumes" in finding.title) == ("note", True)
    assert json.loads(json.dumps(finding.numbers, allow_nan=False))["overlapping"] == 0
    assert found_by(TransferCheck, two, apart) == []


def test_options_without_effect_raise_an_error(tmp_path, monkeypatch, capfd):
    dense(step=40).save(tmp_path / "patches.zarr")
    for option in ("epochs", "depth"):
        command = f"audit patches.zarr --{option} 8"
        check_refused(tmp_path, monkeypatch, capfd, command, f"--{option}: needs --full")
