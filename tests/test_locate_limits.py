"""The numbers in `outcrop.locating` that decide: each fails here at half or twice what it is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, rotate
from scipy.stats import norm

from outcrop.executors import Threads, executor
from outcrop.locating import find as find_module
from outcrop.locating.comparison import Comparison, Picture, clearer, compare, thinned
from outcrop.locating.find import find
from outcrop.locating.locate import SURE
from outcrop.locating.peaks import _CHANCE, CLEAR, Found, likeliest
from outcrop.locating.planes import Planes
from outcrop.locating.refinement import close
from outcrop.locating.search import _ALIKE
from outcrop.locating.signature import _LENGTH
from outcrop.locating.verify import (
    _FEW,
    _THIN,
    NEIGHBOURHOOD,
    Patches,
    Peak,
    _may_fit,
    _outstanding,
)
from outcrop.sources.volumes import open_volume

SIZE = 20


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def cube(seed: int, shape=(30, 60, 80), sigma=(0.8, 1.2, 1.2)) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=shape)
    return gaussian_filter(noise, sigma).astype(np.float32)


def cut(samples: np.ndarray, n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    most = np.subtract(samples.shape, (1, SIZE, SIZE)) + 1
    at = np.random.default_rng(seed).integers(most, size=(n, 3))
    return np.stack([samples[i, r : r + SIZE, c : c + SIZE] for i, r, c in at]), at


def peaks_of(images: np.ndarray, path: str) -> list[Found]:
    with executor() as workers:
        every = Patches(images[:, None].astype(np.float32), None, ("none",))
        return find(every, [Planes(open_volume(path), 0)], workers)


@pytest.mark.parametrize("axis", range(3))
def test_the_neighbourhood_ends_where_it_says(axis):
    small = 8
    noise = cube(0, (40, 60, 60), (0, 0, 0))
    at = np.array([20, 20, 20])
    box = tuple(slice(k, k + n) for k, n in zip(at, (1, small, small), strict=True))
    patch = noise[box][0]
    for away, reached in ((NEIGHBOURHOOD[axis], True), (NEIGHBOURHOOD[axis] + 1, False)):
        start = at - away * (np.arange(3) == axis)
        # A copy with noise, which no place but the true one beats.
        samples = noise.copy()
        here = tuple(slice(k, k + n) for k, n in zip(start, (1, small, small), strict=True))
        samples[here] = patch + 0.5 * np.random.default_rng(1).normal(size=patch.shape)
        np.save("cube.npy", samples)
        every = Patches(patch[None, None], None, ("none",))
        wanted = [(0, (0, 0, *map(int, start)))]
        with executor() as workers:
            ((_, peak),) = close(wanted, every, [Planes(open_volume("cube.npy"), 0)], workers)
        assert (peak.place[2:] == tuple(at)) == reached
    # What dips by 45 degrees moves as many pixels as slices; twice as many are looked at.
    assert NEIGHBOURHOOD == (4, 8, 8)


def test_the_best_window_is_compared_with_the_eight_around_it():
    row, column = np.indices((17, 17)) - 8
    one = np.exp(-(row**2 + 1.1 * column**2) / 200)
    found = _outstanding(np.stack([0.5 * one, one, 0.5 * one]))
    around = {(1, 8 + r, 8 + c) for r in (-1, 0, 1) for c in (-1, 0, 1)}
    assert set(found) == around | {(0, 8, 8), (2, 8, 8)}


def _peak(score: float, place: tuple[int, int, int], misfit: np.ndarray | None = None) -> Peak:
    picture = Picture.of(np.random.default_rng(0).normal(size=(1, 24, 24)))
    noise = np.random.default_rng(1).normal(size=(1, 24, 24)) / 24
    window = score * picture.centred + np.sqrt(1 - score**2) * noise
    return Peak(compare([picture], [window])[0], -1, np.inf, True, False, (0, 0, *place))


def test_runners_up_are_followed_as_far_as_they_were_seen_to_win():
    scores = [0.95, 0.93, 0.92, 0.91, 0.9, 0.89, 0.88, 0.87]
    peaks = [_peak(score, (0, 20 * k, 0)) for k, score in enumerate(scores)]
    chosen = list(likeliest({peak.place: peak for peak in peaks}))
    assert chosen == [peak.place for peak in peaks[:6]]
    worse = [_peak(0.95, (0, 0, 0)), _peak(0.88, (0, 20, 0)), _peak(0.8, (0, 40, 0))]
    assert list(likeliest({peak.place: peak for peak in worse})) == [one.place for one in worse[:2]]


@pytest.mark.parametrize(
    ("products", "known", "looks"),
    [
        (1.5e9, 0, ["all"]),
        (3e9, 0, ["quick", "close", "every slice"]),
        (6e9, 7, ["quick", "all"]),
        (6e9, 3, ["quick", "close", "every slice"]),
    ],
)
def test_every_window_is_compared_up_to_a_quarter_of_a_minute(monkeypatch, products, known, looks):
    class Stack:
        count, size, bands = int(products / 8 / 4000), (40, 100), 1

    seen = []

    def search(look, patches, planes, workers):
        seen.append(look)
        once = range(known if len(seen) == 1 else 0)
        return [(k, certain) for k in once], np.zeros(len(patches), bool)

    image = np.round(99 * np.random.default_rng(0).normal(size=(1, 24, 24)))
    (fit,) = compare([Picture.of(image)], [image])
    certain = Peak(fit, -1, np.inf, True, False, (0, 0, 0, 0, 0))
    monkeypatch.setattr(find_module, "_search", search)
    monkeypatch.setattr(find_module, "close", lambda *_: [])
    monkeypatch.setattr(find_module, "along", lambda *_: [])
    images = np.zeros((8, 1, 8, 8), np.float32)
    find(Patches(images, None, ("none",)), [Stack()], None)
    names = {700: "quick", 0: "all", 2800: "close"}
    said = ["every slice" if not one.skip and one.windows else names[one.windows] for one in seen]
    assert said == looks


@pytest.mark.parametrize(("score", "goes_on"), [(0.8, True), (0.93, False)])
def test_what_fits_well_is_not_looked_for_any_further(monkeypatch, score, goes_on):
    seen = []

    def search(look, patches, planes, workers):
        seen.append(look)
        return [(0, _peak(score, (0, 0, 0)))], np.zeros(1, bool)

    monkeypatch.setattr(find_module, "_EXHAUSTIVE", -1)
    monkeypatch.setattr(find_module, "_search", search)
    monkeypatch.setattr(find_module, "close", lambda *_: [])
    find(Patches(np.zeros((1, 1, 8, 8), np.float32), None, ("none",)), [], Threads(1))
    # The quick look, then one with more windows, and one at every slice where that found nothing.
    assert len(seen) == (3 if goes_on else 2)


@pytest.mark.parametrize(
    ("n", "complete", "looks"),
    [
        (128, (1, -1), [(700, 2, 128), (2800, 16, 128), (2800, 16, 12)]),
        (129, (1, -1), [(700, 2, 129), (700, 8, 129), (2800, 16, 30 + 12), (2800, 16, 4)]),
        # That no place was left out of a look for patches as they are says nothing of negatives.
        (129, (1,), [(700, 2, 129), (700, 8, 129), (2800, 16, 129), (2800, 16, 12)]),
    ],
)
def test_many_that_are_no_exact_copies_are_looked_for_again_first(monkeypatch, n, complete, looks):
    seen = []

    def search(look, patches, planes, workers):
        seen.append((look.windows, look.most, len(patches)))
        fitting = len(patches) - len(patches) // 10
        # Of three in four no place was left out.
        clear = (np.arange(len(patches)) % 4 > 0) & (look.signs == complete)
        return [(k, _peak(0.93, (0, 0, 0))) for k in range(fitting)], clear

    monkeypatch.setattr(find_module, "_EXHAUSTIVE", -1)
    monkeypatch.setattr(find_module, "_search", search)
    monkeypatch.setattr(find_module, "close", lambda *_: [])
    find(Patches(np.zeros((n, 1, 8, 8), np.float32), None, ("none",)), [], Threads(1))
    assert seen == looks


def test_slices_that_look_alike_do_so_more_than_windows_by_chance():
    dice = np.random.default_rng(2)
    windows = dice.normal(size=(200_000, _LENGTH)).astype(np.float32)
    windows /= np.linalg.norm(windows, axis=1, keepdims=True)
    chance = (windows[:20] @ windows[20:].T).max()
    assert 0.5 * _ALIKE < chance < _ALIKE


def folds(seed: int) -> np.ndarray:
    """Folded layers whose strength changes sideways."""
    dice = np.random.default_rng(seed)
    shape = (30, 60, 80)
    depth = np.arange(shape[2]) + 80.0
    fold = gaussian_filter(dice.normal(size=shape[:2]), 8)
    layers = gaussian_filter(dice.normal(size=300), 1.2)
    bent = np.interp(depth + 10 * fold[..., None] / np.abs(fold).max(), np.arange(300), layers)
    gain = 1 + 2.4 * gaussian_filter(dice.normal(size=shape), (4, 4, 2))
    return (bent * gain).astype(np.float32)


def _turned(samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How clearly the places of turned patches stand out, and whether they are right."""
    np.save("cube.npy", samples)
    images, at = cut(samples, 60, seed=4)
    stands, right = [], []
    for angle in (2, 3, 4):
        turned = [rotate(image, angle, reshape=False, order=1, mode="nearest") for image in images]
        for found, place in zip(peaks_of(np.stack(turned), "cube.npy"), at, strict=True):
            stands.append(found.stands)
            right.append(found.best.place[2:] == tuple(place))
    return np.array(stands), np.array(right)


def test_the_places_of_turned_patches_stand_out_by_less_than_the_limit_where_they_are_off():
    stands, right = _turned(folds(3))
    assert CLEAR / 2 < stands[~right].max() < CLEAR
    stands, right = _turned(cube(3, sigma=(3, 1.2, 1.2)))
    assert stands[~right].max() < CLEAR
    # Twice the limit would call nearly all of those ambiguous that are right and clear.
    assert (stands[right] > CLEAR).mean() > 0.1 > 10 * (stands[right] > 2 * CLEAR).mean()


def test_patches_from_elsewhere_do_not_stand_out_and_noisy_ones_do():
    limit = norm.ppf(SURE) * _CHANCE
    stands = []
    for seed in range(3):
        np.save("cube.npy", cube(10 + seed, sigma=(3, 6, 6)))
        foreign, _ = cut(cube(50 + seed, sigma=(3, 6, 6)), 60, seed=7)
        stands += [found.stands for found in peaks_of(foreign, "cube.npy")]
    assert limit / 2 < max(stands) < limit
    samples = cube(5)
    np.save("cube.npy", samples)
    own, _ = cut(samples, 120, seed=7)
    noisy = own + 0.9 * own.std() * np.random.default_rng(8).normal(size=own.shape)
    mine = np.array([found.stands for found in peaks_of(noisy, "cube.npy")])
    assert (mine > limit).mean() > 0.9 > 3 * (mine > 2 * limit).mean()


def test_grey_values_have_steps_up_to_sixteen_bits():
    dice = np.random.default_rng(9)
    window = gaussian_filter(dice.normal(size=(1, 40, 40)), 1)
    window -= window.min()
    for bits, step in ((15.9, 1.0), (16.1, 0.0)):
        image = np.round(window / window.max() * 2**bits)
        rounding = Picture.of(image).noise[0] * np.linalg.norm(image - image.mean())
        assert (rounding > 0.2 * np.sqrt(image.size)) == bool(step)


def test_what_gain_and_offset_leave_in_float32_is_a_copy_and_twice_as_much_is_none():
    dice = np.random.default_rng(10)
    window = gaussian_filter(dice.normal(size=(1, 60, 60)), 1.5).astype(np.float32)
    window /= window.std()
    # A mean of ten times the contrast, as amplitudes of radar or elevations may have.
    changed = (np.float32(3.7) * window + np.float32(37)).astype(np.float32)
    (fit,) = compare([Picture.of(changed.astype(np.float64))], [window])
    assert fit.exact
    for share, exact in ((0.8e-6, True), (1.6e-6, False)):
        noisy = window.astype(np.float64)
        noisy += share * dice.normal(size=window.shape)
        (fit,) = compare([Picture.of(noisy)], [window])
        assert fit.exact == exact


def _fit(misfit: np.ndarray) -> Comparison:
    return Comparison(0.9, misfit, False, np.zeros((5, 1)), 100)


@pytest.mark.parametrize("side", [_FEW, _THIN])
def test_a_place_that_fits_just_well_enough_is_hardly_ever_left_out_by_some_pixels(side):
    rng = np.random.default_rng(3)
    lost = {}
    for score in (0.5, 0.85, 0.96):
        patches = rng.normal(size=(500, 1, 32, 32))
        noise = np.sqrt(1 / score**2 - 1) * rng.normal(size=patches.shape)
        seen = thinned(list((patches + noise)[:, None]), list(map(Picture.of, patches)), side)
        lost[score] = np.mean([not _may_fit(one, score, side) for one in seen.ravel()])
    assert 0.005 < max(lost.values()) < 0.07
    assert not _may_fit(0.7, 0.96, side)


def test_parts_without_contrast_decide_nothing():
    # A twentieth of the blocks has the contrast; the rest is all but zero, and better by chance.
    misfit = np.full(40, 1e-9)
    misfit[:2] = 1.0
    other = np.full(40, 3e-9)
    other[:2] = 0.5
    assert clearer(_fit(misfit), _fit(other)) < 0


@pytest.mark.parametrize(("strong", "sign"), [(0.5, 1), (0.9, -1)])
def test_what_is_a_thousandth_of_the_misfit_counts_half(strong, sign):
    # In half of the blocks the other place fits better; in the others it leaves a thousandth of the
    # mean misfit, and this one nothing: that is ln 2.
    misfit, other = np.zeros(40), np.zeros(40)
    misfit[:20], other[:20] = 1, np.exp(-strong)
    other[20:] = 1e-3 * (misfit.mean() + other.mean())
    assert np.sign(clearer(_fit(misfit), _fit(other))) == sign


@pytest.mark.parametrize("side", [24, 40, 96])
def test_a_patch_is_compared_in_some_thirty_blocks_of_sixteen_pixels_or_more(side):
    dice = np.random.default_rng(11)
    patch = dice.normal(size=(1, side, side))
    (fit,) = compare([Picture.of(patch)], [patch + dice.normal(size=patch.shape)])
    assert fit.misfit.size == 36
    (small,) = compare([Picture.of(patch[:, :16, :16])], [dice.normal(size=(1, 16, 16))])
    assert small.misfit.size == 16


def test_the_statistic_is_normal_where_two_places_fit_as_well():
    dice = np.random.default_rng(12)
    found = []
    for _ in range(400):
        patch = gaussian_filter(dice.normal(size=(1, 24, 24)), 1)
        windows = [patch + gaussian_filter(dice.normal(size=patch.shape), (0, 0.6, 0.6))
                   for _ in range(2)]  # fmt: skip
        found.append(clearer(*compare([Picture.of(patch)] * 2, windows)))
    assert np.std(found) == pytest.approx(1, abs=0.15)
    assert np.mean(np.abs(found) > 1.96) < 0.12


COSTS = {
    "planes._SLAB_SAMPLES": 1 << 12,
    "planes._SLABS": 4,
    "planes._TILE": 64,
    "planes._RUN": 64,
    "search._WINDOWS": 256,
    "search._PATCHES": 16,
    "search._CROWD": 8,
    "search._SIGNATURE_NUMBERS": 1 << 12,
    "search._SPECTRA_SAMPLES": 1 << 10,
    "search._FARTHEST": 2,
    "search._PLACES": 3,
    "search._SAMPLE": 512,
    "signature._LENGTH": 64,
    "signature._SAMPLE": 16,
    "refinement._ROUNDS": 16,
    "verify._MOST_STEPS": 64,
    "verify._THIN": 16,
    "verify._FEW": 8,
    "comparison._TOGETHER": 1 << 10,
    "find.NEAR": 0.8,
    "find._QUICK.windows": 700,
    "find._QUICK.noise": 0.2,
    "find._QUICK.most": 2,
    "find._AGAIN.most": 8,
    "find._CLOSE.windows": 2800,
    "find._CLOSE.noise": 1,
    "find._CLOSE.fully": 4,
    "find._CLOSE.most": 16,
}


@pytest.mark.parametrize("name", COSTS)
def test_what_bounds_time_and_memory_does_not_change_what_is_found(monkeypatch, name):
    samples = cube(13, (12, 60, 70))
    np.save("cube.npy", samples)
    images, at = cut(samples, 12, seed=14)
    noise = np.random.default_rng(15).normal(size=images[6:].shape)
    images[6:] += 0.3 * images[6:].std() * noise
    images[:6] = np.round(99 * images[:6])
    monkeypatch.setattr(find_module, "_EXHAUSTIVE", 0)
    monkeypatch.setattr("outcrop.locating.planes._KEPT_SAMPLES", 0)
    # Six patches are many.
    monkeypatch.setattr(find_module, "_CLOSE", replace(find_module._CLOSE, fully=4))
    tables = []
    for factor in (0.5, 1, 2):
        value = COSTS[name] * factor
        value = max(1, int(value)) if value >= 1 else value
        module, constant, *field = name.split(".")
        look = field and replace(getattr(find_module, constant), **{field[0]: value})
        monkeypatch.setattr(f"outcrop.locating.{module}.{constant}", look or value)
        found = peaks_of(images, "cube.npy")
        assert [one.best.place[2:] for one in found] == list(map(tuple, at.tolist()))
        tables.append([(one.best.score, one.unique) for one in found])
    assert tables[0] == tables[1] == tables[2]
