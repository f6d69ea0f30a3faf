from dataclasses import replace
from itertools import chain

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from outcrop.models.architectures import ResidualNet
from outcrop.patches.patchset import PatchSet
from outcrop.patches.positions import Source, scene_positions, volume_positions
from outcrop.training.augment import (
    Moves,
    add_noise,
    cover,
    draw,
    draw_centres,
    draw_gains,
    draw_jitter,
    move,
    settled,
)
from outcrop.training.batches import Epoch, Part, balanced_order
from outcrop.training.normalise import Normalisation
from outcrop.training.pictures import load_pictures
from outcrop.training.recipe import Augmentation, ClassBalance
from tests.tiny import NETWORK, PATCHES, RECIPE, SPLIT

PLACE = np.arange(len(PATCHES))
SCENE = replace(
    PATCHES,
    positions=scene_positions(0, *4 * (PLACE,), 80, 80, PLACE),
    sources=(Source("scene.tif", (99, 99)),),
)


@settings(max_examples=60, deadline=None)
@given(
    size=st.tuples(st.integers(1, 7), st.integers(1, 7)),
    seed=st.integers(0, 1000),
    crop=st.integers(0, 9),
    dtype=st.sampled_from(["uint8", "int16", "float32"]),
)
def test_moved_images_are_crops_of_the_padded_rotated_mirror_image(
    size: tuple[int, int], seed: int, crop: int, dtype: str
) -> None:
    random = np.random.default_rng(seed)
    images = random.integers(1, 255, (5, 2, *size)).astype(dtype)
    moves = draw(Augmentation(crop=crop, rotate=True), 5, size, random)
    moved, inside = move(torch.from_numpy(images), moves)
    moved = torch.where(inside, moved, 0).numpy()

    height, width = size
    for k in range(5):
        picture = images[k][:, :, ::-1] if moves.mirror[k] else images[k]
        picture = np.rot90(picture, moves.turns[k].item(), axes=(1, 2))
        padded = np.pad(picture, ((0, 0), (crop, crop), (crop, crop)))
        top, left = crop + moves.down[k].item(), crop + moves.right[k].item()
        expected = padded[:, top : top + height, left : left + width]
        np.testing.assert_array_equal(moved[k], expected)


def test_four_rotations_are_none_and_they_are_counter_clockwise() -> None:
    image = torch.arange(9.0).view(1, 1, 3, 3)
    zero, one = torch.zeros(1, dtype=torch.int64), torch.ones(1, dtype=torch.int64)
    turn = Moves(torch.zeros(1, dtype=torch.bool), one, zero, zero)
    turned = image
    for k in range(1, 5):
        turned, inside = move(turned, turn)
        assert inside.all()
        assert torch.equal(turned, torch.rot90(image, k, (2, 3)))
    assert torch.equal(turned, image)


def test_images_with_a_vertical_are_not_rotated_and_others_in_all_eight_ways() -> None:
    def kinds(augmentation: Augmentation, patches: PatchSet, width: int = 8) -> set:
        moves = draw(settled(augmentation, patches), 400, (8, width), np.random.default_rng(0))
        return set(zip(moves.mirror.tolist(), moves.turns.tolist(), strict=True))

    assert kinds(Augmentation(), PATCHES) == {(False, 0), (True, 0)}
    assert len(kinds(Augmentation(), SCENE)) == 8
    assert len(kinds(Augmentation(), SCENE, width=6)) == 4
    assert kinds(Augmentation(flip=False, rotate=False), SCENE) == {(False, 0)}


def test_samples_keep_their_order_when_slices_are_mirrored() -> None:
    pictures = torch.arange(12.0).view(1, 1, 3, 4).repeat(64, 1, 1, 1)
    lying = np.arange(64) % 2 == 0
    augmentation = Augmentation(crop=0)
    moves = draw(augmentation, 64, (3, 4), np.random.default_rng(0), lying)
    moved, _ = move(pictures, moves)
    seen = {
        (bool(lies), bool(mirrored), *map(float, picture[0, 0, [0, -1]]))
        for lies, mirrored, picture in zip(lying, moves.mirror, moved, strict=True)
    }
    # Images whose vertical runs along rows are flipped vertically, the others horizontally.
    assert seen == {
        (True, False, 0.0, 3.0),
        (True, True, 8.0, 11.0),
        (False, False, 0.0, 3.0),
        (False, True, 3.0, 0.0),
    }


def test_crop_reaches_an_eighth_of_the_image() -> None:
    large = PatchSet(np.zeros((2, 1, 32, 40)), np.arange(2), ("a", "b"), ("red",))
    moves = draw(settled(Augmentation(), large), 2000, (32, 40), np.random.default_rng(0))
    assert sorted(set(moves.down.tolist())) == list(range(-4, 5))
    still = draw(Augmentation(crop=0), 50, (32, 32), np.random.default_rng(0))
    assert not still.down.any()
    assert not still.right.any()


def test_gains_differ_by_band_and_are_off_by_default() -> None:
    def gains(augmentation: Augmentation, patches: PatchSet = PATCHES) -> np.ndarray:
        random = np.random.default_rng(0)
        return draw_gains(settled(augmentation, patches), 500, 3, random).numpy()

    some = gains(Augmentation(gain=0.2))
    assert some.shape == (500, 3, 1, 1)
    assert 0.8 <= some.min() < 0.81
    assert 1.19 < some.max() <= 1.2
    assert abs(np.corrcoef(some[:, 0, 0, 0], some[:, 1, 0, 0])[0, 1]) < 0.1
    assert all((gains(Augmentation(), patches) == 1).all() for patches in (PATCHES, SCENE))


@settings(max_examples=20, deadline=None)
@given(mean=st.floats(-1e4, 1e4), std=st.floats(0.1, 1e3), jitter=st.sampled_from([0.05, 0.3]))
def test_jitter_is_in_units_of_the_spread_whatever_the_mean(
    mean: float, std: float, jitter: float
) -> None:
    """A gain on raw values would change a band with a large mean by many standard deviations."""
    scale = Normalisation((mean, 0.0), (std, 1.0))
    drawn = draw_jitter(
        Augmentation(jitter=jitter), 4000, 2, np.random.default_rng(0), torch.device("cpu")
    )
    assert drawn is not None
    at_mean = scale(torch.tensor([mean, 0.0]).view(1, 2, 1, 1).expand(4000, 2, 1, 1), drawn)
    assert at_mean[:, 0].std().item() == pytest.approx(jitter, rel=0.05)
    above = torch.tensor([mean + std, 1.0]).view(1, 2, 1, 1).expand(4000, 2, 1, 1)
    factor = (scale(above, drawn) - at_mean)[:, 0]
    assert factor.min() > 0
    assert factor.log().std().item() == pytest.approx(jitter, rel=0.05)
    # Pixels without data and pixels outside the image keep the mean value 0.
    empty = torch.full((4000, 2, 1, 1), torch.nan)
    assert (scale(empty, drawn) == 0).all()


def test_jitter_changes_nothing_else_and_not_what_lies_beyond_the_rim() -> None:
    still = {"flip": False, "crop": 2}
    plain, jittered, off = (
        torch.cat([part.images for (part,) in seen(epoch(**still, **more))])
        for more in ({}, {"jitter": 0.2}, {"jitter": 0})
    )
    assert torch.equal(plain, off)
    rim = plain == 0
    assert rim.any()
    assert (jittered[rim] == 0).all()
    for one, other in zip(plain[:, 0], jittered[:, 0], strict=True):
        inside = one != 0
        slope = np.polyfit(one[inside], other[inside], 1)
        np.testing.assert_allclose(np.polyval(slope, one[inside]), other[inside], atol=0.05)
    assert not torch.allclose(plain, jittered, atol=1)


@settings(max_examples=60, deadline=None)
@given(
    labels=st.lists(st.integers(0, 4), min_size=1, max_size=80).map(np.array),
    balance=st.sampled_from(["none", "sqrt", "full"]),
    seed=st.integers(0, 99),
)
def test_classes_are_drawn_as_requested_and_patches_of_a_class_equally_often(
    labels: np.ndarray, balance: ClassBalance, seed: int
) -> None:
    order = balanced_order(labels, balance, np.random.default_rng(seed))
    assert len(order) == len(labels)
    counts = np.bincount(labels)
    power = {"none": 1, "sqrt": 0.5, "full": 0}[balance]
    weights = np.where(counts > 0, counts.astype(float) ** power, 0)
    drawn = np.bincount(labels[order], minlength=len(counts))
    assert (abs(drawn - weights / weights.sum() * len(labels)) < 1 + 1e-9).all()
    assert (drawn[counts > 0] > 0).all() or balance == "none"
    times = np.bincount(order, minlength=len(labels))
    assert all(np.ptp(times[labels == k]) <= 1 for k in np.unique(labels))


def test_an_epoch_repeats_rare_classes_and_leaves_out_others_each_time() -> None:
    labels = np.array([0] * 80 + [1] * 12 + [2] * 4)
    images = np.arange(96.0).reshape(96, 1, 1, 1) + np.zeros((96, 1, 8, 8))
    patches = PatchSet(images, labels, ("a", "b", "c"), ("red",))
    pictures = load_pictures(patches, np.arange(96), torch.device("cpu"))

    def classes_and_patches(number: int, balance: ClassBalance) -> tuple[list[int], set[float]]:
        augmentation = Augmentation(crop=0, flip=False)
        recipe = replace(RECIPE, augmentation=augmentation)
        plan = Epoch(number, recipe, NETWORK, pictures, Normalisation((0,), (1,)), 1, balance)
        parts = [part for (part,) in seen(plan)]
        found = torch.cat([part.labels for part in parts])
        numbers = torch.cat([part.images[:, 0, 0, 0] for part in parts])
        assert (patches.labels[numbers.long()] == found.numpy()).all()
        return found.bincount().tolist(), set(numbers.tolist())

    assert classes_and_patches(0, "none")[0] == [80, 12, 4]
    assert classes_and_patches(0, "sqrt")[0] == [60, 23, 13]
    first, again, second = (classes_and_patches(number, "full") for number in (0, 0, 1))
    assert first == again
    assert first[0] == second[0] == [32, 32, 32]
    assert first[1] != second[1]
    assert {*range(80, 96)} <= first[1] & second[1]


def test_noise_has_its_deviation_and_follows_its_generator() -> None:
    images = torch.zeros(8, 3, 32, 32)
    noisy = [add_noise(images, 0.3, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)]
    assert noisy[0].std().item() == pytest.approx(0.3, rel=0.02)
    assert torch.equal(noisy[0], noisy[1])
    assert not torch.equal(noisy[0], noisy[2])


@settings(max_examples=40, deadline=None)
@given(
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    side=st.integers(1, 12),
    seed=st.integers(0, 99),
)
def test_cutout_covers_a_square_around_its_centre(
    size: tuple[int, int], side: int, seed: int
) -> None:
    centres = draw_centres(4, size, np.random.default_rng(seed))
    covered = cover(torch.ones(4, 2, *size), centres, side).numpy()
    for k, (row, column) in enumerate(centres.tolist()):
        expected = np.ones((2, *size))
        top, left = row - side // 2, column - side // 2
        expected[:, max(0, top) : max(0, top + side), max(0, left) : max(0, left + side)] = 0
        np.testing.assert_array_equal(covered[k], expected)


def epoch(parts: int = 1, number: int = 0, **augmentation: float) -> Epoch:
    recipe = replace(RECIPE, augmentation=Augmentation(**augmentation))
    pictures = load_pictures(PATCHES, SPLIT.train, torch.device("cpu"))
    return Epoch(number, recipe, NETWORK, pictures, Normalisation((0, 0), (1, 1)), parts)


def cut_across(axis: int | np.ndarray) -> PatchSet:
    at = volume_positions(0, axis, *3 * (PLACE,), 8)
    return replace(PATCHES, positions=at, sources=(Source("cube.npy", (99, 99, 99)),))


def test_each_patch_is_flipped_along_the_rows_of_its_slice() -> None:
    """The changes of an epoch follow its order of patches."""
    across = np.where(PLACE % 3 == 0, 2, PLACE % 2)
    pictures = load_pictures(cut_across(across), SPLIT.train, torch.device("cpu"))
    recipe = replace(RECIPE, augmentation=Augmentation(crop=0))
    plan = Epoch(0, recipe, NETWORK, pictures, Normalisation((0, 0), (1, 1)))
    opposite = [7, 7, 6, 5, 4, 3, 2, 1]
    upright = set()
    for image, axis in zip(PATCHES.images.astype("float32"), across, strict=True):
        mirrored = image[..., opposite] if axis == 2 else image[..., opposite, :]
        upright |= {image.tobytes(), mirrored.tobytes()}
    images = torch.cat([part.images for (part,) in seen(plan)]).numpy()
    assert all(image.tobytes() in upright for image in images)


@pytest.mark.parametrize("across", [0, 1, 2, None])
def test_slices_of_a_volume_have_a_vertical_and_scenes_have_none(across: int | None) -> None:
    patches = SCENE if across is None else cut_across(across)
    pictures = load_pictures(patches, SPLIT.train, torch.device("cpu"))
    recipe = replace(RECIPE, augmentation=Augmentation(crop=0))
    plan = Epoch(0, recipe, NETWORK, pictures, Normalisation((0, 0), (1, 1)))
    originals = PATCHES.images[SPLIT.train].astype("float32")
    # The samples run along the rows, but for slices that have none; the labelled pixel stays.
    opposite = [7, 7, 6, 5, 4, 3, 2, 1]
    mirrored = originals[..., opposite] if across == 2 else originals[..., opposite, :]
    upright = {image.tobytes() for image in (*originals, *mirrored)}
    images = torch.cat([part.images for (part,) in seen(plan)]).numpy()
    assert all(image.tobytes() in upright for image in images) == (across is not None)


def seen(plan: Epoch, rank: int = 0, world: int = 1, first: int = 0) -> list[list[Part]]:
    return [list(step.parts) for step in plan.walk(first, rank, world)]


def test_an_epoch_has_every_image_once_in_an_order_of_its_own() -> None:
    still = {"flip": False, "crop": 0, "gain": 0}
    first, again, second = (
        torch.cat([part.images for (part,) in seen(epoch(number=number, **still))])
        for number in (0, 0, 1)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, second)
    both = (sorted(images.flatten(1).sum(1).tolist()) for images in (first, second))
    expected = sorted(PATCHES.images[SPLIT.train].reshape(72, -1).sum(1).tolist())
    assert all(sums == expected for sums in both)


@pytest.mark.parametrize("world", [1, 2, 3])
def test_parts_are_the_batch_however_many_processes_share_them(world: int) -> None:
    whole = seen(epoch(gain=0.1, cutout=3))
    shared = [seen(epoch(parts=6, gain=0.1, cutout=3), rank, world) for rank in range(world)]
    for step, (batch,) in enumerate(whole):
        parts = [shared[k % world][step][k // world] for k in range(6)]
        assert torch.equal(torch.cat([part.images for part in parts]), batch.images)
        assert torch.equal(torch.cat([part.labels for part in parts]), batch.labels)
        assert sum(part.share for part in parts) == pytest.approx(1)


@pytest.mark.parametrize("at_once", [2, 5, 99])
@pytest.mark.parametrize(("parts", "first"), [(1, 0), (1, 2), (3, 1)])
def test_images_are_the_same_however_many_parts_are_moved_at_once(
    at_once: int, parts: int, first: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = {"gain": 0.1, "cutout": 3, "noise": 0.1}
    single = seen(epoch(parts, **looks), first=first)
    monkeypatch.setattr(Epoch, "_at_once", at_once)
    together = seen(epoch(parts, **looks), first=first)
    for one, other in zip(chain(*single), chain(*together), strict=True):
        assert torch.equal(one.images, other.images)
        assert torch.equal(one.labels, other.labels)


def test_noise_is_that_of_the_part_wherever_it_is_computed() -> None:
    alone = seen(epoch(parts=2, noise=0.5))
    others = [seen(epoch(parts=2, noise=0.5), rank, 2) for rank in (0, 1)]
    for step, parts in enumerate(alone):
        for rank, part in enumerate(parts):
            assert torch.equal(part.images, others[rank][step][0].images)


def test_resuming_within_an_epoch_gives_the_remaining_batches() -> None:
    whole, rest = seen(epoch(noise=0.1)), seen(epoch(noise=0.1), first=3)
    assert len(whole) == len(rest) + 3
    for (one,), (other,) in zip(whole[3:], rest, strict=True):
        assert torch.equal(one.images, other.images)


def test_all_of_a_batch_s_blocks_are_drawn_before_and_the_same_for_all() -> None:
    stochastic = ResidualNet(depth=20, survival=0.3)
    pictures = load_pictures(PATCHES, SPLIT.train, torch.device("cpu"))
    plans = [
        Epoch(number, RECIPE, stochastic, pictures, Normalisation((0, 0), (1, 1)), parts)
        for number, parts in ((0, 1), (0, 2), (1, 1))
    ]
    kept = [[step.kept for step in plan.walk() if list(step.parts)] for plan in plans]
    assert kept[0] == kept[1] != kept[2]
    assert plans[0].kept_share == pytest.approx(np.mean(kept[0]))
