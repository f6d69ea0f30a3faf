"""Patches are found at their origin, whatever their brightness and contrast."""

from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from outcrop.errors import OutcropError
from outcrop.executors import Threads, executor
from outcrop.locating import find as find_module
from outcrop.locating.correlation import (
    SliceSpectrum,
    Template,
    compare,
    sparse_correlation,
    spectra,
    standardise,
)
from outcrop.locating.find import find
from outcrop.locating.planes import Patches, Planes, Slab, filled, in_memory
from outcrop.locating.refinement import View, climb, refine
from outcrop.locating.search import Candidates, _strips, compared_slices, scan, spacing
from outcrop.locating.signature import design
from outcrop.patches.flips import FLIPS, flip
from outcrop.sources.opening import open_scene
from outcrop.sources.volumes import open_volume
from tests.rasters import write_raster

SIZE = 24


@pytest.fixture(autouse=True)
def _searched_like_large_cubes(monkeypatch):
    # In cubes as small as these every window would be correlated.
    monkeypatch.setattr(find_module, "_EXHAUSTIVE", 0)
    monkeypatch.setattr(find_module, "_UNSETTLED", 0)


@pytest.fixture(scope="module")
def cube(tmp_path_factory):
    """A small cube whose neighbouring slices are similar, and its file."""
    noise = np.random.default_rng(0).normal(size=(12, 70, 90))
    samples = gaussian_filter(noise, (1, 2, 1)).astype(np.float32)
    path = tmp_path_factory.mktemp("cube") / "cube.npy"
    np.save(path, samples)
    return samples, path


def _patches(samples: np.ndarray, axis: int, n: int, seed: int, size: int = SIZE):
    """8-bit patches with random gain and offset, and slice, row and column of each."""
    stack, rng = np.moveaxis(samples, axis, 0), np.random.default_rng(seed)
    most = np.subtract(stack.shape, (1, size, size)) + 1
    places = rng.integers(most, size=(n, 3))
    images = np.stack([stack[i, r : r + size, c : c + size] for i, r, c in places])
    low, high = images.min(axis=(1, 2), keepdims=True), images.max(axis=(1, 2), keepdims=True)
    span = rng.uniform(60, 250, size=(n, 1, 1))
    return np.round((images - low) / (high - low) * span).astype(np.uint8)[:, None], places


def _found(images, planes, flips=("none",)):
    """The peaks of every patch by falling score."""
    with executor() as workers:
        return [one.ranked for one in find(Patches(images, None, flips), planes, workers)]


def _at(peaks):
    """Slice, row and column of the best peak of every patch."""
    return [one[0].place[2:] for one in peaks]


@pytest.mark.parametrize("masked", [False, True])
def test_the_coefficient_is_pearsons_correlation(masked):
    rng = np.random.default_rng(1)
    region, patch = rng.normal(size=(2, 1, 9, 8)), rng.normal(size=(1, 6, 5))
    missing = rng.random((6, 5)) < 0.3 if masked else np.zeros((6, 5), bool)
    template = Template.of(np.where(missing, 99, patch), missing)
    pixels = region.astype(np.float32)
    every = template.correlate(pixels), sparse_correlation([pixels], [template], 16)[0]
    for k, i, j in np.ndindex(2, 4, 4):
        window = region[k, :, i : i + 6, j : j + 5]
        expected = np.corrcoef(window[0][~missing], patch[0][~missing])[0, 1]
        assert compare([template], [window])[0].score == pytest.approx(expected)
        for found in every:
            assert found[k, i, j] == pytest.approx(expected, abs=1e-5)


def test_flat_windows_and_patches_have_a_correlation_of_zero():
    for value in (0, 7, 0.1, -1e6):
        assert not standardise(np.full((1, 1, 150, 150), value, np.float32)).any()
        (fit,) = compare([Template.of(np.full((1, 9, 9), value))], [np.ones((1, 9, 9))])
        assert fit.score == 0
    assert not standardise(np.full((1, 1, 4, 4), 7, np.uint8)).any()
    ramp, flat = Template.of(np.arange(16.0).reshape(1, 4, 4)), np.full((1, 1, 6, 6), 3, np.float32)
    assert not ramp.correlate(flat).any()
    assert not sparse_correlation([flat], [ramp], 16).any()


@pytest.mark.parametrize("bands", [1, 3])
def test_correlation_of_a_whole_slice_equals_that_of_its_windows(bands):
    rng = np.random.default_rng(28)
    pixels = (1000 + 50 * rng.normal(size=(bands, 40, 57))).astype(np.float32)
    pixels[:, :14, :17] = 3
    patches = standardise(pixels[None, :, 5:16, 20:33] + rng.normal(size=(4, bands, 11, 13)))
    found = SliceSpectrum(pixels, (11, 13)).correlate(spectra(patches, (40, 57)))
    pictures = [Template.of(patch.astype(np.float64)) for patch in patches]
    expected = np.concatenate([one.correlate(pixels[None]) for one in pictures])
    assert found == pytest.approx(expected, abs=1e-4)
    assert found[:, 0, 0] == pytest.approx(0, abs=1e-4)
    assert found.reshape(4, -1).argmax(axis=1).tolist() == [5 * (57 - 13 + 1) + 20] * 4


@pytest.mark.parametrize("axis", [0, 1])
def test_every_patch_is_found_exactly(cube, axis):
    samples, path = cube
    # A slice perpendicular to axis 1 is 12 × 90 here, too low for the patches.
    samples, axis = (samples, 0) if axis == 0 else (samples.transpose(1, 0, 2), 1)
    if axis:
        path = path.with_name("transposed.npy")
        np.save(path, np.ascontiguousarray(samples))
    images, places = _patches(samples, axis, 60, seed=2)
    peaks = _found(images, [Planes(open_volume(path), axis)])
    assert _at(peaks) == [tuple(place) for place in places]
    assert min(one[0].score for one in peaks) > 0.995


@pytest.mark.parametrize("name", list(FLIPS))
def test_a_flipped_or_rotated_patch_is_found_with_its_orientation(cube, name):
    samples, path = cube
    images, places = _patches(samples, 0, 5, seed=3)
    flipped = np.ascontiguousarray(flip(images, name))
    peaks = _found(flipped, [Planes(open_volume(path), 0)], tuple(FLIPS))
    assert [one[0].place for one in peaks] == [
        (2 * list(FLIPS).index(name), 0, *place) for place in places.tolist()
    ]


def test_patches_of_another_source_fit_worse_than_noisy_ones_of_the_cube(cube):
    samples, path = cube
    rng = np.random.default_rng(4)
    images, places = _patches(samples, 0, 20, seed=5)
    spread = images.std(axis=(2, 3), keepdims=True)
    noisy = images + rng.normal(size=images.shape) * spread * 10 ** (-10 / 20)
    others = gaussian_filter(rng.normal(size=(20, 1, SIZE, SIZE)), (0, 0, 2, 1))
    peaks = _found(np.concatenate([noisy, others]), [Planes(open_volume(path), 0)])
    scores = [one[0].score for one in peaks]
    assert min(scores[:20]) > 0.9 > 0.8 > max(scores[20:])
    assert [one[0].place[2:] for one in peaks[:20]] == [tuple(p) for p in places.tolist()]


def test_a_repeated_search_gives_the_same_peaks(cube):
    samples, path = cube
    images, _ = _patches(samples, 0, 20, seed=6)
    planes = [Planes(open_volume(path), 0)]
    assert _known(_found(images, planes)) == _known(_found(images, planes))


def _known(peaks):
    return [[(peak.place, peak.score, peak.lead) for peak in one] for one in peaks]


def test_an_ascent_continues_beyond_the_pixels_that_were_read(monkeypatch, tmp_path):
    # Smooth across the slices, so that the ascent works from far away.
    noise = np.random.default_rng(15).normal(size=(32, 70, 90))
    samples, path = gaussian_filter(noise, (3, 2, 1)).astype(np.float32), tmp_path / "cube.npy"
    np.save(path, samples)
    images, places = _patches(samples, 0, 20, seed=10)
    planes = [Planes(open_volume(path), 0)]
    monkeypatch.setattr("outcrop.locating.planes._SLAB_SAMPLES", 1)
    read, box = [], View._box

    def recorded(view, *arguments):
        read.append(view._slab)
        return box(view, *arguments)

    monkeypatch.setattr(View, "_box", recorded)
    patches = Patches(images, None, ("none",))
    # The ascent crosses slabs; each is read with a few slices around it.
    for away, ascend in ((3, partial(refine, reach=(1, 2, 2))), (13, climb)):
        wanted = [(k, (0, 0, min(i + away, 31), *at)) for k, (i, *at) in enumerate(places.tolist())]
        read.clear()
        with executor() as workers:
            found = dict(ascend(wanted, patches=patches, planes=planes, executor=workers))
        assert all(peak.converged for peak in found.values())
        if away == 3:
            assert [found[k].place[2:] for k in range(20)] == [tuple(p) for p in places.tolist()]
        assert len({slab.first for slab in read}) > 1


def test_one_slice_represents_its_neighbours_where_they_are_similar(tmp_path):
    noise = np.random.default_rng(20).normal(size=(30, 70, 90))
    found = []
    for smooth in (0, 2, 6):
        samples = gaussian_filter(noise, (smooth, 2, 1)).astype(np.float32)
        np.save(tmp_path / "cube.npy", samples)
        images, places = _patches(samples, 0, 20, seed=21)
        planes = Planes(open_volume(tmp_path / "cube.npy"), 0)
        found.append(spacing(planes, design(images, 700)))
        peaks = _found(images, [planes])
        assert [one[0].place[2:] for one in peaks] == [tuple(place) for place in places.tolist()]
    assert found == [1, 3, 5]


@given(first=st.integers(0, 9), count=st.integers(1, 40), spacing=st.sampled_from([1, 3, 5]))
def test_no_slice_is_far_from_a_compared_one(first, count, spacing):
    slab = Slab(first, first + count, 0, 0, 9, 9)
    seen = np.array(compared_slices(slab, spacing))
    assert ((seen >= first) & (seen < first + count)).all()
    every = np.arange(first, first + count)
    assert np.abs(every[:, None] - seen).min(axis=1).max() <= spacing // 2
    assert len(seen) <= count / spacing + 1


def test_a_patch_is_found_in_the_slices_of_the_axis_it_was_cut_from(tmp_path):
    samples = gaussian_filter(np.random.default_rng(11).normal(size=(40, 44, 48)), (1, 2, 1))
    np.save(tmp_path / "cube.npy", samples.astype(np.float32))
    volume = open_volume(tmp_path / "cube.npy")
    cut = [_patches(samples, axis, 5, seed=axis) for axis in range(3)]
    images = np.concatenate([images for images, _ in cut])
    peaks = _found(images, [Planes(volume, axis) for axis in range(3)])
    expected = [(axis, *place) for axis in range(3) for place in cut[axis][1].tolist()]
    assert [one[0].place[1:] for one in peaks] == expected


@pytest.mark.parametrize("exhaustive", [0, np.inf])
def test_the_next_pass_finds_what_the_coarse_pass_misses(tmp_path, monkeypatch, exhaustive):
    samples = gaussian_filter(np.random.default_rng(27).normal(size=(40, 44, 48)), (1, 2, 1))
    np.save(tmp_path / "cube.npy", samples.astype(np.float32))
    volume = open_volume(tmp_path / "cube.npy")
    cut = [_patches(samples, axis, 5, seed=axis) for axis in (0, 1)]

    def blind(*arguments):
        # Signatures give no candidates in slices of axis 1.
        if arguments[2] == 1:
            return Candidates.empty(arguments[4].shape[1], arguments[-2])
        return scan(*arguments)

    monkeypatch.setattr("outcrop.locating.find.scan", blind)
    monkeypatch.setattr("outcrop.locating.find._EXHAUSTIVE", exhaustive)
    monkeypatch.setattr("outcrop.locating.find._UNSETTLED", exhaustive)
    images = np.concatenate([images for images, _ in cut])
    peaks = _found(images, [Planes(volume, axis) for axis in (0, 1)])
    expected = [(axis, *place) for axis in (0, 1) for place in cut[axis][1].tolist()]
    assert [one[0].place[1:] for one in peaks] == expected


def test_patches_of_a_scene_are_found_in_all_its_bands(tmp_path, monkeypatch):
    monkeypatch.setattr("outcrop.locating.planes._TILE", 100)
    noise = np.random.default_rng(12).normal(size=(3, 230, 260))
    pixels = gaussian_filter(noise, (0, 1.5, 1.5)).astype(np.float32)
    scene = open_scene(write_raster(tmp_path / "scene.tif", pixels))
    places = np.random.default_rng(13).integers((230 - SIZE + 1, 260 - SIZE + 1), size=(30, 2))
    images = np.stack([pixels[:, r : r + SIZE, c : c + SIZE] for r, c in places])
    brighter = images * np.array([2, 0.5, 9])[:, None, None] + 4
    peaks = _found(brighter.astype(np.float32), [Planes(scene, -1)])
    assert [one[0].place[2:] for one in peaks] == [(0, *place) for place in places.tolist()]


@pytest.fixture(scope="module")
def cluster(forked_workers):
    """A Dask cluster of two processes on this machine."""
    from distributed import LocalCluster

    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as made:
        yield made


def test_two_workers_of_a_cluster_and_one_process_find_the_same(cube, cluster):
    samples, path = cube
    images, _ = _patches(samples, 0, 20, seed=14)
    planes = [Planes(open_volume(path), 0)]
    with executor(cluster.scheduler_address) as workers:
        found = [one.ranked for one in find(Patches(images, None, ("none",)), planes, workers)]
    assert _known(found) == _known(_found(images, planes))


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:1", "nonsense://here", "tcp://no port"])
def test_a_cluster_that_does_not_answer_raises_an_error(monkeypatch, address):
    monkeypatch.setattr("outcrop.executors._TIMEOUT", 0.5)
    refused = pytest.raises(OutcropError, match=r"^`scheduler`: no Dask scheduler answers at")
    with refused, executor(address):
        pass


def test_slabs_hold_every_window_of_large_slices_once(monkeypatch, cube):
    monkeypatch.setattr("outcrop.locating.planes._TILE", 40)
    planes = Planes(open_volume(cube[1]), 0)
    count = np.zeros((70, 90), int)
    window = (9, 10)
    for slab in planes.slabs(window):
        if slab.first == 0:
            count[
                slab.top : slab.top + slab.height - window[0] + 1,
                slab.left : slab.left + slab.width - window[1] + 1,
            ] += 1
    assert (count[: 70 - 8, : 90 - 9] == 1).all()
    assert not count[70 - 8 :].any()


def test_signatures_do_not_change_with_gain_and_offset():
    images = np.random.default_rng(7).normal(size=(6, 1, 32, 32)).astype(np.float32)
    signature = design(images, 700)
    expected = signature.of_patches(images)
    assert signature.of_patches(5 * images + 90) == pytest.approx(expected, abs=1e-4)


def test_a_window_has_the_signature_of_the_patch_cut_there():
    pixels = np.random.default_rng(8).normal(size=(1, 80, 100)).astype(np.float32)
    signature = design(np.random.default_rng(9).normal(size=(4, 1, 60, 64)).astype(np.float32), 8)
    grid = signature.grid(80, 100)
    every = signature.of_slice(pixels)
    assert len(every) == grid.rows * grid.columns
    for window in (0, len(every) // 2, len(every) - 1):
        row, column = grid.place(np.array(window))
        patch = pixels[None, :, row : row + 60, column : column + 64]
        assert every[window] == pytest.approx(signature.of_patches(patch)[0], abs=1e-4)


def test_missing_samples_get_the_mean_of_the_rest():
    pixels = np.array([[[[1, 3], [np.nan, np.inf]]]])
    assert filled(pixels).ravel().tolist() == [1, 3, 2, 2]


@pytest.mark.parametrize("fully", [0, np.inf])
def test_a_fine_pass_finds_many_patches_as_well_as_few(cube, monkeypatch, fully):
    # Few patches are compared by correlation, many by signatures.
    samples, path = cube
    images, places = _patches(samples, 0, 15, seed=29)
    settings = replace(find_module._FINE, fully=fully)
    monkeypatch.setattr("outcrop.locating.find._COARSE", settings)
    peaks = _found(images, [Planes(open_volume(path), 0)])
    assert [one[0].place[2:] for one in peaks] == [tuple(place) for place in places.tolist()]


def test_places_are_read_one_by_one_only_if_that_reads_less(tmp_path, cube):
    import zarr

    samples, path = cube
    zarr.create_array(tmp_path / "cube.zarr", data=samples, chunks=(12, 70, 90))
    for axis in range(3):
        small = Slab(3, 4, 5, 6, 7, 8) if axis == 0 else Slab(30, 31, 2, 6, 7, 8)
        planes = Planes(open_volume(tmp_path / "cube.zarr"), axis)
        # All of it is one chunk.
        whole = Slab(0, planes.count, 0, 0, *planes.size)
        assert planes.cost(small) == planes.cost(whole) == 12 * 70 * 90
    planes = Planes(open_volume(path), 0)
    assert planes.cost(Slab(3, 4, 5, 6, 7, 8)) == 7 * 64
    assert planes.cost(Slab(0, 12, 0, 0, 70, 90)) == 12 * 70 * 128


@pytest.mark.parametrize("one_by_one", [False, True])
def test_places_read_one_by_one_and_slabs_give_the_same_result(tmp_path, monkeypatch, one_by_one):
    samples = gaussian_filter(np.random.default_rng(30).normal(size=(60, 70, 90)), (1, 2, 1))
    np.save(tmp_path / "cube.npy", samples.astype(np.float32))
    images, places = _patches(samples, 0, 12, seed=31)
    boxes, read_box = [], Planes.open

    @contextmanager
    def recorded(planes):
        with read_box(planes) as read:
            yield lambda slab: boxes.append(slab.last - slab.first) or read(slab)

    # Many slices together cost far more than few, or every box costs the same.
    monkeypatch.setattr(
        Planes, "cost", lambda _, slab: 2 ** (slab.last - slab.first) if one_by_one else 1
    )
    monkeypatch.setattr(Planes, "open", recorded)
    monkeypatch.setattr("outcrop.locating.planes._SLABS", 1)
    monkeypatch.setattr("outcrop.locating.planes._HELD_SAMPLES", 0)
    peaks = _found(images, [Planes(open_volume(tmp_path / "cube.npy"), 0)])
    assert [one[0].place[2:] for one in peaks] == [tuple(place) for place in places.tolist()]
    assert (max(boxes) == 60) != one_by_one


@pytest.mark.parametrize("missing", [False, True])
def test_planes_in_memory_and_on_disk_give_the_same_result(tmp_path, monkeypatch, missing):
    samples = gaussian_filter(np.random.default_rng(32).normal(size=(40, 50, 90)), (1, 2, 1))
    images, _ = _patches(samples, 2, 8, seed=33)
    if missing:
        samples[:9, :, 40:] = np.nan
    np.save(tmp_path / "cube.npy", samples.astype(np.float32))
    peaks = []
    for most in (samples.size, samples.size - 1):
        monkeypatch.setattr("outcrop.locating.planes._HELD_SAMPLES", most)
        planes = [Planes(open_volume(tmp_path / "cube.npy"), 2)]
        (held,) = in_memory(planes, (12, 12), Threads(2))
        assert (held is planes[0]) == (most < samples.size)
        found = _found(images, planes)
        # Missing samples get the mean of the slab that is read, and slabs differ.
        peaks.append([(one[0].place, missing or one[0].score) for one in found])
    assert peaks[0] == peaks[1]


@given(st.integers(1, 60), st.integers(1, 60), st.integers(0, 40))
def test_strips_hold_every_window_once(height, window, rows):
    window = min(window, height)
    strips = list(_strips(height, window, rows))
    held = [top + row for top, part in strips for row in range(part - window + 1)]
    assert held == list(range(height - window + 1))
    assert max(part for _, part in strips) <= max(2 * window, rows + window) - 1


@pytest.mark.parametrize("fully", [0, np.inf])
def test_large_slices_are_searched_in_strips(cube, monkeypatch, fully):
    monkeypatch.setattr("outcrop.locating.search._SIGNATURE_NUMBERS", 1)
    monkeypatch.setattr("outcrop.locating.search._SPECTRA_SAMPLES", 1)
    samples, path = cube
    images, places = _patches(samples, 0, 15, seed=32)
    settings = replace(find_module._FINE, fully=fully)
    monkeypatch.setattr("outcrop.locating.find._COARSE", settings)
    peaks = _found(images, [Planes(open_volume(path), 0)])
    assert [one[0].place[2:] for one in peaks] == [tuple(place) for place in places.tolist()]


def test_signatures_fit_the_layers_of_the_source_if_patches_were_rotated(tmp_path, monkeypatch):
    # Layers along the rows: the stride may be larger down the slice than across.
    noise = np.random.default_rng(25).normal(size=(4, 200, 320))
    samples = gaussian_filter(noise, (0.5, 12, 0.7)).astype(np.float32)
    np.save(tmp_path / "cube.npy", samples)
    images, places = _patches(samples, 0, 40, seed=26, size=64)
    names = [list(FLIPS)[k % 8] for k in range(40)]
    rotated = np.stack([flip(image, name) for image, name in zip(images, names, strict=True)])
    strides = []

    def recorded(*arguments):
        strides.append(design(*arguments).stride)
        return design(*arguments)

    monkeypatch.setattr("outcrop.locating.find.design", recorded)
    monkeypatch.setattr("outcrop.locating.find._COARSE", replace(find_module._COARSE, windows=256))
    peaks = _found(rotated, [Planes(open_volume(tmp_path / "cube.npy"), 0)], tuple(FLIPS))
    expected = [
        (2 * list(FLIPS).index(name), 0, *place)
        for name, place in zip(names, places.tolist(), strict=True)
    ]
    assert [one[0].place for one in peaks] == expected
    assert strides == [(8, 2)]
