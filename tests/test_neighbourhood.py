"""Training patches cut again near their positions: positions, pixels, errors."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from affine import Affine
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from outcrop.errors import OutcropError
from outcrop.patches import windows
from outcrop.patches.cut import cut
from outcrop.patches.cut_volume import cut_volume
from outcrop.patches.flips import flip
from outcrop.patches.patchset import Column, PatchSet, read_patches
from outcrop.patches.positions import Positions, volume_positions
from outcrop.splits import RandomSplit, SlabSplit, Split, ZoneSplit
from outcrop.synthetic.damage import damage
from outcrop.training import batches
from outcrop.training.augment import draw, draw_gains, settled
from outcrop.training.batches import Epoch
from outcrop.training.cutter import Shifts, learn_rendering, neighbourhood_of, open_cutter
from outcrop.training.engine import train
from outcrop.training.normalise import Normalisation
from outcrop.training.pictures import load_pictures
from outcrop.training.recipe import Augmentation
from tests.command_line import check_refused, run
from tests.cubes import write_segy, write_stack, write_zarr
from tests.rasters import write_raster
from tests.test_cut_volume import SHAPE, classes, samples
from tests.test_splits_of_volumes import (
    SPLITTERS,
    anywhere,
    cube_patches,
    free_voxels,
    voxels,
)
from tests.tiny import NETWORK, RECIPE, assert_same, weights

AROUND = Augmentation(neighbourhood=3, slices=1)
AROUND_IN_PLANE = Augmentation(neighbourhood=3)
STILL = Augmentation(flip=False, gain=0, neighbourhood=3, slices=1)


# Positions


def patches_of(at: Positions, side: int, **more) -> PatchSet:
    return replace(cube_patches(at, **more), images=np.zeros((len(at), 1, side, side), np.uint8))


@st.composite
def splits(draw):
    """Patches at random positions in volumes, a spatial split, and its buffer."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    axes = draw(st.sampled_from([(0,), (1,), (2,), (0, 2), (0, 1, 2)]))
    side = draw(st.sampled_from([1, 8, 17]))
    n, volumes = draw(st.integers(30, 200)), draw(st.sampled_from([1, 2]))
    at = anywhere(rng, n, (side, side), axes, volumes)
    buffer = draw(st.sampled_from([0, 3, 20]))
    splitter = draw(st.sampled_from(SPLITTERS))(buffer, draw(st.integers(0, 9)))
    patches = patches_of(at, side)
    try:
        return patches, splitter.assign(patches, test=draw(st.booleans())), buffer
    except OutcropError:
        reject()  # no room for this buffer or these blocks


@given(
    some=splits(), pixels=st.sampled_from([0, 5, 30, 400]), slices=st.sampled_from([0, 2, 50]),
    seed=st.integers(0, 99),
)  # fmt: skip
@settings(max_examples=120, deadline=None)
def test_no_position_nor_its_opposite_is_outside_or_within_the_buffer(some, pixels, slices, seed):
    patches, split, buffer = some
    side = patches.size[0]
    around = neighbourhood_of(patches, split, pixels, slices)
    shifts = around.draw(np.random.default_rng(seed))
    assert len(shifts.by) == len(shifts.found) == len(split.train)
    assert (np.abs(shifts.by) <= (slices, pixels, pixels)).all()
    assert not shifts.by[~shifts.found].any()

    for by in (shifts.by, -shifts.by):
        there = around.moved(np.arange(len(split.train)), by)
        first, last = voxels(there, (side, side))
        assert (first >= 0).all()
        assert (last < patches.sources[0].shape).all()
        assert np.array_equal((first + last) / 2, there.middle)
        for judge in (split.validation, split.test):
            judging = patches.positions[judge]
            free = free_voxels((first, last), voxels(judging, (side, side)))
            assert (free[there.source[:, None] == judging.source] >= buffer).all()


def two_sides(index: int, row: int, column: int) -> tuple[PatchSet, Split]:
    """A training patch of 8 × 8 in the middle, a second far away, and a validation patch."""
    where = np.array([[60, 45, 75], [10, 10, 10], [index, row, column]]).T
    patches = patches_of(volume_positions(0, 0, *where, 8), 8, labels=np.array([0, 1, 0]))
    how = {"buffer": 2.0}
    return patches, Split(np.array([0, 0, 1], np.int8), np.arange(3), patches.fingerprint, how)


@pytest.mark.parametrize("judge", [(61, 45, 86), (60, 56, 70), (64, 45, 75)])
def test_every_allowed_position_is_equally_likely_and_no_other_is_drawn(judge):
    patches, split = two_sides(*judge)
    around = neighbourhood_of(patches, split, pixels=3, slices=2)
    random = np.random.default_rng(0)
    drawn = [around.draw(random) for _ in range(4000)]
    assert all(shifts.found.all() for shifts in drawn)
    seen, counts = np.unique([shifts.by[0] for shifts in drawn], axis=0, return_counts=True)

    reach = [np.arange(-2, 3), np.arange(-3, 4), np.arange(-3, 4)]
    every = np.stack(np.meshgrid(*reach, indexing="ij"), axis=-1).reshape(-1, 3)
    offset = np.array([60, 45, 75]) - judge
    gaps = [(np.abs(by + offset) - (1, 8, 8)).max(axis=1) for by in (every, -every)]
    allowed = every[np.minimum(*gaps) >= 2]
    assert np.array_equal(allowed, -allowed[::-1])
    assert 0 < len(allowed) < len(every)
    assert np.array_equal(seen, allowed)
    mean = 4000 / len(allowed)
    assert np.abs(counts - mean).max() < 5 * np.sqrt(mean)


def test_a_patch_without_room_stays_and_its_split_allowed_that():
    patches, split = two_sides(63, 45, 75)
    shut_in = replace(patches.positions, index=np.array([60, 10, 61]), z=np.array([60, 10, 61.0]))
    around = neighbourhood_of(replace(patches, positions=shut_in), split, pixels=3)
    assert around.draw(np.random.default_rng(0)).found.tolist() == [False, True]


def test_a_random_split_has_no_buffer():
    patches = patches_of(anywhere(np.random.default_rng(0), 200, (8, 8)), 8)
    around = neighbourhood_of(patches, RandomSplit().assign(patches), 20, 2)
    assert len(around.judges) == 0
    assert around.draw(np.random.default_rng(0)).found.all()


@pytest.mark.parametrize("crs", ["EPSG:32648", "EPSG:4326"])
def test_shifted_patches_of_scenes_lie_where_those_cut_there_do(tmp_path, crs):
    patches, _ = coast(tmp_path, crs)
    split = western_third(patches)
    around = neighbourhood_of(patches, split, pixels=6)
    shifts = around.draw(np.random.default_rng(0))
    inside = (around.reach >= 0).all(axis=1)
    assert not shifts.found[~inside].any()
    assert shifts.found[inside].mean() > 0.9
    there = around.moved(np.arange(len(split.train)), shifts.by)[shifts.found]
    at = patches.positions
    number = {place: i for i, place in enumerate(zip(at.row, at.column, strict=True))}
    same = [number[place] for place in zip(there.row, there.column, strict=True)]
    np.testing.assert_allclose(there.x, at.x[same], rtol=0, atol=1e-6)
    np.testing.assert_allclose(there.y, at.y[same], rtol=0, atol=1e-6)
    judging = at[np.concatenate([split.validation, split.test])]
    gap_x = np.abs(there.x[:, None] - judging.x) - at.width[0]
    gap_y = np.abs(there.y[:, None] - judging.y) - at.height[0]
    assert 25 - 1e-6 <= np.maximum(gap_x, gap_y).min() < 40
    top, left = there.row - 2, there.column - 2
    assert ((top >= 0) & (top <= 36) & (left >= 0) & (left <= 46)).all()


# Pixels


def coast(folder: Path, crs: str = "EPSG:32648", pixels: np.ndarray | None = None, **how):
    """A scene in which no two pixels are alike, and patches of 4 pixels at every pixel of it."""
    if pixels is None:
        pixels = (1 + np.arange(2 * 40 * 50)).reshape(2, 40, 50).astype("uint16")
    truth = np.ones((40, 50), "uint8")
    truth[:, 25:] = 2
    truth[20:] = 3 - truth[20:]
    grid = {} if crs == "EPSG:32648" else {"transform": DEGREES}
    scene = write_raster(folder / "scene.tif", pixels, crs=crs, **grid, **how)
    labels = write_raster(folder / "truth.tif", truth, crs=crs, **grid)
    return cut(scene, labels, size=4), pixels


def western_third(patches: PatchSet) -> Split:
    """A split with the western patches as validation side and a buffer of 25 metres."""
    x, y = patches.positions.x, patches.positions.y
    box = (x.min(), y.min(), float(np.quantile(x, 1 / 3)), y.max())
    return ZoneSplit(zones=(box,), buffer=25).assign(patches)


DEGREES = Affine(1e-4, 0, 105.2, 0, -1e-4, 9.8)


@pytest.fixture
def cube(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    np.save("cube.npy", samples())
    np.save("classes.npy", classes())
    return tmp_path


def some_of_cube(axis: int = 0, every: int = 5) -> tuple[PatchSet, Split]:
    """Patches of 4 × 4, and a split by slabs across axis 2 with a buffer."""
    patches = cut_volume("cube.npy", "classes.npy", axis, 4)
    patches = patches.subset(np.arange(0, len(patches), every))
    return patches, SlabSplit(axis=2, thickness=5, n_splits=3, buffer=1).assign(patches)


def expected(patches, split, shifts, pixels) -> np.ndarray:
    """The shifted windows by NumPy's `take`; pixels: bands × cube or scene."""
    side = patches.size[0]
    found = []
    at = patches.positions[split.train]
    outside = np.zeros((len(pixels), side, side))
    for i, (across, down, right) in enumerate(shifts.by):
        planes = pixels if at.axis[i] < 0 else np.take(pixels, at.index[i] + across, 1 + at.axis[i])
        top, left = at.row[i] + down - side // 2, at.column[i] + right - side // 2
        window = planes[:, max(top, 0) : top + side, max(left, 0) : left + side]
        found.append(window if window.shape == outside.shape else outside)
    return np.stack(found)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_windows_are_the_pixels_of_the_source(cube, axis):
    patches, split = some_of_cube(axis)
    with open_cutter(patches, split, AROUND) as cutter:
        shifts = cutter.draw(np.random.default_rng(1))
        images = cutter.cut(np.arange(len(split.train)), shifts)
        assert (np.abs(shifts.by) <= [1, 3, 3]).all()
        assert (np.abs(shifts.by).max(axis=0) > 0).all()
        assert images.dtype == patches.images.dtype
        assert np.array_equal(images, expected(patches, split, shifts, samples()[None]))
        some = np.array([7, 3, 7])
        assert np.array_equal(cutter.cut(some, shifts), images[some])


FORMATS = {
    "held.zarr": lambda path: write_zarr(path, samples()),
    "held.sgy": lambda path: write_segy(path, samples(), inlines=range(12), crosslines=range(20)),
    "big-endian.npy": lambda path: np.save(path, samples(">f8")),
    "fortran.npy": lambda path: np.save(path, np.asfortranarray(samples())),
    "stack": lambda path: write_stack(path, samples(), ".tif"),
}


@pytest.mark.parametrize("held", [True, False])
@pytest.mark.parametrize("name", FORMATS)
def test_held_mapped_or_read_one_by_one_they_are_the_same(cube, name, held, monkeypatch):
    monkeypatch.setattr(windows, "_HELD_BYTES", 1 << 20 if held else 0)
    patches, split = some_of_cube(1)
    FORMATS[name](Path(name))
    with (
        open_cutter(patches, split, AROUND) as mapped,
        open_cutter(patches, split, AROUND, [name]) as other,
    ):
        shifts = mapped.draw(np.random.default_rng(1))
        every = np.arange(len(split.train))
        assert np.array_equal(other.cut(every, shifts), mapped.cut(every, shifts))


@pytest.mark.parametrize("held", [True, False])
def test_windows_of_scenes_and_patches_over_the_edge(tmp_path, held, monkeypatch):
    monkeypatch.setattr(windows, "_HELD_BYTES", 1 << 20 if held else 0)
    patches, pixels = coast(tmp_path)
    split = western_third(patches)
    with open_cutter(patches, split, Augmentation(neighbourhood=6)) as cutter:
        shifts = cutter.draw(np.random.default_rng(0))
        images = cutter.cut(np.arange(len(split.train)), shifts)
    new = np.flatnonzero(shifts.found)
    some = replace(split, sides=np.where(np.isin(np.arange(len(patches)), split.train[new]), 0, 3))
    moved = Shifts(shifts.by[new], shifts.found[new])
    assert np.array_equal(images[new], expected(patches, some, moved, pixels))
    corner = neighbourhood_of(patches, split, 6).corner[:, 1:]
    assert (corner < 0).any()
    assert (corner[new] + shifts.by[new, 1:] >= 0).all()
    stay = np.flatnonzero(~shifts.found)
    assert np.array_equal(images[stay], patches.images[split.train[stay]])


def test_bands_are_found_by_name(tmp_path):
    _, pixels = coast(tmp_path)
    patches = cut(tmp_path / "scene.tif", tmp_path / "truth.tif", size=4, bands=[2], stride=3)
    split = RandomSplit().assign(patches)
    with open_cutter(patches, split, AROUND_IN_PLANE) as cutter:
        shifts = cutter.draw(np.random.default_rng(0))
        images = cutter.cut(np.arange(len(split.train)), shifts)
    found = shifts.found
    assert found.mean() > 0.8
    assert np.array_equal(images[found], expected(patches, split, shifts, pixels[1:])[found])


def test_a_patch_is_unchanged_if_a_pixel_has_no_data(tmp_path):
    pixels = np.random.default_rng(0).normal(size=(2, 40, 50)).astype("float32")
    pixels[1, 12, 20] = np.nan
    pixels[0, 30, 8] = -9999
    patches, _ = coast(tmp_path, pixels=pixels, nodata=-9999)
    split = RandomSplit().assign(patches)
    with open_cutter(patches, split, AROUND_IN_PLANE) as cutter:
        shifts = cutter.draw(np.random.default_rng(0))
        images = cutter.cut(np.arange(len(split.train)), shifts)
    own = patches.images[split.train]
    same = ((images == own) | np.isnan(own)).all(axis=(1, 2, 3))
    gaps = np.isnan(own).any(axis=(1, 2, 3))
    assert gaps.any()
    assert not np.isnan(images[~gaps]).any()
    pixels[0, 30, 8] = np.nan
    wanted = np.isnan(expected(patches, split, shifts, pixels)).any(axis=(1, 2, 3)) & shifts.found
    assert wanted.any()
    assert same[wanted].all()
    assert (~same).sum() > 0.8 * shifts.found.sum() > 0.6 * len(same)


# Patches that were changed


def texture(shape=SHAPE) -> np.ndarray:
    return np.random.default_rng(5).normal(size=shape).astype("float32")


@pytest.fixture
def damaged(cube) -> tuple[PatchSet, np.ndarray, object]:
    """8-bit patches with positions, each with its own contrast and flip."""
    np.save("cube.npy", texture())
    patches, _ = some_of_cube()
    images, labels, truth = damage(patches.images, patches.labels, seed=3, flips=True)
    names = tuple(np.unique(truth.flip))
    found = replace(
        patches,
        images=images,
        labels=labels,
        positions=patches.positions[truth.order],
        columns={"flip": Column(np.searchsorted(names, truth.flip), names)},
    )
    return found, truth


def test_gain_and_offset_of_each_band_are_learnt_and_applied_to_other_pixels():
    random = np.random.default_rng(0)
    windows_, others = random.normal(size=(2, 6, 3, 8, 8)).astype("float32")
    gain, offset = random.uniform(0.5, 40, (2, 6, 3))
    names = np.array(["none", "left-right", "up-down", "turn 90", "turn 270", "transpose"])

    def shown(pixels: np.ndarray) -> np.ndarray:
        exposed = pixels * gain[..., None, None] + offset[..., None, None]
        return np.stack([flip(one, name) for one, name in zip(exposed, names, strict=True)])

    patches = shown(windows_)
    windows_[2, 1, 3:5] = np.nan  # samples that are lost, and an empty and a constant band
    patches[3, 0] = np.nan
    windows_[4, 2] = patches[4, 2] = 7
    rendering, likeness = learn_rendering(patches, windows_, names)
    known = np.ones((6, 3), bool)
    known[3, 0] = known[4, 2] = False
    np.testing.assert_allclose(rendering.gain[known], gain[known], rtol=1e-5)
    np.testing.assert_allclose(rendering.offset[known], offset[known], rtol=1e-4)
    np.testing.assert_allclose(likeness, 1, rtol=1e-6)
    assert rendering.gain[~known].tolist() == [1, 1]
    assert rendering.offset[~known].tolist() == [0, 0]
    assert rendering.flip.tolist() == names.tolist()

    found, wanted = rendering.show(others, np.dtype("float32")), shown(others)
    np.testing.assert_allclose(found[known], wanted[known], rtol=1e-4, atol=1e-4)
    grey = rendering.show(others, np.dtype("uint8"))
    assert wanted[known].min() < 0
    rounded = np.clip(np.rint(found), 0, 255)
    assert np.array_equal(grey, rounded.astype("uint8"))


def test_windows_get_the_contrast_and_the_flip_of_their_patch(damaged):
    patches, truth = damaged
    split = RandomSplit().assign(patches)
    with open_cutter(patches, split, AROUND) as cutter:
        shifts = cutter.draw(np.random.default_rng(0))
        images = cutter.cut(np.arange(len(split.train)), shifts)
        assert cutter.alike.all()
        np.testing.assert_allclose(cutter.rendering.gain[:, 0], truth.gain[split.train], rtol=0.02)
    assert images.dtype == np.uint8
    raw = expected(patches, split, shifts, texture()[None])
    for image, window, i in zip(images, raw, split.train, strict=True):
        grey = np.clip(truth.gain[i] * window + truth.offset[i], 0, 255)
        assert np.abs(image - flip(grey, truth.flip[i])).max() <= 2.5


def test_a_wrong_flip_column_is_ignored(cube):
    np.save("cube.npy", texture())
    patches, split = some_of_cube()
    said = {"flip": Column(np.arange(len(patches)) % 2, ("turn 90", "none"))}
    with (
        open_cutter(patches, split, AROUND) as plain,
        open_cutter(replace(patches, columns=said), split, AROUND) as other,
    ):
        shifts = plain.draw(np.random.default_rng(0))
        every = np.arange(len(split.train))
        assert np.array_equal(plain.cut(every, shifts), other.cut(every, shifts))


def test_patches_that_differ_from_their_source_stay(cube, capfd):
    np.save("cube.npy", texture())
    patches, split = some_of_cube()
    strange = split.train[::4]
    images = patches.images.copy()
    images[strange] = np.random.default_rng(9).normal(size=(len(strange), 1, 4, 4))
    patches = replace(patches, images=images)
    with open_cutter(patches, split, AROUND) as cutter:
        shifts = cutter.draw(np.random.default_rng(0))
        assert not shifts.found[::4][~cutter.alike[::4]].any()
        stay = np.flatnonzero(~cutter.alike)
        assert 0 < len(stay) <= len(strange)
        assert np.array_equal(cutter.cut(stay, shifts), images[split.train[stay]])
    said = f"{len(stay)} of {len(split.train)} training patches are not what"
    assert said in capfd.readouterr().err


# Training


def plan(patches, split, number=0, parts=1, augmentation=STILL, cutter=None) -> Epoch:
    pictures = load_pictures(patches, split.train, torch.device("cpu"), cutter)
    recipe = replace(RECIPE, augmentation=augmentation)
    return Epoch(number, recipe, NETWORK, pictures, Normalisation((0.0,), (1.0,)), parts)


def seen(epoch: Epoch, rank: int = 0, world: int = 1, first: int = 0) -> list[torch.Tensor]:
    return [part.images for step in epoch.walk(first, rank, world) for part in step.parts]


def test_training_images_keep_the_buffer_in_every_epoch(cube):
    patches, split = some_of_cube()
    judging = voxels(patches.positions[split.validation], (4, 4))
    seen_places = set()
    with open_cutter(patches, split, STILL) as cutter:
        for number in range(10):
            images = torch.cat(seen(plan(patches, split, number, cutter=cutter))).numpy()
            corners = np.stack(np.unravel_index(images[:, 0, 0, 0].astype(int) - 1, SHAPE), axis=1)
            for image, (k, r, c) in zip(images[:, 0], corners, strict=True):
                assert np.array_equal(image, samples()[k, r : r + 4, c : c + 4])
            free = free_voxels((corners, corners + np.array([0, 3, 3])), judging)
            assert free.min() >= 1
            seen_places |= set(map(tuple, corners.tolist()))
    assert len(seen_places) > 2 * len(split.train)


def test_an_epoch_is_drawn_by_its_number_however_many_share_it(cube):
    patches, split = some_of_cube()
    with open_cutter(patches, split, STILL) as cutter:

        def images(number=0, rank=0, world=1, first=0):
            return seen(plan(patches, split, number, 4, cutter=cutter), rank, world, first)

        whole = images()
        assert all(torch.equal(a, b) for a, b in zip(whole, images(), strict=True))
        assert not torch.equal(torch.cat(whole), torch.cat(images(1)))
        assert all(torch.equal(a, b) for a, b in zip(whole[8:], images(first=2), strict=True))
        for rank in (0, 1):
            shared = images(rank=rank, world=2)
            assert all(torch.equal(a, b) for a, b in zip(whole[rank::2], shared, strict=True))


def test_all_other_random_numbers_are_unchanged(cube):
    patches, split = some_of_cube()
    with open_cutter(patches, split, AROUND) as cutter:
        augmentation = Augmentation(crop=2, gain=0.1)
        one = plan(patches, split, augmentation=augmentation)
        around = replace(augmentation, neighbourhood=3)
        other = plan(patches, split, augmentation=around, cutter=cutter)
        assert np.array_equal(one._order, other._order)
        assert torch.equal(one._moves.mirror, other._moves.mirror)
        assert torch.equal(one._gains, other._gains)
        assert torch.equal(one._centres, other._centres)


def test_cutting_anew_replaces_cropping_and_varies_the_gain(cube):
    random = np.random.default_rng(0)
    patches, _ = some_of_cube()
    around = settled(AROUND, patches)
    assert not draw(around, 50, (32, 32), random).down.any()
    assert draw(replace(around, crop=4), 50, (32, 32), random).down.any()
    gains = draw_gains(around, 500, 1, random).numpy()
    assert 0.095 < np.abs(gains - 1).max() <= 0.1 + 1e-6


RECIPE_AROUND = replace(RECIPE, batch=32, epochs=2, augmentation=AROUND)


def test_the_seed_decides_and_a_stopped_run_goes_on_to_the_same_end(cube, monkeypatch):
    patches, split = some_of_cube()
    one = train(patches, split, "one", NETWORK, RECIPE_AROUND, graph=False)
    patches.save("patches.zarr")
    write_zarr(Path("moved.zarr"), samples())
    lazy = read_patches("patches.zarr")
    monkeypatch.setattr(windows, "_HELD_BYTES", 0)
    Path("cube.npy").unlink()
    how = {"sources": ["moved.zarr"], "graph": False}
    assert_same(one, train(lazy, split, "two", NETWORK, RECIPE_AROUND, **how))

    calls = []
    real = batches.move

    def stop(*arguments):
        calls.append(None)
        if len(calls) == len(split.train) // 32 + 3:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(batches, "move", stop)
    with pytest.raises(KeyboardInterrupt):
        train(lazy, split, "three", NETWORK, RECIPE_AROUND, **how)
    monkeypatch.setattr(batches, "move", real)
    assert_same(one, train(lazy, split, "three", NETWORK, RECIPE_AROUND, resume=True, **how))

    without = replace(RECIPE_AROUND, augmentation=Augmentation(crop=0, gain=0.1))
    other = train(patches, split, "four", NETWORK, without, graph=False)
    assert not torch.equal(weights(one)["linear.weight"], weights(other)["linear.weight"])


# Through the command line


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    """Patch sets of a cube and a scene with their splits, and faulty ones."""
    folder, before = tmp_path_factory.mktemp("world"), Path.cwd()
    os.chdir(folder)
    try:
        np.save("cube.npy", samples())
        np.save("classes.npy", classes())
        patches, split = some_of_cube()
        patches.save("p.zarr")
        split.save("s.json")
        coast(folder)[0].subset(np.arange(0, 2000, 7)).save("scene.zarr")
        sources = patches.sources[0], replace(patches.sources[0], name="b.npy")
        replace(patches, sources=sources).save("two.zarr")
        high = replace(patches, images=np.repeat(patches.images, 2, axis=2))
        lost = replace(patches, positions=None, sources=())
        at = patches.positions
        far = replace(patches, positions=replace(at, index=np.where(at.index == 4, 12, at.index)))
        flips = replace(patches, columns={"flip": Column(patches.labels, ("none", "sideways"))})
        for name, one in {"high": high, "lost": lost, "far": far, "flips": flips}.items():
            one.save(f"{name}.zarr")
        for name in ("two", "flips"):
            its = read_patches(f"{name}.zarr").fingerprint
            replace(split, fingerprint=its).save(f"{name}.json")
        for name in ("scene", "lost", "far", "high"):
            by = "blocks --block 100 --buffer 0" if name == "scene" else "random"
            assert run(f"split {name}.zarr --by {by} -o {name}.json") == 0
        np.save("short.npy", samples()[:-1])
        np.save("other.npy", texture())
        np.save("flat.npy", samples()[0])
        write_raster("one-band.tif", np.ones((40, 50), "uint16"))
        write_raster("wide.tif", np.ones((2, 40, 51), "uint16"))
        gone = replace(patches, sources=(replace(patches.sources[0], name="gone.npy"),))
        gone.save("gone.zarr")
    finally:
        os.chdir(before)
    return folder


TRAIN = "train {}.zarr --split {}.json --network resnet20 --depth 8 --width 4 --epochs 1 -o run "
ON_CUBE = TRAIN.format("p", "s")
ON_SCENE = TRAIN.format("scene", "scene")

ROWS = {
    "no positions": (TRAIN.format("lost", "lost") + "--neighbourhood 3", "--neighbourhood", "none"),
    "slices alone": (TRAIN.format("lost", "lost") + "--slices 1", "--slices", "positions"),
    "slices of a scene": (ON_SCENE + "--neighbourhood 3 --slices 1", "--slices", "of scenes"),
    "negative": (ON_CUBE + "--neighbourhood -3", "neighbourhood is -3", "0 (off) or more"),
    "negative slices": (ON_CUBE + "--slices -1", "slices is -1", "0 (off) or more"),
    "a fraction": (ON_CUBE + "--neighbourhood 2.5", "--neighbourhood", "a whole number"),
    "not square": (TRAIN.format("high", "high") + "--neighbourhood 3", "8 × 4", "square"),
    "gone": (TRAIN.format("gone", "s") + "--neighbourhood 3", "gone.npy: is missing", "--sources"),
    "sources alone": (ON_CUBE + "--sources cube.npy", "--sources", "without --neighbourhood"),
    "too many": (ON_CUBE + "--slices 1 --sources cube.npy,a.npy", "names 2", "order: cube.npy"),
    "too few": (TRAIN.format("two", "two") + "--slices 1 --sources cube.npy", "names 1", "b.npy"),
    "not there": (ON_CUBE + "--slices 1 --sources nothing.npy", "nothing.npy: is missing"),
    "another shape": (ON_CUBE + "--slices 1 --sources short.npy", "11 × 20 × 26", "12 × 20 × 26"),
    "other pixels": (ON_CUBE + "--slices 1 --sources other.npy", "other.npy", "does not show"),
    "no cube": (ON_CUBE + "--slices 1 --sources flat.npy", "flat.npy", "2 axes"),
    "a scene": (ON_CUBE + "--slices 1 --sources scene.tif", "scene.tif"),
    "a cube": (ON_SCENE + "--neighbourhood 3 --sources cube.npy", "cube.npy", "not a raster"),
    "too few bands": (
        ON_SCENE + "--neighbourhood 3 --sources one-band.tif", "one-band.tif", "band 1, band 2",
    ),
    "another width": (ON_SCENE + "--neighbourhood 3 --sources wide.tif", "40 × 51", "40 × 50"),
    "outside": (TRAIN.format("far", "far") + "--neighbourhood 3", "cube.npy", "has no such place"),
    "no flip": (TRAIN.format("flips", "flips") + "--neighbourhood 3", "'sideways'", "left-right"),
    "compare": (
        "compare p.zarr --split s.json --trials 0 -o c --neighbourhood 3 --sources short.npy",
        "short.npy",
    ),
    "experiment": (
        "experiment scene.tif --labels truth.tif --slices 2 -o e", "--slices", "scenes",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ROWS)
def test_patches_that_cannot_be_cut_again_give_one_error_line(world, monkeypatch, capfd, name):
    check_refused(world, monkeypatch, capfd, *ROWS[name])


def test_files_that_were_moved_are_named(world, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("p.zarr", "scene.zarr"):
        shutil.copytree(world / name, name)
    shutil.copy(world / "cube.npy", "elsewhere.npy")
    shutil.copy(world / "scene.tif", "elsewhere.tif")
    for name, split, source in (("p", "s", "npy"), ("scene", "scene", "tif")):
        shutil.copy(world / f"{split}.json", tmp_path)
        command = TRAIN.format(name, split).replace("-o run", f"-o {name}")
        assert run(f"{command} --neighbourhood 3 --sources elsewhere.{source}") == 0
        assert (tmp_path / name / "model.json").exists()
