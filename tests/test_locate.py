"""Patches are found where they were cut, whatever was done to their brightness."""

from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from outcrop.crew import crew
from outcrop.errors import OutcropError
from outcrop.locating import find as find_module
from outcrop.locating.correlation import Picture, correlate, spectra, standardise
from outcrop.locating.find import find
from outcrop.locating.planes import Planes, Slab, filled
from outcrop.locating.search import Candidates, _strips, looked_at, scan, scan_fully, spacing
from outcrop.locating.signature import design
from outcrop.patches.flips import FLIPS, flip, unflip
from outcrop.sources.opening import open_scene
from outcrop.sources.volumes import open_volume
from tests.rasters import write_raster

SIZE = 24


@pytest.fixture(scope="module")
def cube(tmp_path_factory):
    """A small cube whose neighbouring slices look alike, and its file."""
    noise = np.random.default_rng(0).normal(size=(12, 70, 90))
    samples = gaussian_filter(noise, (1, 2, 1)).astype(np.float32)
    path = tmp_path_factory.mktemp("cube") / "cube.npy"
    np.save(path, samples)
    return samples, path


def _patches(samples: np.ndarray, axis: int, n: int, seed: int, size: int = SIZE):
    """8-bit patches of drawn gain and offset, and slice, row and column of each."""
    stack, dice = np.moveaxis(samples, axis, 0), np.random.default_rng(seed)
    most = np.subtract(stack.shape, (1, size, size)) + 1
    places = dice.integers(most, size=(n, 3))
    images = np.stack([stack[i, r : r + size, c : c + size] for i, r, c in places])
    low, high = images.min(axis=(1, 2), keepdims=True), images.max(axis=(1, 2), keepdims=True)
    span = dice.uniform(60, 250, size=(n, 1, 1))
    return np.round((images - low) / (high - low) * span).astype(np.uint8)[:, None], places


def _found(variants, planes):
    with crew() as workers:
        return find(variants, planes, workers)


def test_the_coefficient_is_that_of_pearson():
    dice = np.random.default_rng(1)
    region, patch = dice.normal(size=(1, 9, 8)), dice.normal(size=(1, 1, 6, 5))
    found = correlate(region[None, None].astype(np.float32), standardise(patch))[0, 0]
    for i in range(4):
        for j in range(4):
            window = region[0, i : i + 6, j : j + 5].ravel()
            expected = np.corrcoef(window, patch.ravel())[0, 1]
            assert found[i, j] == pytest.approx(expected, abs=1e-5)


def test_flat_windows_and_patches_correlate_with_nothing():
    for value in (0, 7, 0.1, -1e6):
        assert not standardise(np.full((1, 1, 150, 150), value, np.float32)).any()
    assert not standardise(np.full((1, 1, 4, 4), 7, np.uint8)).any()
    assert not correlate(np.full((1, 1, 1, 6, 6), 3, np.float32), standardise(_ramp())).any()


@pytest.mark.parametrize("bands", [1, 3])
def test_a_whole_picture_is_correlated_as_its_windows_are(bands):
    dice = np.random.default_rng(28)
    pixels = (1000 + 50 * dice.normal(size=(bands, 40, 57))).astype(np.float32)
    pixels[:, :14, :17] = 3
    patches = standardise(pixels[None, :, 5:16, 20:33] + dice.normal(size=(4, bands, 11, 13)))
    found = Picture(pixels, (11, 13)).correlate(spectra(patches, (40, 57)))
    expected = correlate(np.repeat(pixels[None, None], 4, axis=0), patches)[:, 0]
    assert found == pytest.approx(expected, abs=1e-4)
    assert found[:, 0, 0] == pytest.approx(0, abs=1e-4)
    assert found.reshape(4, -1).argmax(axis=1).tolist() == [5 * (57 - 13 + 1) + 20] * 4


def _ramp() -> np.ndarray:
    return np.arange(16.0).reshape(1, 1, 4, 4)


@pytest.mark.parametrize("axis", [0, 1])
def test_every_patch_is_found_exactly(cube, axis):
    samples, path = cube
    # A slice across axis 1 is 12 × 90 here, too low for the patches.
    samples, axis = (samples, 0) if axis == 0 else (samples.transpose(1, 0, 2), 1)
    if axis:
        path = path.with_name("turned.npy")
        np.save(path, np.ascontiguousarray(samples))
    images, places = _patches(samples, axis, 60, seed=2)
    peaks = _found([images], [Planes(open_volume(path), axis)])
    found = [(one[0].index, one[0].row, one[0].column) for one in peaks]
    assert found == [tuple(place) for place in places]
    assert min(one[0].score for one in peaks) > 0.995


@pytest.mark.parametrize("name", list(FLIPS))
def test_a_patch_that_was_turned_over_is_found_and_its_turn_named(cube, name):
    samples, path = cube
    images, places = _patches(samples, 0, 5, seed=3)
    turned = np.ascontiguousarray(flip(images, name))
    variants = [np.ascontiguousarray(unflip(turned, one)) for one in FLIPS]
    peaks = _found(variants, [Planes(open_volume(path), 0)])
    assert [one[0].place for one in peaks] == [
        (list(FLIPS).index(name), 0, *place) for place in places.tolist()
    ]


def test_foreign_patches_fit_worse_than_noisy_ones_of_the_cube(cube):
    samples, path = cube
    dice = np.random.default_rng(4)
    images, places = _patches(samples, 0, 20, seed=5)
    spread = images.std(axis=(2, 3), keepdims=True)
    noisy = images + dice.normal(size=images.shape) * spread * 10 ** (-10 / 20)
    foreign = gaussian_filter(dice.normal(size=(20, 1, SIZE, SIZE)), (0, 0, 2, 1))
    peaks = _found([np.concatenate([noisy, foreign])], [Planes(open_volume(path), 0)])
    scores = [one[0].score for one in peaks]
    assert min(scores[:20]) > 0.9 > 0.8 > max(scores[20:])
    assert [one[0].place[2:] for one in peaks[:20]] == [tuple(p) for p in places.tolist()]


def test_the_same_search_gives_the_same_peaks(cube):
    samples, path = cube
    images, _ = _patches(samples, 0, 20, seed=6)
    planes = [Planes(open_volume(path), 0)]
    assert _found([images], planes) == _found([images], planes)


def test_a_climb_goes_on_beyond_what_was_read(monkeypatch, tmp_path):
    # Smooth across the slices, so that the way up is seen from two slices away.
    noise = np.random.default_rng(15).normal(size=(12, 70, 90))
    samples, path = gaussian_filter(noise, (3, 2, 1)).astype(np.float32), tmp_path / "cube.npy"
    np.save(path, samples)
    images, places = _patches(samples, 0, 20, seed=10)
    monkeypatch.setattr("outcrop.locating.planes._SLAB_SAMPLES", 1)
    monkeypatch.setattr("outcrop.locating.climb._BEYOND", 1)
    monkeypatch.setattr("outcrop.locating.find._LOOKS", find_module._LOOKS[:1])
    # Away from the right slice, so that only climbing from slab to slab can find it.
    monkeypatch.setattr("outcrop.locating.find.scan", _beside)
    peaks = _found([images], [Planes(open_volume(path), 0)])
    assert [one[0].place[2:] for one in peaks] == [tuple(place) for place in places.tolist()]
    assert all(peak.settled for one in peaks for peak in one)


def _beside(*arguments) -> Candidates:
    """Candidates two slices after the best ones."""
    found = scan(*arguments)
    found.index[...] = np.minimum(found.index + 2, 11)
    return found


def test_one_slice_stands_for_its_neighbours_where_they_are_alike(tmp_path):
    noise = np.random.default_rng(20).normal(size=(30, 70, 90))
    found = []
    for smooth in (0, 2, 6):
        samples = gaussian_filter(noise, (smooth, 2, 1)).astype(np.float32)
        np.save(tmp_path / "cube.npy", samples)
        images, places = _patches(samples, 0, 20, seed=21)
        planes = Planes(open_volume(tmp_path / "cube.npy"), 0)
        found.append(spacing(planes, design(images, 700)))
        peaks = _found([images], [planes])
        assert [one[0].place[2:] for one in peaks] == [tuple(place) for place in places.tolist()]
    assert found == [1, 3, 5]


@given(first=st.integers(0, 9), count=st.integers(1, 40), spacing=st.sampled_from([1, 3, 5]))
def test_no_slice_is_far_from_one_that_is_looked_at(first, count, spacing):
    slab = Slab(first, first + count, 0, 0, 9, 9)
    seen = np.array(looked_at(slab, spacing))
    assert ((seen >= first) & (seen < first + count)).all()
    every = np.arange(first, first + count)
    assert np.abs(every[:, None] - seen).min(axis=1).max() <= spacing // 2
    assert len(seen) <= count / spacing + 1


def test_a_patch_is_found_across_the_axis_it_was_cut_across(tmp_path):
    samples = gaussian_filter(np.random.default_rng(11).normal(size=(40, 44, 48)), (1, 2, 1))
    np.save(tmp_path / "cube.npy", samples.astype(np.float32))
    volume = open_volume(tmp_path / "cube.npy")
    cut = [_patches(samples, axis, 5, seed=axis) for axis in range(3)]
    images = np.concatenate([images for images, _ in cut])
    peaks = _found([images], [Planes(volume, axis) for axis in range(3)])
    expected = [(axis, *place) for axis in range(3) for place in cut[axis][1].tolist()]
    assert [one[0].place[1:] for one in peaks] == expected


def test_what_is_not_where_the_others_are_is_looked_for_elsewhere(tmp_path, monkeypatch):
    samples = gaussian_filter(np.random.default_rng(27).normal(size=(40, 44, 48)), (1, 2, 1))
    np.save(tmp_path / "cube.npy", samples.astype(np.float32))
    volume = open_volume(tmp_path / "cube.npy")
    cut = [_patches(samples, axis, 5, seed=axis) for axis in (0, 1)]
    searched = []

    def blind(*arguments):
        # The first look sees nothing across axis 1.
        if arguments[2] == 1:
            return Candidates.none(arguments[4].shape[1], arguments[-1])
        return scan(*arguments)

    def recorded(*arguments):
        searched.append(arguments[2])
        return scan_fully(*arguments)

    monkeypatch.setattr("outcrop.locating.find.scan", blind)
    monkeypatch.setattr("outcrop.locating.find.scan_fully", recorded)
    images = np.concatenate([images for images, _ in cut])
    peaks = _found([images], [Planes(volume, axis) for axis in (0, 1)])
    expected = [(axis, *place) for axis in (0, 1) for place in cut[axis][1].tolist()]
    assert [one[0].place[1:] for one in peaks] == expected
    assert searched == sorted(searched)
    assert set(searched) == {0, 1}


def test_patches_of_a_scene_are_found_in_all_its_bands(tmp_path, monkeypatch):
    monkeypatch.setattr("outcrop.locating.planes._TILE", 100)
    noise = np.random.default_rng(12).normal(size=(3, 230, 260))
    pixels = gaussian_filter(noise, (0, 1.5, 1.5)).astype(np.float32)
    scene = open_scene(write_raster(tmp_path / "scene.tif", pixels))
    places = np.random.default_rng(13).integers((230 - SIZE + 1, 260 - SIZE + 1), size=(30, 2))
    images = np.stack([pixels[:, r : r + SIZE, c : c + SIZE] for r, c in places])
    brighter = images * np.array([2, 0.5, 9])[:, None, None] + 4
    peaks = _found([brighter.astype(np.float32)], [Planes(scene, -1)])
    assert [one[0].place[2:] for one in peaks] == [(0, *place) for place in places.tolist()]


@pytest.fixture(scope="module")
def cluster():
    """A Dask cluster of two processes on this machine."""
    from distributed import LocalCluster

    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as made:
        yield made


def test_two_workers_of_a_cluster_find_what_one_process_finds(cube, cluster):
    samples, path = cube
    images, _ = _patches(samples, 0, 20, seed=14)
    planes = [Planes(open_volume(path), 0)]
    with crew(cluster.scheduler_address) as workers:
        assert find([images], planes, workers) == _found([images], planes)


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:1", "nonsense://here", "tcp://no port"])
def test_a_cluster_that_does_not_answer_is_told(monkeypatch, address):
    monkeypatch.setattr("outcrop.crew._PATIENCE", 0.5)
    refused = pytest.raises(OutcropError, match=r"^--scheduler: no Dask scheduler answers at")
    with refused, crew(address):
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


def test_a_window_has_the_signature_of_the_patch_that_was_cut_there():
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


def test_patches_that_the_first_look_misses_are_found_by_a_closer_one(tmp_path, monkeypatch):
    # Grain so much finer than layers that a few windows of a slice tell nothing of it.
    dice = np.random.default_rng(22)
    layers = gaussian_filter(dice.normal(size=(5, 128, 256)), (2, 12, 12))
    grain = dice.normal(size=layers.shape)
    samples = np.where(np.arange(256) >= 128, grain, 60 * layers).astype(np.float32)
    np.save(tmp_path / "cube.npy", samples)
    loud, _ = _patches(samples[:, :, :128], 0, 60, seed=23, size=64)
    fine, places = _patches(samples[:, :, 128:], 0, 8, seed=24, size=64)
    places = np.add(places, (0, 0, 128))
    planes = [Planes(open_volume(tmp_path / "cube.npy"), 0)]
    few = replace(find_module._LOOKS[0], windows=64)
    exact = []
    for looks in ((few,), (few, *find_module._LOOKS[1:])):
        monkeypatch.setattr("outcrop.locating.find._LOOKS", looks)
        peaks = _found([np.concatenate([loud, fine])], planes)[60:]
        pairs = zip(peaks, places.tolist(), strict=True)
        exact.append(sum(one[0].place[2:] == tuple(place) for one, place in pairs))
    assert exact[0] < exact[1] == len(fine)


@pytest.mark.parametrize("fully", [0, np.inf])
def test_closer_looks_find_many_patches_and_few_alike(cube, monkeypatch, fully):
    # Few are compared in full, many by their signatures.
    samples, path = cube
    images, places = _patches(samples, 0, 15, seed=29)
    look = replace(find_module._LOOKS[1], fully=fully)
    monkeypatch.setattr("outcrop.locating.find._LOOKS", (look,))
    peaks = _found([images], [Planes(open_volume(path), 0)])
    assert [one[0].place[2:] for one in peaks] == [tuple(place) for place in places.tolist()]


def test_places_are_read_one_by_one_only_where_that_is_less(tmp_path, cube):
    import zarr

    samples, path = cube
    zarr.create_array(tmp_path / "cube.zarr", data=samples, chunks=(12, 70, 90))
    for axis in range(3):
        small = Slab(3, 4, 5, 6, 7, 8) if axis == 0 else Slab(30, 31, 2, 6, 7, 8)
        planes = Planes(open_volume(tmp_path / "cube.zarr"), axis)
        # All of it is one chunk.
        assert planes.cost(small) == planes.cost(planes.slabs((5, 5))[0]) == 12 * 70 * 90
    planes = Planes(open_volume(path), 0)
    assert planes.cost(Slab(3, 4, 5, 6, 7, 8)) == 7 * 64
    assert planes.cost(planes.slabs((5, 5))[0]) == 12 * 70 * 128


@pytest.mark.parametrize("one_by_one", [False, True])
def test_what_is_read_by_itself_is_found_like_what_is_read_in_slabs(
    tmp_path, monkeypatch, one_by_one
):
    samples = gaussian_filter(np.random.default_rng(30).normal(size=(60, 70, 90)), (1, 2, 1))
    np.save(tmp_path / "cube.npy", samples.astype(np.float32))
    images, places = _patches(samples, 0, 12, seed=31)
    boxes, read_box = [], Planes.open

    @contextmanager
    def recorded(planes):
        with read_box(planes) as read:
            yield lambda slab: boxes.append(slab.last - slab.first) or read(slab)

    # Many slices at once cost far more than few, or any box as much as all.
    monkeypatch.setattr(
        Planes, "cost", lambda _, slab: 2 ** (slab.last - slab.first) if one_by_one else 1
    )
    monkeypatch.setattr(Planes, "open", recorded)
    peaks = _found([images], [Planes(open_volume(tmp_path / "cube.npy"), 0)])
    assert [one[0].place[2:] for one in peaks] == [tuple(place) for place in places.tolist()]
    assert (max(boxes) == 60) != one_by_one


@given(st.integers(1, 60), st.integers(1, 60), st.integers(0, 40))
def test_strips_hold_every_window_once(height, window, rows):
    window = min(window, height)
    strips = list(_strips(height, window, rows))
    held = [top + row for top, part in strips for row in range(part - window + 1)]
    assert held == list(range(height - window + 1))
    assert max(part for _, part in strips) <= max(2 * window, rows + window) - 1


@pytest.mark.parametrize("fully", [0, np.inf])
def test_slices_are_searched_in_strips_where_they_are_large(cube, monkeypatch, fully):
    monkeypatch.setattr("outcrop.locating.search._SIGNATURE_NUMBERS", 1)
    monkeypatch.setattr("outcrop.locating.search._SPECTRA_SAMPLES", 1)
    samples, path = cube
    images, places = _patches(samples, 0, 15, seed=32)
    look = replace(find_module._LOOKS[1], fully=fully)
    monkeypatch.setattr("outcrop.locating.find._LOOKS", (look,))
    peaks = _found([images], [Planes(open_volume(path), 0)])
    assert [one[0].place[2:] for one in peaks] == [tuple(place) for place in places.tolist()]


def test_layers_are_described_as_they_lie_however_patches_were_turned(tmp_path, monkeypatch):
    # Layers along the rows: windows may lie further apart down the slice than across.
    noise = np.random.default_rng(25).normal(size=(4, 200, 320))
    samples = gaussian_filter(noise, (0.5, 12, 0.7)).astype(np.float32)
    np.save(tmp_path / "cube.npy", samples)
    images, places = _patches(samples, 0, 40, seed=26, size=64)
    ways = [list(FLIPS)[k % 8] for k in range(40)]
    turned = np.stack([flip(image, way) for image, way in zip(images, ways, strict=True)])
    strides = []

    def recorded(*arguments):
        strides.append(design(*arguments).stride)
        return design(*arguments)

    monkeypatch.setattr("outcrop.locating.find.design", recorded)
    monkeypatch.setattr(
        "outcrop.locating.find._LOOKS", (replace(find_module._LOOKS[0], windows=256),)
    )
    peaks = _found(
        [unflip(turned, way) for way in FLIPS], [Planes(open_volume(tmp_path / "cube.npy"), 0)]
    )
    expected = [
        (list(FLIPS).index(way), 0, *place)
        for way, place in zip(ways, places.tolist(), strict=True)
    ]
    assert [one[0].place for one in peaks] == expected
    assert strides == [(8, 2)]
