"""No patch is located at a place where it fits worse than at another place."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.ndimage import gaussian_filter, rotate, uniform_filter1d, zoom

from outcrop.executors import Serial, executor
from outcrop.locating import copies
from outcrop.locating import find as find_module
from outcrop.locating.correlation import Comparison, Template, compare, sparse_correlation, vuong
from outcrop.locating.locate import locate as locate_patches
from outcrop.locating.planes import Patches, Planes, Slab
from outcrop.locating.refinement import NEIGHBOURHOOD, climb
from outcrop.patches.flips import FLIPS, flip
from outcrop.sources.volumes import open_volume
from outcrop.synthetic.damage import damage

SIZE = 14


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def layers(rng: np.random.Generator, shape=(16, 20, 30)) -> np.ndarray:
    """Dipping layers with a little noise; good fits form a ridge that crosses the slices."""
    i, x, t = np.indices(shape)
    dip = rng.uniform(-1, 1, 2)
    trace = gaussian_filter(rng.normal(size=200), rng.uniform(1, 2))
    cube = np.interp(t + dip[0] * i + dip[1] * x + 60, np.arange(200), trace)
    return cube + rng.uniform(0.01, 0.3) * cube.std() * rng.normal(size=shape)


def alike(rng: np.random.Generator, shape=(16, 20, 30)) -> np.ndarray:
    """Slices that differ by a thousandth of their contrast."""
    one = gaussian_filter(rng.normal(size=shape[1:]), (1.5, 1))
    return one / one.std() + 0.001 * rng.normal(size=shape)


def rough(rng: np.random.Generator, shape=(16, 20, 30)) -> np.ndarray:
    return gaussian_filter(rng.normal(size=shape), rng.uniform(0.3, 2, 3))


def noisy(patch: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return patch + rng.uniform(0.01, 1) * patch.std() * rng.normal(size=patch.shape)


CHANGES = {
    "none": lambda patch, rng: patch,
    "negative": lambda patch, rng: 5 - 2 * patch,
    "8 bits": lambda patch, rng: np.round(200 * (patch - patch.min()) / np.ptp(patch)),
    "3 bits": lambda patch, rng: np.round(7 * (patch - patch.min()) / np.ptp(patch)),
    "noise": noisy,
    "gain control": lambda patch, rng: (
        patch / np.sqrt(uniform_filter1d(patch**2, 9, axis=1) + 1e-6 * (patch**2).mean())
    ),
    "rotated": lambda patch, rng: rotate(patch, 3, reshape=False, order=1, mode="nearest"),
    "resized": lambda patch, rng: zoom(patch, 1.08, order=1)[:SIZE, :SIZE],
}


def windows(cube: np.ndarray, axis: int) -> np.ndarray:
    """All windows of the slices of an axis, `slices × rows × columns × pixels`."""
    stack = np.moveaxis(cube, axis, 0)
    return np.lib.stride_tricks.sliding_window_view(stack, (SIZE, SIZE), axis=(1, 2))


@settings(deadline=None, max_examples=12)
@given(
    st.sampled_from([layers, alike, rough]), st.sampled_from(sorted(CHANGES)),
    st.integers(0, 10**6),
)  # fmt: skip
def test_no_window_of_the_source_fits_better_than_the_place_found(kind, change, seed):
    rng = np.random.default_rng(seed)
    cube = kind(rng).astype(np.float32)
    np.save("cube.npy", cube)
    images = []
    for axis in (0, 1, 0, 1):
        every = windows(cube, axis)
        place = tuple(rng.integers(every.shape[:3]))
        images.append(CHANGES[change](every[place].astype(float), rng))
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
        # Every window was compared, so that no better place was missed.
        assert found.score[k] >= best - 1e-6


def test_exact_copies_are_found_among_nearly_equal_slices():
    cube = alike(np.random.default_rng(1), (60, 30, 40)).astype(np.float32)
    np.save("cube.npy", cube)
    rng = np.random.default_rng(2)
    at = rng.integers(np.subtract(cube.shape, (1, SIZE, SIZE)) + 1, size=(20, 3))
    images = np.stack([cube[i, r : r + SIZE, c : c + SIZE] for i, r, c in at])
    for changed in (images, (7 * images - 3).astype(np.float32), -images):
        found = locate_patches(changed, "cube.npy", axis=0)
        assert np.stack([found.index, found.row, found.column], 1).tolist() == at.tolist()
        assert not found.ambiguous.any()
    grey = np.round(100 * (images - images.min()) / np.ptp(images)).astype(np.uint8)
    found = locate_patches(grey, "cube.npy", axis=0)
    # After rounding the slices cannot be distinguished.
    assert found.found.all()
    assert found.ambiguous.all()


@pytest.mark.parametrize("shift", [(0, 0), (5, 3)])
@pytest.mark.parametrize("bits", [8, 5])
def test_a_place_and_its_distant_copy_are_ambiguous(bits, shift):
    rng = np.random.default_rng(12)
    once = rough(rng, (24, 40, 44))
    again = np.roll(once, shift, (1, 2)) + 0.003 * once.std() * rng.normal(size=once.shape)
    cube = np.concatenate([once, again]).astype(np.float32)
    np.save("cube.npy", cube)
    at = rng.integers(np.subtract(cube.shape, (1, SIZE, SIZE)) + 1, size=(60, 3))
    images = np.stack([cube[i, r : r + SIZE, c : c + SIZE] for i, r, c in at])
    images = np.round((images - images.min()) / np.ptp(images) * (2**bits - 1))
    found = locate_patches(images.astype(np.float32), "cube.npy", axis=0)
    for k, (i, r, c) in enumerate(zip(found.index, found.row, found.column, strict=True)):
        here = cube[i, r : r + SIZE, c : c + SIZE]
        there = cube[at[k, 0], at[k, 1] : at[k, 1] + SIZE, at[k, 2] : at[k, 2] + SIZE]
        fits = [np.corrcoef(images[k].ravel(), one.ravel())[0, 1] for one in (here, there)]
        assert found.ambiguous[k] or fits[0] >= fits[1] - 1e-7
    assert found.found.all()
    # After rounding the two cannot be distinguished. Some shifted windows leave the cube, so that
    # only one place is left.
    assert found.ambiguous.mean() > (0.9 if shift == (0, 0) else 0.3)


def test_reversed_polarity_is_found_with_a_negative_gain():
    cube = rough(np.random.default_rng(3), (20, 40, 44)).astype(np.float32)
    np.save("cube.npy", cube)
    rng = np.random.default_rng(4)
    at = rng.integers(np.subtract(cube.shape, (1, SIZE, SIZE)) + 1, size=(24, 3))
    images = np.stack([cube[i, r : r + SIZE, c : c + SIZE] for i, r, c in at])
    images, _, truth = damage(images, np.zeros(24), 5, order="kept")
    reversed_ = np.where(np.arange(24)[:, None, None] % 2, images, 255 - images)
    found = locate_patches(reversed_, "cube.npy", axis=0)
    assert np.stack([found.index, found.row, found.column], 1).tolist() == at.tolist()
    assert not found.ambiguous.any()
    sign = np.where(np.arange(24) % 2, 1, -1)
    assert found.intensity.gain == pytest.approx(sign * truth.gain, rel=0.05)


def test_an_ascent_ends_where_no_window_of_the_neighbourhood_fits_better():
    cube = layers(np.random.default_rng(6), (30, 40, 60)).astype(np.float32)
    np.save("cube.npy", cube)
    planes, rng = [Planes(open_volume("cube.npy"), 0)], np.random.default_rng(7)
    at = rng.integers((10, 12, 12), (20, 14, 34), size=(6, 3))
    images = np.stack([noisy(cube[i, r : r + SIZE, c : c + SIZE], rng) for i, r, c in at])
    starts = np.array(at) + rng.integers(-6, 7, size=at.shape)
    wanted = [(k, (0, 0, *map(int, start))) for k, start in enumerate(starts)]
    with executor() as workers:
        found = dict(climb(wanted, Patches(images[:, None], None, ("none",)), planes, workers))
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


def _leaving(share: float, rng: np.random.Generator) -> tuple[Template, Comparison, Comparison]:
    """A patch of 8 bits, the fit of its window, and that of one with `share` times the residual."""
    window = 40 * gaussian_filter(rng.normal(size=(1, 40, 40)), 1)
    patch = Template.of(np.round(window))
    other = window + rng.normal(size=window.shape) * np.sqrt((share - 1) / 12)
    return patch, *compare([patch, patch], [window, other])


@pytest.mark.parametrize("seed", range(5))
def test_a_window_with_a_residual_above_rounding_is_no_copy(seed):
    rng = np.random.default_rng(seed)
    # Half or twice the limits (1.1 and 2 times the energy of rounding) would fail here.
    for share, exact, clear in ((1.04, True, False), (1.5, False, False), (2.6, False, True)):
        _, right, other = _leaving(share, rng)
        assert right.exact
        assert other.exact == exact
        assert (vuong(right, other) == np.inf) == clear


def test_patches_of_few_grey_values_do_not_count_as_exact():
    window = gaussian_filter(np.random.default_rng(8).normal(size=(1, 60, 60)), 1)
    window /= window.std()
    # Rounding has an energy of 1 / 12 over the square of the contrast.
    for contrast, exact in ((1.7, True), (1.2, False)):
        (fit,) = compare([Template.of(np.round(contrast * window))], [window])
        assert fit.exact == exact


@pytest.mark.parametrize("size", [(40, 40), (150, 90)])
def test_a_sparse_correlation_is_near_the_full_one(size):
    rng = np.random.default_rng(9)
    region = gaussian_filter(rng.normal(size=(1, 1, size[0] + 3, size[1] + 3)), (0, 0, 2, 1))
    patch = region[0, :, 1 : 1 + size[0], 2 : 2 + size[1]]
    picture = Template.of(patch + 0.2 * patch.std() * rng.normal(size=patch.shape))
    region = region.astype(np.float32)
    some, every = sparse_correlation([region], [picture], 16)[0], picture.correlate(region)
    # Three standard errors for sixteen samples a side.
    assert np.abs(some - every).max() < 3 * (1 - every.min() ** 2) / 16
    assert some.argmax() == every.argmax()


def test_many_patches_are_unambiguous_although_not_every_window_was_compared(monkeypatch):
    monkeypatch.setattr("outcrop.locating.find._EXHAUSTIVE", 0)
    monkeypatch.setattr("outcrop.locating.find._UNSETTLED", 0)
    rng = np.random.default_rng(11)
    cube = rough(rng, (12, 40, 44)).astype(np.float32)
    np.save("cube.npy", cube)
    at = rng.integers(np.subtract(cube.shape, (1, SIZE, SIZE)) + 1, size=(130, 3))
    images = np.stack([cube[i, r : r + SIZE, c : c + SIZE] for i, r, c in at])
    images = images + 0.1 * images.std() * rng.normal(size=images.shape)
    few, many = (locate_patches(images[:n], "cube.npy", axis=0) for n in (50, 130))
    for found, n in ((few, 50), (many, 130)):
        right = (np.stack([found.index, found.row, found.column], 1) == at[:n]).all(axis=1)
        assert right.all()
    # Few patches do not show which scores the candidates at true places have.
    assert few.ambiguous.all()
    assert many.ambiguous.mean() < 0.5


def layers_with_noise(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Layers that differ by their noise alone, places in them, and the patches there."""
    rng = np.random.default_rng(seed)
    layer = gaussian_filter(rng.normal(size=80), 1.5)
    cube = (layer / layer.std() + 0.05 * rng.normal(size=(24, 200, 80))).astype(np.float32)
    at = rng.integers(np.subtract(cube.shape, (1, 40, 40)) + 1, size=(30, 3))
    return cube, at, np.stack([cube[i, r : r + 40, c : c + 40] for i, r, c in at])


def grey(images: np.ndarray, levels: int) -> np.ndarray:
    return np.round((images - images.min()) / np.ptp(images) * (levels - 1)).astype(np.uint8)


@pytest.mark.parametrize(
    "change",
    [
        lambda images: images,
        lambda images: 7 - 0.2 * images,
        lambda images: grey(images, 250),
        lambda images: 255 - grey(images, 250),
        lambda images: np.where(np.arange(40) < 10, np.nan, images),
        lambda images: np.repeat(images[:, None], 3, axis=1),
    ],
)
def test_copies_of_layers_that_differ_by_noise_alone_are_found_by_their_signs(monkeypatch, change):
    cube, at, images = layers_with_noise(21)
    np.save("cube.npy", cube)
    # As in a large source, in which no pass of signatures tells these places apart.
    monkeypatch.setattr(find_module, "_EXHAUSTIVE", 0)
    monkeypatch.setattr(find_module, "_UNSETTLED", 0)
    found = locate_patches(change(images), "cube.npy", axis=0)
    assert np.stack([found.index, found.row, found.column], 1).tolist() == at.tolist()
    assert not found.ambiguous.any()
    monkeypatch.setattr(find_module, "codes_for", lambda *_: [])
    assert locate_patches(change(images), "cube.npy", axis=0).ambiguous.any()


def test_flipped_copies_are_found_by_their_signs(monkeypatch):
    cube, at, images = layers_with_noise(21)
    np.save("cube.npy", cube)
    monkeypatch.setattr(find_module, "_EXHAUSTIVE", 0)
    monkeypatch.setattr(find_module, "_UNSETTLED", 0)
    names = list(FLIPS)
    flipped = [flip(image, names[k % len(names)]) for k, image in enumerate(images)]
    found = locate_patches(np.stack(flipped), "cube.npy", axis=0, flips=True)
    assert np.stack([found.index, found.row, found.column], 1).tolist() == at.tolist()
    assert found.flip.tolist() == [names[k % len(names)] for k in range(len(images))]
    assert not found.ambiguous.any()


def test_patches_of_few_grey_levels_are_correlated_with_every_window(monkeypatch):
    cube, at, images = layers_with_noise(21)
    np.save("cube.npy", cube)
    monkeypatch.setattr(find_module, "_EXHAUSTIVE", 0)
    few = grey(images, 20)
    found = locate_patches(few, "cube.npy", axis=0)
    assert np.stack([found.index, found.row, found.column], 1).tolist() == at.tolist()
    monkeypatch.setattr(find_module, "_UNSETTLED", 0)
    found = locate_patches(few, "cube.npy", axis=0)
    wrong = (np.stack([found.index, found.row, found.column], 1) != at).any(axis=1)
    assert wrong.any()
    assert (found.ambiguous | ~found.found)[wrong].all()


@given(
    seed=st.integers(0, 2**32 - 1),
    lag=st.sampled_from([1, 2, 4]),
    gain=st.floats(0.01, 100),
    offset=st.floats(-1000, 1000),
)
def test_rounding_changes_no_sign_of_a_difference_of_two_steps(seed, lag, gain, offset):
    rng = np.random.default_rng(seed)
    image = rng.normal(size=(60, 90)) * rng.uniform(1, 50)
    rounded = np.round(image)
    sure = copies._least(np.abs(copies._mixed(rounded, lag)), lag) >= 2
    there = copies._codes(image.astype(np.float32), lag)
    changed = copies._codes((gain * rounded + offset).astype(np.float32), lag)
    assert (there == changed)[sure].all()
    assert (there == ~copies._codes(-image.astype(np.float32), lag))[sure].all()


def test_a_code_holds_the_signs_of_its_32_differences():
    image = np.random.default_rng(3).normal(size=(30, 60)).astype(np.float32)
    for lag in (1, 2, 4):
        code = copies._codes(image, lag)
        r, c = 3, 5
        signs = [
            image[r + i * lag, c + j * lag] - image[r + i * lag, c + (j + 1) * lag]
            > image[r + (i + 1) * lag, c + j * lag] - image[r + (i + 1) * lag, c + (j + 1) * lag]
            for i in range(4)
            for j in range(8)
        ]
        assert code[r, c] == sum(int(sign) << k for k, sign in enumerate(signs))


@pytest.mark.parametrize(("equal", "slices"), [(0.25, [0, 1]), (0.5, [0]), (1.0, [])])
def test_windows_with_half_of_the_signs_are_candidates(monkeypatch, equal, slices):
    rng = np.random.default_rng(5)
    cube = rng.normal(size=(3, 60, 80)).astype(np.float32)
    patch = cube[0, 10:50, 20:60].copy()
    cube[0] += 0.3 * rng.normal(size=cube[0].shape)
    cube[1, 10:28, 20:60] = patch[:18]
    np.save("cube.npy", cube)
    monkeypatch.setattr(copies, "_EQUAL", equal)
    planes, every = Planes(open_volume("cube.npy"), 0), Patches(patch[None, None], None, ("none",))
    codes = copies.codes_for(every, [planes])[0]
    anchors = copies.find_anchors(every, codes, Serial())
    slab = Slab(0, 3, 0, 0, 60, 80)
    found = copies.scan_copies(enumerate(cube[:, None]), slab, 0, anchors, (40, 40), 4, (0, 0, 0))
    assert found.index[np.isfinite(found.score)].tolist() == slices


def test_the_true_places_are_among_the_candidates(monkeypatch):
    monkeypatch.setattr(find_module, "codes_for", lambda *_: [])
    monkeypatch.setattr(find_module, "_EXHAUSTIVE", 0)
    monkeypatch.setattr(find_module, "_UNSETTLED", 0)
    seen, own = [], find_module._own_scores
    monkeypatch.setattr(
        find_module, "_own_scores", lambda *given: seen.append(own(*given)) or seen[-1]
    )
    # One of five slices represents its neighbours; slices farther away are similar too.
    rng, size = np.random.default_rng(13), 40
    cube = gaussian_filter(rng.normal(size=(40, 60, 70)), (20, 1.5, 1))
    cube = (cube / cube.std() + 0.1 * rng.normal(size=cube.shape)).astype(np.float32)
    np.save("cube.npy", cube)
    at = rng.integers(np.subtract(cube.shape, (1, size, size)) + 1, size=(150, 3))
    at[:40, 0] = 0
    images = np.stack([cube[i, r : r + size, c : c + size] for i, r, c in at])
    found = locate_patches(np.round(4 * images), "cube.npy", axis=0)
    assert found.found.all()
    assert np.concatenate(seen).min() > 0


def jpeg(patch: np.ndarray) -> np.ndarray:
    grey = np.round(200 * (patch - patch.min()) / np.ptp(patch)).astype(np.uint8)
    with io.BytesIO() as file:
        Image.fromarray(grey).save(file, "jpeg", quality=75)
        return np.asarray(Image.open(file), np.float32)


def slices_of(cube: np.ndarray, size: int, rng: np.random.Generator, count: int) -> np.ndarray:
    """Patches of slices across each axis in turn, as JPEG files hold them."""
    made = []
    for number in range(count):
        across = np.moveaxis(cube, number % 3, 0)
        index, row, column = (
            int(rng.integers(length - part + 1))
            for length, part in zip(across.shape, (1, size, size), strict=True)
        )
        made.append(jpeg(across[index, row : row + size, column : column + size]))
    return np.stack(made)[:, None]


@pytest.mark.parametrize("seed", [0, 1])
def test_few_patches_of_several_kinds_are_found_among_slices_alike(seed):
    """Patches with few waves fit well anywhere; this must not hide the others."""
    rng = np.random.default_rng(seed)
    cube = alike(rng, (40, 48, 80)).astype(np.float32)
    np.save("cube.npy", cube)
    found = locate_patches(slices_of(cube, 32, rng, 12), "cube.npy")
    assert found.found.all()
    assert found.ambiguous.all()
    other = alike(np.random.default_rng(seed + 100), cube.shape).astype(np.float32)
    assert not locate_patches(slices_of(other, 32, rng, 12), "cube.npy").found.any()
