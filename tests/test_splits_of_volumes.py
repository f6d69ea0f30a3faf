from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from outcrop.errors import OutcropError
from outcrop.patches.patchset import PatchSet, read_patches
from outcrop.patches.positions import (
    Positions,
    Source,
    scene_positions,
    upper_left,
    volume_positions,
)
from outcrop.splits import (
    TEST,
    TRAIN,
    VALIDATION,
    BlockSplit,
    RandomSplit,
    SceneSplit,
    SlabSplit,
    ZoneSplit,
    make_splitter,
    suggest_block,
    suggest_buffer,
)
from outcrop.splits.base import spatial_groups
from outcrop.splits.geometry import blocks, near

SHAPE = (120, 90, 150)


def cube_patches(positions, labels=None, shape=SHAPE, columns=None) -> PatchSet:
    """Patches of volumes with one empty pixel each."""
    n = len(positions)
    return PatchSet(
        images=np.zeros((n, 1, 1, 1), np.uint8),
        labels=np.arange(n) % 2 if labels is None else labels,
        classes=("a", "b"),
        bands=("amplitude",),
        positions=positions,
        sources=tuple(
            Source(f"cube-{i}.npy", shape) for i in range(int(positions.source.max()) + 1)
        ),
        columns=columns or {},
    )


def anywhere(rng, n, size, axes=(0, 1, 2), volumes=1, shape=SHAPE) -> Positions:
    """Random patches inside volumes, in slices across these axes."""
    axis = rng.choice(axes, n)
    index, row, column = np.empty((3, n), int)
    for k in range(3):
        here = axis == k
        down, right = (length for other, length in enumerate(shape) if other != k)
        index[here] = rng.integers(0, shape[k], here.sum())
        row[here] = rng.integers(0, down - size[0] + 1, here.sum()) + size[0] // 2
        column[here] = rng.integers(0, right - size[1] + 1, here.sum()) + size[1] // 2
    return volume_positions(rng.integers(0, volumes, n), axis, index, row, column, size)


@st.composite
def positions(draw):
    """Patches in slices across one axis or several, of one volume or two."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    axes = draw(st.sampled_from([(0,), (1,), (0, 2), (0, 1, 2)]))
    size = draw(st.sampled_from([(8, 8), (9, 6), (1, 1), (17, 17)]))
    return anywhere(rng, draw(st.integers(30, 250)), size, axes, draw(st.sampled_from([1, 2])))


def voxels(positions: Positions, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """First and last voxel of each patch along every axis, computed one by one: `N × 3` each."""
    first = np.stack([positions.index] * 3, axis=1).astype(int)
    last = first.copy()
    for i, axis in enumerate(positions.axis):
        down, right = (k for k in range(3) if k != axis)
        first[i, down] = upper_left(int(positions.row[i]), size[0])
        first[i, right] = upper_left(int(positions.column[i]), size[1])
        last[i, down] = first[i, down] + size[0] - 1
        last[i, right] = first[i, right] + size[1] - 1
    return first, last


def free_voxels(one, other) -> np.ndarray:
    """Number of voxels between every pair of boxes, along the axis with most of them."""
    (first, last), (first_other, last_other) = one, other
    return np.maximum(
        first[:, None] - last_other[None] - 1, first_other[None] - last[:, None] - 1
    ).max(axis=2)


def size_of(positions: Positions) -> tuple[int, int]:
    axis = positions.axis[0]
    down, right = (k for k in range(3) if k != axis)
    return int(positions.extent[0, down]), int(positions.extent[0, right])


@given(at=positions())
@settings(max_examples=40, deadline=None)
def test_position_and_extent_of_a_patch_are_those_of_its_voxels(at):
    first, last = voxels(at, size_of(at))
    assert np.array_equal(at.middle, (first + last) / 2)
    assert np.array_equal(at.extent, last - first + 1)
    volume = np.arange(np.prod(SHAPE)).reshape(SHAPE)
    i = 0
    box = volume[tuple(slice(a, b + 1) for a, b in zip(first[i], last[i], strict=True))]
    height, width = size_of(at)
    top, left = upper_left(int(at.row[i]), height), upper_left(int(at.column[i]), width)
    plane = np.take(volume, at.index[i], axis=at.axis[i])
    assert np.array_equal(box.squeeze(at.axis[i]), plane[top : top + height, left : left + width])


@given(at=positions(), buffer=st.sampled_from([0, 1, 5, 30]), share=st.sampled_from([0.02, 0.5]))
@settings(max_examples=60, deadline=None)
def test_near_agrees_with_counting_voxels(at, buffer, share):
    rng = np.random.default_rng(len(at))
    mine = rng.random(len(at)) < share
    one, other = at[mine], at[~mine]
    size = size_of(at)
    free = free_voxels(voxels(one, size), voxels(other, size))
    same = one.source[:, None] == other.source
    expected = ((free < max(buffer, 0)) & same).any(axis=1)
    assert np.array_equal(near(one, other, buffer), expected)


SPLITTERS = [
    lambda buffer, seed: BlockSplit(block=40, buffer=buffer, n_splits=3, random_state=seed),
    lambda buffer, seed: ZoneSplit(zones=((0, 0, 0, 50, 89, 149),), buffer=buffer),
    lambda buffer, seed: ZoneSplit(slices=((1, 10, 40), (2, 100, 110)), buffer=buffer),
    lambda buffer, seed: SlabSplit(axis=seed % 3, thickness=25, buffer=buffer, n_splits=3),
]


@pytest.mark.parametrize(
    ("splitter", "test"), [*((s, False) for s in SPLITTERS), (SPLITTERS[0], True)]
)
@given(at=positions(), buffer=st.sampled_from([0, 3, 20]), seed=st.integers(0, 9))
@settings(max_examples=25, deadline=None)
def test_sides_are_apart_in_the_volume(splitter, test, at, buffer, seed):
    patches = cube_patches(at)
    try:
        split = splitter(buffer, seed).assign(patches, test=test)
    except OutcropError:
        reject()  # the volume is too small for this buffer or these blocks
    size = size_of(at)
    for one, other in ((TRAIN, VALIDATION), (TRAIN, TEST), (VALIDATION, TEST)):
        mine, theirs = at[split.sides == one], at[split.sides == other]
        free = free_voxels(voxels(mine, size), voxels(theirs, size))
        same = mine.source[:, None] == theirs.source
        assert (free[same] >= buffer).all()


def column_of(at: Positions, buffer: float) -> np.ndarray:
    return near(at[:1], at[1:], buffer)


def test_the_next_slice_does_not_overlap_but_is_within_any_buffer():
    at = volume_positions(0, 0, np.array([10, 11]), np.full(2, 20), np.full(2, 20), 8)
    assert not column_of(at, 0)
    assert column_of(at, 1)


def test_two_volumes_are_never_near_and_two_scenes_may_be():
    row = np.full(2, 20)
    volumes = volume_positions(np.array([0, 1]), 0, 5, row, row, 8)
    assert not column_of(volumes, 1e6)
    scenes = scene_positions(np.array([0, 1]), row, row, row, row, 8, 8, np.arange(2))
    assert column_of(scenes, 0)


def test_blocks_are_cubes_and_each_volume_has_its_own():
    index = np.array([0, 39, 40, 0])
    at = volume_positions(np.array([0, 0, 0, 1]), 0, index, np.full(4, 8), np.full(4, 8), 4)
    groups = BlockSplit(block=40).groups_of(cube_patches(at))
    assert groups[0] == groups[1]
    assert len(set(groups[[0, 2, 3]])) == 3


def test_a_range_of_slices_ends_before_its_last():
    at = volume_positions(0, 0, np.arange(100), np.full(100, 20), np.full(100, 20), 8)
    split = ZoneSplit(slices=((0, 10, 20),), buffer=3).assign(cube_patches(at))
    assert at.index[split.validation].tolist() == list(range(10, 20))
    assert at.index[split.buffer].tolist() == [7, 8, 9, 20, 21, 22]


def test_a_range_across_another_axis_has_the_patches_with_their_centre_in_it():
    row = np.arange(4, 116)
    at = volume_positions(0, 1, 7, row, np.full(len(row), 20), 8)
    split = ZoneSplit(slices=((0, 40, 80),)).assign(cube_patches(at))
    # The point between voxels 39 and 40 is on the border, and belongs to the later slice.
    assert (at.z[split.validation].min(), at.z[split.validation].max()) == (39.5, 78.5)


def test_a_box_of_a_volume_has_six_numbers():
    at = anywhere(np.random.default_rng(0), 300, (8, 8))
    box = (10, 0, 30, 60, 80, 149.5)
    split = ZoneSplit(zones=(box,)).assign(cube_patches(at))
    z, y, x = at.middle[split.validation].T
    assert ((z >= 10) & (z <= 60) & (y <= 80) & (x >= 30)).all()
    inside = ((at.middle >= box[:3]) & (at.middle <= box[3:])).all(axis=1)
    assert inside.sum() == len(split.validation)


def test_slabs_alternate_between_folds():
    index = np.arange(0, 120, 2)
    at = volume_positions(0, 0, index, np.full(60, 20), np.full(60, 20), 8)
    patches = cube_patches(at, labels=np.arange(60) // 2 % 2)
    splitter = SlabSplit(axis=0, thickness=20, n_splits=3)
    for fold in range(3):
        split = splitter.assign(patches, fold)
        assert set(at.index[split.validation] // 20) == {fold, fold + 3}
        assert split.how["unit"] == "voxels"


def test_slabs_without_patches_are_not_counted():
    index = np.repeat([0, 50, 100, 119], 10)
    at = volume_positions(0, 0, index, np.full(40, 20), np.full(40, 20), 8)
    folds = SlabSplit(axis=0, thickness=10, n_splits=2).validation_masks(cube_patches(at))
    assert [set(at.index[fold]) for fold in folds] == [{0, 100}, {50, 119}]


@given(at=positions(), thickness=st.integers(1, 60), axis=st.sampled_from([0, 1, 2]))
@settings(max_examples=30, deadline=None)
def test_every_patch_is_held_out_in_one_fold_of_whole_slabs(at, thickness, axis):
    splitter = SlabSplit(axis=axis, thickness=thickness, n_splits=2)
    try:
        folds = splitter.validation_masks(cube_patches(at))
    except OutcropError:
        reject()  # one slab has all patches
    assert (np.sum(folds, axis=0) == 1).all()
    slab = np.floor((at.middle[:, axis] + 0.5) / thickness)
    for one in range(2):
        mine = set(zip(at.source[folds[one]], slab[folds[one]], strict=True))
        assert not mine & set(zip(at.source[~folds[one]], slab[~folds[one]], strict=True))


def test_the_groups_of_zones_of_a_volume_are_blocks():
    at = anywhere(np.random.default_rng(0), 2_000, (8, 8))
    split = ZoneSplit(slices=((0, 0, 40),)).assign(cube_patches(at))
    assert 100 < len(np.unique(split.groups)) <= 8 * 6 * 10
    for group in np.unique(split.groups):
        assert np.ptp(at.middle[split.groups == group], axis=0).max() < suggest_block(at)


def test_a_random_split_has_the_default_groups():
    patches = cube_patches(anywhere(np.random.default_rng(0), 2_000, (8, 8)))
    at = patches.positions
    expected = blocks(at, suggest_block(at))
    assert np.array_equal(spatial_groups(patches), expected)
    assert np.array_equal(RandomSplit().assign(patches).groups, expected)


def test_default_sizes_of_blocks_and_buffer():
    rng = np.random.default_rng(0)
    at = anywhere(rng, 400, (20, 20), axes=(0,), shape=(400, 100, 100))
    assert suggest_block(at) == max(np.ptp(at.z) / 10, 40)
    assert suggest_buffer(at) == 10
    thin = anywhere(rng, 400, (1, 1), axes=(0,), shape=(400, 100, 100))
    assert suggest_block(thin) == np.ptp(thin.z) / 10


def test_default_sizes_of_a_scene_with_centimetre_pixels():
    at = np.array([0.0, 0.4])
    scene = scene_positions(0, np.arange(2), np.arange(2), at, at, 0.32, 0.32, np.arange(2))
    assert suggest_buffer(scene) == 0.32
    # One patch, because blocks of four would be a single block.
    assert suggest_block(scene) == 0.32


def test_volumes_can_be_held_out():
    at = anywhere(np.random.default_rng(0), 100, (8, 8), volumes=2)
    split = SceneSplit(hold_out=("cube-1",), buffer=500).assign(cube_patches(at))
    assert set(at.source[split.validation]) == {1}
    assert len(split.buffer) == 0


def test_the_fingerprint_depends_on_slice_and_axis():
    at = volume_positions(0, 0, np.arange(5), np.full(5, 20), np.full(5, 20), 8)
    prints = {
        cube_patches(positions).fingerprint
        for positions in (
            at,
            replace(at, index=at.index[::-1].copy()),
            replace(at, axis=np.full(5, 2, np.int8)),
        )
    }
    assert len(prints) == 3


def test_a_patch_set_is_written_and_read(tmp_path):
    patches = cube_patches(anywhere(np.random.default_rng(0), 20, (8, 8), volumes=2))
    patches.save(tmp_path / "cube.zarr")
    again = read_patches(tmp_path / "cube.zarr")
    assert again.sources == patches.sources
    assert (again.unit, again.from_volume, again.crs) == ("voxels", True, None)
    assert again.fingerprint == patches.fingerprint
    for name in ("axis", "index", "z", "depth"):
        stored, given = getattr(again.positions, name), getattr(patches.positions, name)
        assert np.array_equal(stored, given)
        assert stored.dtype == given.dtype


def test_a_patch_set_of_an_older_version_raises_an_error(tmp_path):
    import zarr

    patches = cube_patches(anywhere(np.random.default_rng(0), 20, (8, 8)))
    patches.save(tmp_path / "old.zarr")
    zarr.open_group(tmp_path / "old.zarr").attrs["version"] = 1
    with pytest.raises(OutcropError, match=r"old.zarr: was made by an older outcrop; cut it again"):
        read_patches(tmp_path / "old.zarr")


def test_a_patch_set_of_scenes_and_volumes_raises_an_error():
    patches = cube_patches(anywhere(np.random.default_rng(0), 20, (8, 8)))
    with pytest.raises(OutcropError, match="scenes and volumes; keep them apart"):
        replace(patches, sources=(*patches.sources, Source("s.tif", (9, 9), "EPSG:32648")))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: SlabSplit(axis=3, thickness=9), "`axis`: a volume has no axis 3; choose 0"),
        (lambda p: SlabSplit(axis=0, thickness=0), "`thickness`: must be at least 1"),
        (lambda p: SlabSplit(axis=0, thickness=9, n_splits=1), "`n_splits`: must be at least 2"),
        (
            lambda p: SlabSplit(axis=0, thickness=50).assign(p),
            "2 slabs of 50 .* fewer than 5",
        ),
        (lambda p: SlabSplit(axis=0, thickness=18, buffer=99).assign(p), "leaves no training"),
        (lambda p: ZoneSplit(slices=((0, 0, 90),)).assign(p), "leaves no training patches"),
        (lambda p: ZoneSplit(slices=((3, 0, 9),)).assign(p), "`slices`: a volume has no axis 3"),
        (lambda p: ZoneSplit(slices=((0, 80, 91),)).assign(p), "80:91 .* within 0:90"),
        (lambda p: ZoneSplit(slices=((0, 9, 9),)).assign(p), "9:9 across axis 0 is no range"),
        (lambda p: ZoneSplit(slices=((1, 0, 3),)).assign(p), "holds no patch"),
        (lambda p: ZoneSplit(zones=((0, 9, 1, 9),)).assign(p), "takes 6 numbers for each box"),
        (lambda p: ZoneSplit(zones=("z.gpkg",)).assign(p), "`slices` or boxes"),
        (lambda p: make_splitter(p, "zones"), "needs `slices` or `boxes` with numbers"),
        (lambda p: make_splitter(p, "zones", boxes=[1, 2, 3, 4, 5]), "six numbers.*not 5 in all"),
        (lambda p: make_splitter(p, "zones", slices=["0:9"]), "axis:first:last such as 0:100:200"),
        (lambda p: make_splitter(p, "slabs", axis=0), "needs `axis` and `thickness`"),
        (lambda p: BlockSplit(block=90).assign(p), "blocks of 90 voxels give .* fewer than 5"),
        (lambda p: SceneSplit().assign(p), "come from one volume; split it by blocks"),
    ],
)
def test_errors_of_volumes_name_voxels_and_options(make, message):
    shape = (90, 90, 100)
    at = anywhere(np.random.default_rng(0), 100, (8, 8), axes=(0,), shape=shape)
    with pytest.raises(OutcropError, match=message):
        make(cube_patches(at, shape=shape))


def test_slabs_and_ranges_of_scenes_raise_an_error():
    row = np.arange(40)
    at = scene_positions(0, row, row, row * 400.0, row, 160, 160, row)
    patches = replace(cube_patches(at), sources=(Source("s.tif", (99, 99), "EPSG:32648"),))
    with pytest.raises(OutcropError, match="is for volumes, and these patches are from scenes"):
        SlabSplit(axis=0, thickness=9).assign(patches)
    with pytest.raises(OutcropError, match="`slices`: is for volumes; name zones of a scene"):
        ZoneSplit(slices=((0, 0, 9),)).assign(patches)
