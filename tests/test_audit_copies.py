"""Copies and overlaps: all of them are found, also if they are changed, and nothing else."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from benchmarks.worlds import alike
from outcrop.auditing import copies, overlaps
from outcrop.auditing.copies import Pairs, exact_copies, near_copies, no_pairs
from outcrop.auditing.detail import (
    Whitening,
    agreement,
    coherence,
    orient,
    orientations,
    standardised,
)
from outcrop.auditing.duplicates import DuplicatesCheck, OverlapsCheck
from outcrop.auditing.overlaps import overlapping
from outcrop.auditing.pixels import measure
from outcrop.patches.flips import FLIPS, KEEP_SHAPE, flip
from outcrop.splits import BUFFER, TEST, TRAIN, VALIDATION
from tests.patches import found_by, noise, patch_set, split_of, the_one
from tests.synthetic import cut_scene, cut_volume, smooth

pytestmark = pytest.mark.filterwarnings("error::RuntimeWarning")

SIDE = 20


def images_of(n, side=SIDE, blur=0.8, seed=0):
    return gaussian_filter(noise(n, 1, side, seed=seed), (0, 0, blur, blur))


def ends(pairs):
    return set(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True))


def exact(images):
    patches = patch_set(images, np.zeros(len(images), int))
    return exact_copies(patches, measure(patches).flat)


def near(images, positions=None, **fields):
    patches = patch_set(images, np.zeros(len(images), int))
    return near_copies(patches, np.arange(len(images)), **fields)


def duplicates(patches, split=None):
    return found_by(DuplicatesCheck, patches, split)


# Fine detail


def test_images_are_standardised_in_any_unit():
    images = images_of(5, seed=1)
    plain = standardised(images)
    np.testing.assert_allclose(plain.mean(axis=(1, 2)), 0, atol=1e-5)
    np.testing.assert_allclose(plain.std(axis=(1, 2)), 1, rtol=1e-5)
    for changed in (3 * images - 7, 1e30 * images, 1e-6 * images):
        np.testing.assert_allclose(standardised(changed.astype(np.float32)), plain, atol=1e-4)
    assert not standardised(np.full((2, 3, 8, 8), 1e6, np.float32)).any()
    assert not standardised(np.full((2, 3, 8, 8), np.nan, np.float32)).any()


def test_the_eight_orientations_are_those_of_all_flips():
    image = np.arange(9).reshape(3, 3)
    flips = {flip(image, name).tobytes() for name in FLIPS}
    assert {orient(image, one).tobytes() for one in orientations((3, 3))} == flips
    image = np.arange(6).reshape(2, 3)
    flips = {flip(image, name).tobytes() for name in KEEP_SHAPE}
    assert {orient(image, one).tobytes() for one in orientations((2, 3))} == flips


@pytest.mark.parametrize("shape", [(16, 16), (12, 20)])
def test_a_descriptor_is_oriented_like_its_image(shape):
    images = standardised(images_of(6, 24)[:, :, : shape[0], : shape[1]])
    describe = Whitening.of([images]).describe(32)
    for one in orientations(shape):
        np.testing.assert_allclose(
            describe(orient(images, one)), describe.orient(describe(images), one), atol=1e-5
        )
    flat = images.reshape(6, -1) @ describe.matrix(shape)
    np.testing.assert_allclose(
        flat / np.linalg.norm(flat, axis=1, keepdims=True), describe(images), atol=1e-5
    )


def test_the_mean_power_does_not_depend_on_the_batches():
    images = standardised(images_of(20))
    one, several = Whitening.of([images]), Whitening.of([images[:3], images[3:]])
    np.testing.assert_allclose(one.power, several.power, rtol=1e-5)


@pytest.mark.parametrize("blur", [0.0, 1.0, 2.0])
def test_the_agreement_of_unrelated_images_is_that_of_chance(blur):
    white = Whitening.of([standardised(images_of(200, blur=blur))])(
        standardised(images_of(200, blur=blur, seed=1))
    )
    one, other = np.array(list(combinations(range(200), 2))).T
    _, evidence = agreement(white[one], white[other])
    for level in (2.0, 4.0, 6.0):
        assert np.mean(evidence > level) < 2 * np.exp(-level)


@given(st.integers(0, 99))
@settings(deadline=None, max_examples=10)
def test_an_image_agrees_with_itself(seed):
    images = standardised(images_of(8, seed=seed))
    white = Whitening.of([images])(images)
    r, evidence = agreement(white, white)
    np.testing.assert_allclose(r, 1, rtol=1e-4)
    assert (evidence > 50).all()


def test_a_common_bright_edge_is_not_significant():
    across = np.abs(np.hypot(*(np.mgrid[:24, :24] - 3)) - 12)
    images = 8 * np.exp(-(across**2) / 2) + noise(60, 1, 24)
    images[1:] = noise(59, 1, 24, seed=1)
    images[1] += (8 * np.exp(-(across**2) / 2)).astype(np.float32)
    plain = standardised(images)
    white = Whitening.of([plain])(plain)
    r, _ = agreement(plain[:1], plain[1:2])
    level, evidence = agreement(white[:1], white[1:2])
    assert r > 0.7
    assert level < 0.5
    assert evidence < np.log(60**2 / 2 * 8) + copies.EVIDENCE


# Exact copies


@pytest.mark.parametrize("name", FLIPS)
def test_an_exact_copy_is_found_in_every_orientation(name):
    images = images_of(30)
    images[17] = flip(images[4], name)
    assert ends(exact(images)) == {(4, 17)}


def test_copies_are_paired_with_the_first_of_them():
    images = images_of(12)
    images[[5, 9]], images[11] = images[2], images[7]
    found = exact(images)
    assert ends(found) == {(2, 5), (2, 9), (7, 11)}
    assert [cluster.tolist() for cluster in found.clusters(12)] == [[2, 5, 9], [7, 11]]


def test_constant_patches_are_not_copies():
    images = images_of(10)
    images[2:6] = 3
    assert not len(exact(images))
    assert not len(exact(np.zeros((5, 1, 8, 8), np.uint8)))


def test_a_copy_with_one_other_pixel_is_not_exact():
    images = np.round(100 * images_of(10)).astype(np.int16)
    images[3] = images[8]
    images[3, 0, 0, 0] += 1
    assert not len(exact(images))
    assert ends(near(images).pairs) == {(3, 8)}


# Near copies


@settings(deadline=None, max_examples=25)
@given(
    st.integers(0, 49), st.integers(0, 49), st.sampled_from(sorted(FLIPS)), st.floats(0.3, 3),
    st.floats(-50, 50), st.integers(0, 5), st.sampled_from([1, -1]),
)  # fmt: skip
def test_a_near_copy_is_found_up_to_flips_brightness_and_polarity(
    one, other, name, gain, offset, seed, sign
):
    images = 20 * images_of(50, seed=seed)
    if one != other:
        dark = np.random.default_rng(seed).normal(size=images[0].shape)
        images[other] = sign * gain * flip(images[one], name) + offset + gain * dark
    expected = set() if one == other else {(min(one, other), max(one, other))}
    found = near(images)
    assert ends(found.pairs) == expected
    assert found.asked.tolist() == list(range(50))
    assert (found.pairs.likeness >= copies.SHARED).all()


@pytest.mark.parametrize("seed", range(4))
def test_similar_images_are_not_copies(seed):
    patches = alike(seed, 200).patches
    assert not len(near_copies(patches, np.arange(200)).pairs)


def test_copies_do_not_depend_on_the_size_of_batches(monkeypatch):
    images = images_of(120)
    images[90], images[100] = 2 * images[10], images[20, :, ::-1]
    whole = near(images)
    monkeypatch.setattr(copies, "_BLOCK", (16, 32))
    monkeypatch.setattr(copies, "_PRUNE", 0)
    monkeypatch.setattr(copies, "_PAIR_BYTES", 1)
    assert ends(near(images).pairs) == ends(whole.pairs) == {(10, 90), (20, 100)}


def test_the_work_on_near_copies_is_bounded(monkeypatch):
    images = images_of(100)
    images[50:] = 2 * images[:50] + 1
    monkeypatch.setattr(copies, "_WORK", 8 * 128 * 100 * 20)
    found = near(images, seed=1)
    assert len(found.asked) == 20
    twins = {(min(i, (i + 50) % 100), max(i, (i + 50) % 100)) for i in found.asked.tolist()}
    assert ends(found.pairs) == twins
    finding = the_one(duplicates(patch_set(images, np.zeros(100, int))))
    assert finding.numbers["patches held against all"] == 20


def overlapping_squares(n=40):
    at = 20 + 2 * np.arange(n)
    return cut_scene(smooth(1, 0), at, at, np.zeros(n, int), size=16, classes=("a",))


def test_patches_with_overlapping_positions_are_not_copies():
    patches = overlapping_squares()
    assert not duplicates(patches)
    lost = replace(patches, positions=None, sources=(), crs=None)
    assert found_by(OverlapsCheck, lost)
    assert not found_by(OverlapsCheck, patches)


def test_copies_with_distant_positions_are_copies():
    patches = overlapping_squares()
    patches.images[30] = 3 * patches.images[2]
    assert the_one(duplicates(patches)).groups == ((2, 30),)


def volume_patches(step):
    cube = gaussian_filter(np.random.default_rng(0).normal(size=(48, 40, 40)), (3, 1, 1))
    index = np.arange(0, 48, step)
    at = np.full(len(index), 20)
    return cut_volume(cube, 0, index, at, at, np.arange(len(index)) % 2, size=16)


def test_neighbouring_slices_with_positions_are_not_copies():
    patches = volume_patches(step=3)
    assert not duplicates(patches)
    lost = replace(patches, positions=None, sources=())
    (finding,) = duplicates(lost)
    assert finding.severity == "note"
    assert "almost like another patch" in finding.title
    sides = np.arange(len(lost)) % 2
    (finding,) = duplicates(lost, split_of(lost, sides))
    assert finding.severity == "warning"
    assert finding.numbers["pairs across sides"] > 0


def test_copies_in_different_volumes_are_copies():
    patches = volume_patches(step=8)
    assert not duplicates(patches)
    twice = replace(
        patches,
        images=np.concatenate([patches.images, 2 * patches.images[:1]]),
        labels=np.append(patches.labels, patches.labels[0]),
        positions=None,
        sources=patches.sources * 2,
    )
    index = np.append(np.arange(6), 0)
    positions = patches.positions[index]
    source = np.append(np.zeros(6, np.int32), np.int32(1))
    twice = replace(twice, positions=replace(positions, source=source))
    assert the_one(duplicates(twice)).groups == ((0, 6),)


# Findings about copies


def with_copies(labels=None):
    images = images_of(60)
    images[40:43] = 0.5 * images[0:3, :, ::-1]
    images[50] = images[3]
    return patch_set(images, np.arange(60) % 2 if labels is None else labels)


def test_copies_across_sides_are_critical():
    patches = with_copies()
    sides = np.where(np.arange(60) < 40, TRAIN, VALIDATION)
    conflict, across = duplicates(patches, split_of(patches, sides))
    assert "copies with different labels" in conflict.title
    assert (conflict.severity, across.severity) == ("critical", "critical")
    assert across.title == (
        "4 of 20 validation and test patches (20 %) have a copy in training: 1 exact up to flips "
        "and rotations, 3 with other brightness or damage"
    )
    assert across.numbers["clusters"] == 4
    assert set(across.groups) == {(0, 40), (1, 41), (2, 42), (3, 50)}


def test_copies_on_one_side_are_a_warning():
    patches = with_copies(np.zeros(60, int))
    sides = np.where(np.isin(np.arange(60) % 40, [0, 1, 2, 3, 10]), VALIDATION, TRAIN)
    sides[50] = VALIDATION
    finding = the_one(duplicates(patches, split_of(patches, sides)))
    assert finding.severity == "warning"
    assert finding.title == (
        "8 patches in 4 clusters of copies (13 % of all), each cluster on one side"
    )
    assert the_one(duplicates(patches)).title == "8 patches in 4 clusters of copies (13 % of all)"


def test_copies_in_the_buffer_are_not_across_sides():
    patches = with_copies(np.zeros(60, int))
    sides = np.where(np.arange(60) < 40, TRAIN, BUFFER)
    assert the_one(duplicates(patches, split_of(patches, sides))).severity == "warning"


def test_copies_of_validation_in_the_test_side_are_critical():
    patches = with_copies(np.zeros(60, int))
    sides = np.where(np.arange(60) < 20, VALIDATION, np.where(np.arange(60) < 35, TRAIN, TEST))
    finding = the_one(duplicates(patches, split_of(patches, sides)))
    assert finding.severity == "critical"
    assert finding.title == "4 clusters of copies in both validation and test"


def test_clusters_are_the_connected_components_of_pairs():
    pairs = Pairs(np.array([4, 1, 7]), np.array([5, 4, 9]), np.ones(3, np.float32))
    assert [one.tolist() for one in pairs.clusters(12)] == [[1, 4, 5], [7, 9]]
    assert no_pairs().clusters(12) == []
    assert ends(pairs + no_pairs()) == ends(pairs)


# Overlaps


def shifted(n, down, right, side=24, seed=0):
    """`n` images, and the first of them again, shifted by some pixels."""
    wide = images_of(n, 2 * side, seed=seed)
    low = side // 2
    images = wide[:, :, low : low + side, low : low + side]
    again = wide[:1, :, low + down : low + down + side, low + right : low + right + side]
    return np.concatenate([images, again])


@settings(deadline=None, max_examples=15)
@given(st.integers(-6, 6), st.integers(-6, 6), st.sampled_from(sorted(FLIPS)), st.integers(0, 9))
def test_an_overlap_is_found_with_its_shift(down, right, name, seed):
    images = shifted(40, down, right, seed=seed)
    images[40] = 0.5 * flip(images[40], name) + 3
    patches = patch_set(images, np.zeros(41, int))
    found = overlapping(patches, np.arange(41))
    if (down, right) == (0, 0):
        assert not len(found.pairs)
    else:
        assert ends(found.pairs) == {(0, 40)}
        assert sorted(np.abs(found.shifts[0])) == sorted((abs(down), abs(right)))


def test_an_overlap_across_sides_is_critical():
    patches = patch_set(shifted(60, 4, -3), np.zeros(61, int))
    sides = np.where(np.arange(61) < 50, TRAIN, VALIDATION)
    finding = the_one(found_by(OverlapsCheck, patches, split_of(patches, sides)))
    assert finding.severity == "critical"
    assert finding.title == (
        "at least 3.3 % of 61 patches overlap another patch, with a median shift of 5 pixels; "
        "1 pair across sides"
    )
    assert finding.groups == ((0, 60),)
    assert the_one(found_by(OverlapsCheck, patches)).severity == "warning"


@pytest.mark.parametrize("seed", range(3))
def test_similar_images_do_not_overlap(seed):
    patches = alike(seed, 150).patches
    assert found_by(OverlapsCheck, patches) == []


def test_the_work_on_overlaps_is_bounded(monkeypatch):
    patches = patch_set(shifted(60, 4, 4), np.zeros(61, int))
    monkeypatch.setattr(overlaps, "_WORK", 1)
    found = overlapping(patches, np.arange(61), seed=0)
    assert len(found.asked) == 1


def test_the_search_does_not_depend_on_its_blocks(monkeypatch):
    images = np.concatenate([shifted(30, 3, 3), shifted(30, -4, 2, seed=1)])
    patches = patch_set(images, np.zeros(62, int))
    whole = overlapping(patches, np.arange(62))
    monkeypatch.setattr(overlaps, "_QUERIES", 7)
    monkeypatch.setattr(overlaps, "_TARGETS", 11)
    monkeypatch.setattr(copies, "_PAIR_BYTES", 1)
    parts = overlapping(patches, np.arange(62))
    assert ends(whole.pairs) == ends(parts.pairs) == {(0, 30), (31, 61)}
    np.testing.assert_array_equal(whole.shifts, parts.shifts)


def layered_sections(step, side=44, seed=0):
    """Sections of a folded cube; no two of them share a pixel."""
    rng = np.random.default_rng(seed)
    trace = gaussian_filter(rng.normal(size=400), 1.5)
    fold = 60 * gaussian_filter(rng.normal(size=(60, 140)), 12) * 12
    at = np.arange(220) + fold[:, :, None] + 80
    cube = np.interp(at, np.arange(400), trace)
    cube *= 1 + 0.2 * smooth((5, 5, 2), seed, cube.shape)
    cube += 0.05 * cube.std() * rng.normal(size=cube.shape)
    return np.stack(
        [
            cube[k, x : x + side, t : t + side]
            for k in range(0, 60, step)
            for x in range(0, 140 - side, side)
            for t in range(0, 220 - side, side)
        ]
    )[:, None].astype(np.float32)


@pytest.mark.parametrize("step", [1, 3, 12])
def test_touching_sections_of_a_layered_cube_are_neither_copies_nor_overlaps(step):
    images = layered_sections(step)
    patches = patch_set(images, np.arange(len(images)) % 2)
    found = near(images)
    assert not len(found.pairs)
    assert (len(found.alike) > 10) == (step < 12)
    assert not found_by(OverlapsCheck, patches)


@pytest.mark.parametrize("change", ["grey levels", "noise", "blur", "gain"])
def test_damaged_copies_among_similar_sections_are_found(change):
    images = layered_sections(3)
    copied = images[::5]
    changed = {
        "grey levels": np.round(copied / copied.std() * 30),
        "noise": copied + 0.02 * copied.std() * noise(len(copied), 1, 44, seed=9),
        "blur": gaussian_filter(copied, (0, 0, 0.6, 0.6)),
        "gain": 7 + 3e-3 * copied[..., ::-1],
    }[change]
    found = near(np.concatenate([images, changed]))
    planted = {(5 * k, len(images) + k) for k in range(len(copied))}
    assert len(planted & ends(found.pairs)) >= 0.8 * len(planted)
    assert len(ends(found.pairs) - planted) <= 0.1 * len(planted)


def test_coherence_does_not_depend_on_a_filter():
    images = standardised(images_of(30, 32))
    assert coherence(images, -images) == pytest.approx(-1)
    blurred = standardised(gaussian_filter(images, (0, 1, 1))[:, None])
    assert (coherence(images, blurred) > 0.98).all()
    assert (np.abs(coherence(images, images[::-1])[:15]) < 0.5).all()
    assert coherence(images, np.zeros_like(images)) == pytest.approx(0)
    assert coherence(images[:0], images[:0]).shape == (0,)
