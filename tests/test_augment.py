from dataclasses import replace
from itertools import chain

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from outcrop.models.architectures import ResidualNet
from outcrop.patches.positions import Source, scene_positions, volume_positions
from outcrop.training.augment import Moves, add_noise, cover, draw, draw_centres, draw_gains, move
from outcrop.training.batches import Epoch, Part
from outcrop.training.normalise import Normalisation
from outcrop.training.pictures import load_pictures
from outcrop.training.recipe import Augmentation
from tests.tiny import NETWORK, PATCHES, RECIPE, SPLIT


@settings(max_examples=60, deadline=None)
@given(
    size=st.tuples(st.integers(1, 7), st.integers(1, 7)),
    seed=st.integers(0, 1000),
    crop=st.integers(0, 9),
    dtype=st.sampled_from(["uint8", "int16", "float32"]),
)
def test_moved_pictures_are_crops_of_the_padded_turned_mirror_image(
    size: tuple[int, int], seed: int, crop: int, dtype: str
) -> None:
    random = np.random.default_rng(seed)
    images = random.integers(1, 255, (5, 2, *size)).astype(dtype)
    moves = draw(Augmentation(crop=crop), 5, size, has_up=False, random=random)
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


def test_four_quarter_turns_are_none_and_the_first_is_against_the_clock() -> None:
    image = torch.arange(9.0).view(1, 1, 3, 3)
    zero, one = torch.zeros(1, dtype=torch.int64), torch.ones(1, dtype=torch.int64)
    turn = Moves(torch.zeros(1, dtype=torch.bool), one, zero, zero)
    turned = image
    for k in range(1, 5):
        turned, inside = move(turned, turn)
        assert inside.all()
        assert torch.equal(turned, torch.rot90(image, k, (2, 3)))
    assert torch.equal(turned, image)


def test_pictures_with_an_up_are_not_turned_and_others_in_all_eight_ways() -> None:
    def kinds(augmentation: Augmentation, has_up: bool, size: tuple[int, int] = (8, 8)) -> set:
        moves = draw(augmentation, 400, size, has_up, np.random.default_rng(0))
        return set(zip(moves.mirror.tolist(), moves.turns.tolist(), strict=True))

    assert kinds(Augmentation(), has_up=True) == {(False, 0), (True, 0)}
    assert len(kinds(Augmentation(), has_up=False)) == 8
    assert len(kinds(Augmentation(), has_up=False, size=(8, 6))) == 4
    assert kinds(Augmentation(flip=False, rotate=False), has_up=False) == {(False, 0)}


def test_samples_keep_their_order_when_slices_are_mirrored() -> None:
    pictures = torch.arange(12.0).view(1, 1, 3, 4).repeat(64, 1, 1, 1)
    lying = np.arange(64) % 2 == 0
    augmentation = Augmentation(crop=0)
    moves = draw(augmentation, 64, (3, 4), True, np.random.default_rng(0), lying)
    moved, _ = move(pictures, moves)
    seen = {
        (bool(lies), bool(mirrored), *map(float, picture[0, 0, [0, -1]]))
        for lies, mirrored, picture in zip(lying, moves.mirror, moved, strict=True)
    }
    # Whatever lies keeps its columns and changes its rows; the others the other way round.
    assert seen == {
        (True, False, 0.0, 3.0),
        (True, True, 8.0, 11.0),
        (False, False, 0.0, 3.0),
        (False, True, 3.0, 0.0),
    }


def test_crop_reaches_an_eighth_of_the_picture() -> None:
    moves = draw(Augmentation(), 2000, (32, 32), True, np.random.default_rng(0))
    assert sorted(set(moves.down.tolist())) == list(range(-4, 5))
    still = draw(Augmentation(crop=0), 50, (32, 32), True, np.random.default_rng(0))
    assert not still.down.any()
    assert not still.right.any()


def test_gains_differ_by_band_where_a_picture_has_no_up() -> None:
    def gains(augmentation: Augmentation, has_up: bool) -> np.ndarray:
        return draw_gains(augmentation, 500, 3, has_up, np.random.default_rng(0)).numpy()

    scene = gains(Augmentation(), has_up=False)
    assert scene.shape == (500, 3, 1, 1)
    assert 0.8 <= scene.min() < 0.81
    assert 1.19 < scene.max() <= 1.2
    assert abs(np.corrcoef(scene[:, 0, 0, 0], scene[:, 1, 0, 0])[0, 1]) < 0.1
    assert (gains(Augmentation(), has_up=True) == 1).all()
    assert (gains(Augmentation(gain=0), has_up=False) == 1).all()
    assert np.ptp(gains(Augmentation(gain=0.5), has_up=True)) > 0.9


def test_noise_has_its_deviation_and_follows_its_dice() -> None:
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


@pytest.mark.parametrize("across", [0, 1, 2, None])
def test_slices_of_a_volume_have_an_up_and_scenes_have_none(across: int | None) -> None:
    place = np.arange(len(PATCHES))
    if across is None:
        where = scene_positions(0, *4 * (place,), 80, 80, place), Source("scene.tif", (99, 99))
    else:
        at = volume_positions(0, across, place, place, place, 8)
        where = at, Source("cube.npy", (99, 99, 99))
    patches = replace(PATCHES, positions=where[0], sources=where[1:])
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


def test_an_epoch_sees_every_picture_once_and_each_epoch_otherwise() -> None:
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
def test_pictures_are_the_same_however_many_parts_are_moved_at_once(
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


def test_going_on_in_the_middle_sees_what_was_left() -> None:
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
