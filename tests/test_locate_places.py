"""No place is believed that another place of the source beats."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter, rotate, uniform_filter1d, zoom

from outcrop.executors import executor
from outcrop.locating import find as find_module
from outcrop.locating.comparison import Comparison, Picture, clearer, compare, thinned
from outcrop.locating.locate import locate as locate_patches
from outcrop.locating.planes import Planes
from outcrop.locating.refinement import close
from outcrop.locating.verify import NEIGHBOURHOOD, Patches
from outcrop.sources.volumes import open_volume
from outcrop.synthetic.damage import damage

SIZE = 14


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def layers(dice: np.random.Generator, shape=(16, 20, 30)) -> np.ndarray:
    """Dipping layers with a little noise: good fits lie along a ridge that crosses the slices."""
    i, x, t = np.indices(shape)
    dip = dice.uniform(-1, 1, 2)
    trace = gaussian_filter(dice.normal(size=200), dice.uniform(1, 2))
    cube = np.interp(t + dip[0] * i + dip[1] * x + 60, np.arange(200), trace)
    return cube + dice.uniform(0.01, 0.3) * cube.std() * dice.normal(size=shape)


def alike(dice: np.random.Generator, shape=(16, 20, 30)) -> np.ndarray:
    """Slices that differ by a thousandth of their contrast."""
    one = gaussian_filter(dice.normal(size=shape[1:]), (1.5, 1))
    return one / one.std() + 0.001 * dice.normal(size=shape)


def rough(dice: np.random.Generator, shape=(16, 20, 30)) -> np.ndarray:
    return gaussian_filter(dice.normal(size=shape), dice.uniform(0.3, 2, 3))


def noisy(patch: np.ndarray, dice: np.random.Generator) -> np.ndarray:
    return patch + dice.uniform(0.01, 1) * patch.std() * dice.normal(size=patch.shape)


CHANGES = {
    "none": lambda patch, dice: patch,
    "negative": lambda patch, dice: 5 - 2 * patch,
    "8 bits": lambda patch, dice: np.round(200 * (patch - patch.min()) / np.ptp(patch)),
    "3 bits": lambda patch, dice: np.round(7 * (patch - patch.min()) / np.ptp(patch)),
    "noise": noisy,
    "gain control": lambda patch, dice: (
        patch / np.sqrt(uniform_filter1d(patch**2, 9, axis=1) + 1e-6 * (patch**2).mean())
    ),
    "turned": lambda patch, dice: rotate(patch, 3, reshape=False, order=1, mode="nearest"),
    "resized": lambda patch, dice: zoom(patch, 1.08, order=1)[:SIZE, :SIZE],
}


def windows(cube: np.ndarray, axis: int) -> np.ndarray:
    """All windows of all slices across an axis, `slices × rows × columns × pixels`."""
    stack = np.moveaxis(cube, axis, 0)
    return np.lib.stride_tricks.sliding_window_view(stack, (SIZE, SIZE), axis=(1, 2))


@settings(deadline=None, max_examples=12)
@given(
    st.sampled_from([layers, alike, rough]), st.sampled_from(sorted(CHANGES)),
    st.integers(0, 10**6),
)  # fmt: skip
def test_no_window_of_the_source_fits_better_than_a_place_that_is_believed(kind, change, seed):
    dice = np.random.default_rng(seed)
    cube = kind(dice).astype(np.float32)
    np.save("cube.npy", cube)
    images = []
    for axis in (0, 1, 0, 1):
        every = windows(cube, axis)
        place = tuple(dice.integers(every.shape[:3]))
        images.append(CHANGES[change](every[place].astype(float), dice))
    images = np.stack(images).astype(np.float32)
    found = locate_patches(images, "cube.npy")
    for k in np.flatnonzero(found.found):
        patch = images[k].ravel().astype(float)
        patch = (patch - patch.mean()) / np.linalg.norm(patch - patch.mean())
        best = -1.0
        for axis in range(3):
            if min(np.delete(cube.shape, axis)) < SIZE:
                continue
            every = windows(cube, axis).reshape(-1, SIZE * SIZE).astype(float)
            every -= every.mean(axis=1, keepdims=True)
            best = max(best, np.abs(every @ patch / np.linalg.norm(every, axis=1)).max())
        # Beaten places are not given at all here, as every window was compared.
        assert found.score[k] >= best - 1e-6


def test_exact_copies_are_found_among_slices_that_are_nearly_alike():
    cube = alike(np.random.default_rng(1), (60, 30, 40)).astype(np.float32)
    np.save("cube.npy", cube)
    dice = np.random.default_rng(2)
    at = dice.integers(np.subtract(cube.shape, (1, SIZE, SIZE)) + 1, size=(20, 3))
    images = np.stack([cube[i, r : r + SIZE, c : c + SIZE] for i, r, c in at])
    for changed in (images, (7 * images - 3).astype(np.float32), -images):
        found = locate_patches(changed, "cube.npy", axis=0)
        assert np.stack([found.index, found.row, found.column], 1).tolist() == at.tolist()
        assert not found.ambiguous.any()
    grey = np.round(100 * (images - images.min()) / np.ptp(images)).astype(np.uint8)
    found = locate_patches(grey, "cube.npy", axis=0)
    # Rounding hides which slice it was.
    assert found.found.all()
    assert found.ambiguous.all()


@pytest.mark.parametrize("shift", [(0, 0), (5, 3)])
@pytest.mark.parametrize("bits", [8, 5])
def test_a_place_and_its_twin_far_away_are_not_told_apart_by_chance(bits, shift):
    dice = np.random.default_rng(12)
    once = rough(dice, (24, 40, 44))
    again = np.roll(once, shift, (1, 2)) + 0.003 * once.std() * dice.normal(size=once.shape)
    cube = np.concatenate([once, again]).astype(np.float32)
    np.save("cube.npy", cube)
    at = dice.integers(np.subtract(cube.shape, (1, SIZE, SIZE)) + 1, size=(60, 3))
    images = np.stack([cube[i, r : r + SIZE, c : c + SIZE] for i, r, c in at])
    images = np.round((images - images.min()) / np.ptp(images) * (2**bits - 1))
    found = locate_patches(images.astype(np.float32), "cube.npy", axis=0)
    for k, (i, r, c) in enumerate(zip(found.index, found.row, found.column, strict=True)):
        here = cube[i, r : r + SIZE, c : c + SIZE]
        there = cube[at[k, 0], at[k, 1] : at[k, 1] + SIZE, at[k, 2] : at[k, 2] + SIZE]
        fits = [np.corrcoef(images[k].ravel(), one.ravel())[0, 1] for one in (here, there)]
        assert found.ambiguous[k] or fits[0] >= fits[1] - 1e-7
    assert found.found.all()
    # Rounding hides which of the two it was; where the shift leads out, there is but one.
    assert found.ambiguous.mean() > (0.9 if shift == (0, 0) else 0.3)


def test_reversed_polarity_is_found_with_a_negative_gain():
    cube = rough(np.random.default_rng(3), (20, 40, 44)).astype(np.float32)
    np.save("cube.npy", cube)
    dice = np.random.default_rng(4)
    at = dice.integers(np.subtract(cube.shape, (1, SIZE, SIZE)) + 1, size=(24, 3))
    images = np.stack([cube[i, r : r + SIZE, c : c + SIZE] for i, r, c in at])
    images, _, truth = damage(images, np.zeros(24), 5, order="kept")
    reversed_ = np.where(np.arange(24)[:, None, None] % 2, images, 255 - images)
    found = locate_patches(reversed_, "cube.npy", axis=0)
    assert np.stack([found.index, found.row, found.column], 1).tolist() == at.tolist()
    assert not found.ambiguous.any()
    sign = np.where(np.arange(24) % 2, 1, -1)
    assert found.intensity.gain == pytest.approx(sign * truth.gain, rel=0.05)


def test_the_way_up_ends_where_nothing_in_the_neighbourhood_is_better():
    cube = layers(np.random.default_rng(6), (30, 40, 60)).astype(np.float32)
    np.save("cube.npy", cube)
    planes, dice = [Planes(open_volume("cube.npy"), 0)], np.random.default_rng(7)
    at = dice.integers((10, 12, 12), (20, 14, 34), size=(6, 3))
    images = np.stack([noisy(cube[i, r : r + SIZE, c : c + SIZE], dice) for i, r, c in at])
    starts = np.array(at) + dice.integers(-6, 7, size=at.shape)
    wanted = [(k, (0, 0, *map(int, start))) for k, start in enumerate(starts)]
    with executor() as workers:
        found = dict(close(wanted, Patches(images[:, None], None, ("none",)), planes, workers))
    every = windows(cube, 0)
    for k, peak in found.items():
        here = peak.place[2:]
        box = tuple(
            slice(max(0, a - n), a + n + 1) for a, n in zip(here, NEIGHBOURHOOD, strict=True)
        )
        near = every[box].reshape(-1, SIZE * SIZE)
        fits = [np.corrcoef(images[k].ravel(), one)[0, 1] for one in near]
        assert peak.score >= max(fits) - 1e-9
        assert peak.score == pytest.approx(
            np.corrcoef(images[k].ravel(), every[here].ravel())[0, 1]
        )


def _leaving(share: float, dice: np.random.Generator) -> tuple[Picture, Comparison, Comparison]:
    """A patch of 8 bits, its window, and one that leaves so many times the energy of rounding."""
    window = 40 * gaussian_filter(dice.normal(size=(1, 40, 40)), 1)
    patch = Picture.of(np.round(window))
    other = window + dice.normal(size=window.shape) * np.sqrt((share - 1) / 12)
    return patch, *compare([patch, patch], [window, other])


@pytest.mark.parametrize("seed", range(5))
def test_what_leaves_more_than_rounding_is_no_copy(seed):
    dice = np.random.default_rng(seed)
    # Half or twice the limits (1.1 and 2 times the energy that rounding leaves) would fail here.
    for share, exact, clear in ((1.04, True, False), (1.5, False, False), (2.6, False, True)):
        _, right, other = _leaving(share, dice)
        assert right.exact
        assert other.exact == exact
        assert (clearer(right, other) == np.inf) == clear


def test_patches_of_few_grey_values_are_not_called_exact():
    window = gaussian_filter(np.random.default_rng(8).normal(size=(1, 60, 60)), 1)
    window /= window.std()
    # The share of rounding in the energy, 1 / 12 over the square of the contrast.
    for contrast, exact in ((1.7, True), (1.2, False)):
        (fit,) = compare([Picture.of(np.round(contrast * window))], [window])
        assert fit.exact == exact


@pytest.mark.parametrize("size", [(40, 40), (150, 90)])
def test_some_pixels_tell_the_correlation_nearly(size):
    dice = np.random.default_rng(9)
    region = gaussian_filter(dice.normal(size=(1, 1, size[0] + 3, size[1] + 3)), (0, 0, 2, 1))
    patch = region[0, :, 1 : 1 + size[0], 2 : 2 + size[1]]
    picture = Picture.of(patch + 0.2 * patch.std() * dice.normal(size=patch.shape))
    region = region.astype(np.float32)
    some, every = thinned([region], [picture], 16)[0], picture.correlate(region)
    # Three times what chance gives for sixteen samples a side.
    assert np.abs(some - every).max() < 3 * (1 - every.min() ** 2) / 16
    assert some.argmax() == every.argmax()


def test_many_patches_are_believed_without_comparing_every_window(monkeypatch):
    monkeypatch.setattr("outcrop.locating.find._EXHAUSTIVE", 0)
    dice = np.random.default_rng(11)
    cube = rough(dice, (12, 40, 44)).astype(np.float32)
    np.save("cube.npy", cube)
    at = dice.integers(np.subtract(cube.shape, (1, SIZE, SIZE)) + 1, size=(130, 3))
    images = np.stack([cube[i, r : r + SIZE, c : c + SIZE] for i, r, c in at])
    images = images + 0.1 * images.std() * dice.normal(size=images.shape)
    few, many = (locate_patches(images[:n], "cube.npy", axis=0) for n in (50, 130))
    for found, n in ((few, 50), (many, 130)):
        right = (np.stack([found.index, found.row, found.column], 1) == at[:n]).all(axis=1)
        assert right.all()
    # Of few patches nothing tells how likely a place looks that is right.
    assert few.ambiguous.all()
    assert many.ambiguous.mean() < 0.5


def test_the_places_of_patches_are_known_to_be_among_the_likely_ones(monkeypatch):
    monkeypatch.setattr(find_module, "_EXHAUSTIVE", 0)
    seen, own = [], find_module._own
    monkeypatch.setattr(find_module, "_own", lambda *held: seen.append(own(*held)) or seen[-1])
    # One of five slices stands for its neighbours, which look alike from farther away too.
    dice, size = np.random.default_rng(13), 40
    cube = gaussian_filter(dice.normal(size=(40, 60, 70)), (20, 1.5, 1))
    cube = (cube / cube.std() + 0.1 * dice.normal(size=cube.shape)).astype(np.float32)
    np.save("cube.npy", cube)
    at = dice.integers(np.subtract(cube.shape, (1, size, size)) + 1, size=(150, 3))
    at[:40, 0] = 0
    images = np.stack([cube[i, r : r + size, c : c + size] for i, r, c in at])
    found = locate_patches(np.round(4 * images), "cube.npy", axis=0)
    assert found.found.all()
    assert np.concatenate(seen).min() > 0
