"""The constants of `outcrop.locating`: half or twice a constant fails a test here."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, rotate
from scipy.stats import norm

from outcrop.executors import Threads, executor
from outcrop.locating import find as find_module
from outcrop.locating.correlation import Comparison, Template, compare, sparse_correlation, vuong
from outcrop.locating.find import _CHANCE, UNIQUE_LEAD, PatchPeaks, find, starting_places
from outcrop.locating.locate import SURE
from outcrop.locating.locate import locate as locate_patches
from outcrop.locating.planes import Patches, Planes
from outcrop.locating.refinement import (
    _SPARSE,
    _SPARSEST,
    NEIGHBOURHOOD,
    Peak,
    _best_windows,
    _may_fit,
    climb,
    refine,
)
from outcrop.locating.search import _ALIKE, Candidates
from outcrop.locating.signature import _LENGTH
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


def peaks_of(images: np.ndarray, path: str) -> list[PatchPeaks]:
    with executor() as workers:
        every = Patches(images[:, None].astype(np.float32), None, ("none",))
        return find(every, [Planes(open_volume(path), 0)], workers)


@pytest.mark.parametrize("axis", range(3))
def test_the_neighbourhood_has_its_documented_size(axis):
    small = 8
    noise = cube(0, (40, 60, 60), (0, 0, 0))
    at = np.array([20, 20, 20])
    box = tuple(slice(k, k + n) for k, n in zip(at, (1, small, small), strict=True))
    patch = noise[box][0]
    for away, reached in ((NEIGHBOURHOOD[axis], True), (NEIGHBOURHOOD[axis] + 1, False)):
        start = at - away * (np.arange(3) == axis)
        # A noisy copy, at which only the true place fits better.
        samples = noise.copy()
        here = tuple(slice(k, k + n) for k, n in zip(start, (1, small, small), strict=True))
        samples[here] = patch + 0.5 * np.random.default_rng(1).normal(size=patch.shape)
        np.save("cube.npy", samples)
        every = Patches(patch[None, None], None, ("none",))
        wanted = [(0, (0, 0, *map(int, start)))]
        with executor() as workers:
            ((_, peak),) = climb(wanted, every, [Planes(open_volume("cube.npy"), 0)], workers)
        assert (peak.place[2:] == tuple(at)) == reached
    # Layers that dip by 45 degrees move one pixel per slice; twice as many pixels are compared.
    assert NEIGHBOURHOOD == (4, 8, 8)


def test_the_best_window_is_compared_with_the_eight_around_it():
    row, column = np.indices((17, 17)) - 8
    one = np.exp(-(row**2 + 1.1 * column**2) / 200)
    found = _best_windows(np.stack([0.5 * one, one, 0.5 * one]))
    around = {(1, 8 + r, 8 + c) for r in (-1, 0, 1) for c in (-1, 0, 1)}
    assert set(found) == around | {(0, 8, 8), (2, 8, 8)}


def _peak(score: float, place: tuple[int, int, int], misfit: np.ndarray | None = None) -> Peak:
    picture = Template.of(np.random.default_rng(0).normal(size=(1, 24, 24)))
    noise = np.random.default_rng(1).normal(size=(1, 24, 24)) / 24
    window = score * picture.centred + np.sqrt(1 - score**2) * noise
    return Peak(compare([picture], [window])[0], -1, np.inf, True, False, (0, 0, *place))


def test_the_six_best_candidates_are_followed():
    scores = [0.95, 0.93, 0.92, 0.91, 0.9, 0.89, 0.88, 0.87]
    peaks = [_peak(score, (0, 20 * k, 0)) for k, score in enumerate(scores)]
    chosen = list(starting_places(PatchPeaks({peak.place: peak for peak in peaks})))
    assert chosen == [peak.place for peak in peaks[:6]]
    worse = [_peak(0.95, (0, 0, 0)), _peak(0.88, (0, 20, 0)), _peak(0.8, (0, 40, 0))]
    assert list(starting_places(PatchPeaks({peak.place: peak for peak in worse}))) == [
        one.place for one in worse[:2]
    ]


def test_the_best_window_of_a_full_search_is_kept_if_a_sparse_ascent_leaves_it(monkeypatch):
    def into_a_corner(wanted, *others):
        return refine([(patch, (*place[:3], 0, 0)) for patch, place in wanted], *others)

    monkeypatch.setattr(find_module, "refine", into_a_corner)
    samples = cube(0)
    images, at = cut(samples, 8, 1)
    np.save("cube.npy", samples)
    noise = np.random.default_rng(2).normal(size=images.shape)
    for peaks, place in zip(peaks_of(images + 0.1 * noise, "cube.npy"), at, strict=True):
        assert peaks.best.place[2:] == tuple(place)


@pytest.mark.parametrize(
    ("products", "known", "passes"),
    [
        (1.5e9, 0, ["full"]),
        (3e9, 0, ["coarse", "fine", "full"]),
        (6e9, 7, ["coarse", "full"]),
        (6e9, 3, ["coarse", "fine", "full"]),
        (1.5e10, 0, ["coarse", "fine", "full"]),
        (2e10, 0, ["coarse", "fine", "every slice"]),
    ],
)
def test_every_window_is_compared_if_that_takes_minutes_at_most(
    monkeypatch, products, known, passes
):
    class Stack:
        count, size, bands = int(products / 8 / 4000), (40, 100), 1

    seen = []

    def search(settings, patches, planes, workers):
        seen.append(settings)
        once = range(known if len(seen) == 1 else 0)
        none = Candidates.empty(len(patches), 1)
        return [(k, certain) for k in once], np.zeros(len(patches), bool), none

    image = np.round(99 * np.random.default_rng(0).normal(size=(1, 24, 24)))
    (fit,) = compare([Template.of(image)], [image])
    certain = Peak(fit, -1, np.inf, True, False, (0, 0, 0, 0, 0))
    monkeypatch.setattr(find_module, "_search", search)
    monkeypatch.setattr(find_module, "codes_for", lambda *_: [])
    monkeypatch.setattr(find_module, "climb", lambda *_: [])
    monkeypatch.setattr(find_module, "along", lambda *_: [])
    images = np.zeros((8, 1, 8, 8), np.float32)
    find(Patches(images, None, ("none",)), [Stack()], None)
    names = {700: "coarse", 0: "full", 2800: "fine"}
    found = ["every slice" if not one.skip and one.windows else names[one.windows] for one in seen]
    assert found == passes


@pytest.mark.parametrize(("score", "goes_on"), [(0.8, True), (0.93, False)])
def test_a_patch_that_fits_well_is_not_searched_further(monkeypatch, score, goes_on):
    seen = []

    def search(settings, patches, planes, workers):
        seen.append(settings)
        return [(0, _peak(score, (0, 0, 0)))], np.zeros(1, bool), Candidates.empty(1, 1)

    monkeypatch.setattr(find_module, "_EXHAUSTIVE", -1)
    monkeypatch.setattr(find_module, "_UNSETTLED", -1)
    monkeypatch.setattr(find_module, "_search", search)
    monkeypatch.setattr(find_module, "codes_for", lambda *_: [])
    monkeypatch.setattr(find_module, "climb", lambda *_: [])
    find(Patches(np.zeros((1, 1, 8, 8), np.float32), None, ("none",)), [], Threads(1))
    # The coarse pass, a fine pass, and one over every slice if the fine pass found nothing.
    assert len(seen) == (3 if goes_on else 2)


@pytest.mark.parametrize(
    ("n", "complete", "passes"),
    [
        (128, (1, -1), [(700, 4, 128), (2800, 16, 128), (2800, 16, 12)]),
        (129, (1, -1), [(700, 4, 129), (700, 8, 129), (2800, 16, 30 + 12), (2800, 16, 4)]),
        # A pass that is complete for the patches need not be complete for their negatives.
        (129, (1,), [(700, 4, 129), (700, 8, 129), (2800, 16, 129), (2800, 16, 12)]),
    ],
)
def test_the_coarse_pass_is_repeated_for_many_inexact_patches(monkeypatch, n, complete, passes):
    seen = []

    def search(settings, patches, planes, workers):
        seen.append((settings.windows, settings.most, len(patches)))
        fitting = len(patches) - len(patches) // 10
        # The candidates of three in four patches are complete.
        clear = (np.arange(len(patches)) % 4 > 0) & (settings.signs == complete)
        peaks = [(k, _peak(0.93, (0, 0, 0))) for k in range(fitting)]
        return peaks, clear, Candidates.empty(len(patches), 1)

    monkeypatch.setattr(find_module, "_EXHAUSTIVE", -1)
    monkeypatch.setattr(find_module, "_UNSETTLED", -1)
    monkeypatch.setattr(find_module, "_search", search)
    monkeypatch.setattr(find_module, "codes_for", lambda *_: [])
    monkeypatch.setattr(find_module, "climb", lambda *_: [])
    find(Patches(np.zeros((n, 1, 8, 8), np.float32), None, ("none",)), [], Threads(1))
    assert seen == passes


@pytest.mark.parametrize("seed", [5, 32, 35])
def test_a_copy_is_a_candidate_beside_two_similar_places(monkeypatch, seed):
    rng = np.random.default_rng(seed)

    def smooth(*shape: int) -> np.ndarray:
        values = gaussian_filter(rng.normal(size=shape), (0,) * (len(shape) - 2) + (2, 2))
        return values / values.std()

    cube, patch = smooth(12, 100, 140), smooth(40, 40)
    cube[2, 21:61, 33:73] = patch
    cube[8, 45:85, 61:101] = patch + 0.003 * rng.normal(size=patch.shape)
    # These lie on the grid of the coarse pass and seem to fit better.
    for index, row, column in ((4, 8, 16), (6, 32, 48)):
        cube[index, row : row + 40, column : column + 40] = patch + 0.3 * smooth(40, 40)
    np.save("cube.npy", cube.astype(np.float32))
    grey = np.round(31 * (patch - patch.min()) / np.ptp(patch)).astype(np.uint8)
    monkeypatch.setattr(find_module, "_EXHAUSTIVE", -1)
    monkeypatch.setattr(find_module, "_UNSETTLED", -1)
    found = locate_patches(grey[None], "cube.npy", axis=0)
    assert found.index[0] in (2, 8)
    assert found.ambiguous[0]


def test_the_similarity_limit_of_slices_is_above_chance():
    rng = np.random.default_rng(2)
    windows = rng.normal(size=(200_000, _LENGTH)).astype(np.float32)
    windows /= np.linalg.norm(windows, axis=1, keepdims=True)
    chance = (windows[:20] @ windows[20:].T).max()
    assert 0.5 * _ALIKE < chance < _ALIKE


def folds(seed: int) -> np.ndarray:
    """Folded layers whose amplitude changes laterally."""
    rng = np.random.default_rng(seed)
    shape = (30, 60, 80)
    depth = np.arange(shape[2]) + 80.0
    fold = gaussian_filter(rng.normal(size=shape[:2]), 8)
    layers = gaussian_filter(rng.normal(size=300), 1.2)
    bent = np.interp(depth + 10 * fold[..., None] / np.abs(fold).max(), np.arange(300), layers)
    gain = 1 + 2.4 * gaussian_filter(rng.normal(size=shape), (4, 4, 2))
    return (bent * gain).astype(np.float32)


def _rotated(samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The leads of rotated patches, and whether their places are right."""
    np.save("cube.npy", samples)
    images, at = cut(samples, 60, seed=4)
    leads, right = [], []
    for angle in (2, 3, 4):
        rotated = [rotate(image, angle, reshape=False, order=1, mode="nearest") for image in images]
        for found, place in zip(peaks_of(np.stack(rotated), "cube.npy"), at, strict=True):
            leads.append(found.lead)
            right.append(found.best.place[2:] == tuple(place))
    return np.array(leads), np.array(right)


def test_wrong_places_of_rotated_patches_have_a_lead_below_the_limit():
    leads, right = _rotated(folds(3))
    assert UNIQUE_LEAD / 2 < leads[~right].max() < UNIQUE_LEAD
    leads, right = _rotated(cube(3, sigma=(3, 1.2, 1.2)))
    assert leads[~right].max() < UNIQUE_LEAD
    # With twice the limit nearly all right and unique places would be ambiguous.
    assert (leads[right] > UNIQUE_LEAD).mean() > 0.1 > 10 * (leads[right] > 2 * UNIQUE_LEAD).mean()


def test_patches_of_another_source_have_a_small_lead_and_noisy_ones_a_large_lead():
    limit = norm.ppf(SURE) * _CHANCE
    leads = []
    for seed in range(3):
        np.save("cube.npy", cube(10 + seed, sigma=(3, 6, 6)))
        others, _ = cut(cube(50 + seed, sigma=(3, 6, 6)), 60, seed=7)
        leads += [found.lead for found in peaks_of(others, "cube.npy")]
    assert limit / 2 < max(leads) < limit
    samples = cube(5)
    np.save("cube.npy", samples)
    own, _ = cut(samples, 120, seed=7)
    noisy = own + 0.9 * own.std() * np.random.default_rng(8).normal(size=own.shape)
    mine = np.array([found.lead for found in peaks_of(noisy, "cube.npy")])
    assert (mine > limit).mean() > 0.9 > 3 * (mine > 2 * limit).mean()


def test_grey_values_have_steps_up_to_sixteen_bits():
    rng = np.random.default_rng(9)
    window = gaussian_filter(rng.normal(size=(1, 40, 40)), 1)
    window -= window.min()
    for bits, step in ((15.9, 1.0), (16.1, 0.0)):
        image = np.round(window / window.max() * 2**bits)
        rounding = Template.of(image).noise[0] * np.linalg.norm(image - image.mean())
        assert (rounding > 0.2 * np.sqrt(image.size)) == bool(step)


def test_a_float32_patch_with_gain_and_offset_is_exact_and_a_noisier_one_is_not():
    rng = np.random.default_rng(10)
    window = gaussian_filter(rng.normal(size=(1, 60, 60)), 1.5).astype(np.float32)
    window /= window.std()
    # The mean is ten times the contrast, as in radar amplitudes or elevations.
    changed = (np.float32(3.7) * window + np.float32(37)).astype(np.float32)
    (fit,) = compare([Template.of(changed.astype(np.float64))], [window])
    assert fit.exact
    for share, exact in ((0.8e-6, True), (1.6e-6, False)):
        noisy = window.astype(np.float64)
        noisy += share * rng.normal(size=window.shape)
        (fit,) = compare([Template.of(noisy)], [window])
        assert fit.exact == exact


def _fit(misfit: np.ndarray) -> Comparison:
    return Comparison(0.9, misfit, False, np.zeros((5, 1)), 100)


@pytest.mark.parametrize("side", [_SPARSEST, _SPARSE])
def test_a_sparse_comparison_rarely_drops_a_place_that_fits_well_enough(side):
    rng = np.random.default_rng(3)
    dropped = {}
    for score in (0.5, 0.85, 0.96):
        patches = rng.normal(size=(500, 1, 32, 32))
        noise = np.sqrt(1 / score**2 - 1) * rng.normal(size=patches.shape)
        seen = sparse_correlation(
            list((patches + noise)[:, None]), list(map(Template.of, patches)), side
        )
        dropped[score] = np.mean([not _may_fit(one, score, side) for one in seen.ravel()])
    assert 0.005 < max(dropped.values()) < 0.07
    assert not _may_fit(0.7, 0.96, side)


def test_blocks_without_contrast_have_no_influence():
    # A twentieth of the blocks has contrast. The others are nearly 0 and fit better by chance.
    misfit = np.full(40, 1e-9)
    misfit[:2] = 1.0
    other = np.full(40, 3e-9)
    other[:2] = 0.5
    assert vuong(_fit(misfit), _fit(other)) < 0


@pytest.mark.parametrize(("strong", "sign"), [(0.5, 1), (0.9, -1)])
def test_a_thousandth_of_the_misfit_counts_half(strong, sign):
    # In half of the blocks the other place fits better. In the others its misfit is a thousandth of
    # the mean, and that of this place is 0, which gives ln 2.
    misfit, other = np.zeros(40), np.zeros(40)
    misfit[:20], other[:20] = 1, np.exp(-strong)
    other[20:] = 1e-3 * (misfit.mean() + other.mean())
    assert np.sign(vuong(_fit(misfit), _fit(other))) == sign


@pytest.mark.parametrize("side", [24, 40, 96])
def test_a_patch_is_compared_in_some_thirty_blocks_of_sixteen_pixels_or_more(side):
    rng = np.random.default_rng(11)
    patch = rng.normal(size=(1, side, side))
    (fit,) = compare([Template.of(patch)], [patch + rng.normal(size=patch.shape)])
    assert fit.misfit.size == 36
    (small,) = compare([Template.of(patch[:, :16, :16])], [rng.normal(size=(1, 16, 16))])
    assert small.misfit.size == 16


def test_the_statistic_is_normal_if_two_places_fit_equally_well():
    rng = np.random.default_rng(12)
    found = []
    for _ in range(400):
        patch = gaussian_filter(rng.normal(size=(1, 24, 24)), 1)
        windows = [patch + gaussian_filter(rng.normal(size=patch.shape), (0, 0.6, 0.6))
                   for _ in range(2)]  # fmt: skip
        found.append(vuong(*compare([Template.of(patch)] * 2, windows)))
    assert np.std(found) == pytest.approx(1, abs=0.15)
    assert np.mean(np.abs(found) > 1.96) < 0.12


COSTS = {
    "planes._SLAB_SAMPLES": 1 << 12,
    "planes._SLABS": 4,
    "planes._TILE": 64,
    "planes._RUN": 64,
    "search._WINDOWS": 256,
    "search._PATCHES": 16,
    "copies._CELLS": 8,
    "copies._ANCHORS": 8,
    "copies._COMMON": 2,
    "copies._SAMPLE": 64,
    "copies._WORTHWHILE": 0.05,
    "copies._TABLE": 1 << 22,
    "search.CROWD": 8,
    "search._SIGNATURE_NUMBERS": 1 << 12,
    "search._SPECTRA_SAMPLES": 1 << 10,
    "search._FARTHEST": 2,
    "search._PLACES": 3,
    "search._SAMPLE": 512,
    "signature._LENGTH": 64,
    "signature._SAMPLE": 16,
    "refinement._ROUNDS": 16,
    "refinement._MOST_STEPS": 64,
    "refinement._SPARSE": 16,
    "refinement._SPARSEST": 8,
    "correlation._TOGETHER": 1 << 10,
    "find.NEAR_SCORE": 0.8,
    "find._COARSE.windows": 700,
    "find._COARSE.noise": 0.2,
    "find._COARSE.most": 4,
    "find._REPEAT.most": 8,
    "find._FINE.windows": 2800,
    "find._FINE.noise": 1,
    "find._FINE.fully": 4,
    "find._FINE.most": 16,
}


@pytest.mark.parametrize("name", COSTS)
def test_limits_of_time_and_memory_do_not_change_the_result(monkeypatch, name):
    samples = cube(13, (12, 60, 70))
    np.save("cube.npy", samples)
    images, at = cut(samples, 12, seed=14)
    noise = np.random.default_rng(15).normal(size=images[6:].shape)
    images[6:] += 0.3 * images[6:].std() * noise
    images[:6] = np.round(99 * images[:6])
    monkeypatch.setattr(find_module, "_EXHAUSTIVE", 0)
    monkeypatch.setattr(find_module, "_UNSETTLED", 0)
    monkeypatch.setattr("outcrop.locating.planes._HELD_SAMPLES", 0)
    # Six patches already count as many.
    monkeypatch.setattr(find_module, "_FINE", replace(find_module._FINE, fully=4))
    tables = []
    for factor in (0.5, 1, 2):
        value = COSTS[name] * factor
        value = max(1, int(value)) if value >= 1 else value
        module, constant, *field = name.split(".")
        settings = field and replace(getattr(find_module, constant), **{field[0]: value})
        monkeypatch.setattr(f"outcrop.locating.{module}.{constant}", settings or value)
        found = peaks_of(images, "cube.npy")
        assert [one.best.place[2:] for one in found] == list(map(tuple, at.tolist()))
        tables.append([(one.best.score, one.unique) for one in found])
    assert tables[0] == tables[1] == tables[2]
