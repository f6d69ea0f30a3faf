"""Checks for features that reveal a class or a side: intensity, marks, grey levels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import mannwhitneyu
from sklearn.metrics import roc_auc_score

from outcrop.auditing.pixels import measure
from outcrop.auditing.spurious import (
    IntensityCheck,
    LevelsCheck,
    MarksCheck,
    brightness_accuracy,
    level_grid,
    off_grid,
    side_difference,
)
from outcrop.splits import TRAIN, VALIDATION
from tests.patches import found_by, noise, patch_set, split_of, the_one

pytestmark = pytest.mark.filterwarnings("error::RuntimeWarning")


def every_fifth(n):
    return np.where(np.arange(n) % 5, TRAIN, VALIDATION)


# Intensity


@given(st.integers(0, 2**32 - 1), st.integers(20, 60))
def test_a_difference_of_one_class_is_the_area_under_the_curve(seed, n):
    rng = np.random.default_rng(seed)
    values, held_out = rng.normal(size=n), np.arange(n) % 3 == 0
    area, chance = side_difference(values, np.zeros(n, int), held_out, np.arange(n))
    assert area == pytest.approx(roc_auc_score(held_out, values))
    assert chance == pytest.approx(mannwhitneyu(values[held_out], values[~held_out]).pvalue)


def test_other_class_proportions_are_no_difference():
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 100)
    held_out = np.concatenate([np.arange(100) < 80, np.arange(100) < 20])
    values = 10 * labels + rng.normal(size=200)
    area, chance = side_difference(values, labels, held_out, np.arange(200))
    assert abs(area - 0.5) < 0.1
    assert chance > 0.01


def test_patches_of_one_group_count_once():
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(6), 50)
    values, held_out = (
        rng.normal(size=6)[groups] + 0.1 * rng.normal(size=300),
        groups < 3,
    )
    labels = np.zeros(300, int)
    assert side_difference(values, labels, held_out, np.arange(300))[1] < 1e-3
    assert side_difference(values, labels, held_out, groups)[1] >= 0.1


def sides_apart(by, contrast=1.0):
    images, sides = noise(200, bands=2) + noise(200, size=1, seed=1), every_fifth(200)
    images[sides == VALIDATION, 1] = contrast * images[sides == VALIDATION, 1] + by
    patches = patch_set(images, np.arange(200) % 3)
    found = found_by(IntensityCheck, patches, split_of(patches, sides))
    return [one for one in found if "side" in one.numbers]


def test_a_brighter_side_is_found():
    assert sides_apart(0) == []
    finding = the_one(sides_apart(3))
    assert finding.severity == "critical"
    assert finding.numbers["measure"] == "brightness of band 'band 2'"
    assert finding.numbers["area under ROC"] > 0.9
    assert the_one(sides_apart(0, contrast=1.5)).numbers["measure"] == "contrast of band 'band 2'"


def test_brightness_predicts_the_class_only_if_it_differs():
    labels = np.arange(300) % 3
    for step, expected in ((0, 1 / 3), (30, 1)):
        patches = patch_set(noise(300) + step * labels[:, None, None, None], labels)
        accuracy, chance = brightness_accuracy(patches, measure(patches), np.arange(300), 0)
        assert accuracy == pytest.approx(expected, abs=0.12)
        assert chance == pytest.approx(1 / 3)
        (finding,) = found_by(IntensityCheck, patches)
        assert finding.severity == ("warning" if step else "note")


def test_brightness_is_scored_on_held_out_groups():
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(12), 30)
    labels = groups % 2
    images = noise(360) * 0.01 + rng.permutation(12)[groups][:, None, None, None]
    patches = patch_set(images.astype(np.float32), labels)
    by_patch, by_group = (
        brightness_accuracy(patches, measure(patches), each, 0)[0]
        for each in (np.arange(360), groups)
    )
    assert by_patch > 0.75
    assert by_group < by_patch - 0.2


def test_a_clipped_class_is_a_warning():
    labels = np.arange(300) % 3
    images = np.clip(np.round(128 + 40 * noise(300)), 1, 254).astype(np.uint8)
    images[(labels == 2)[:, None, None, None] & (images > 150)] = 255
    patches = patch_set(images, labels)
    finding = found_by(IntensityCheck, patches)[-1]
    assert "of the pixels of 'c' have the largest value" in finding.title


# Marks and grey levels


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 13), st.integers(0, 13), st.integers(0, 2), st.integers(0, 99))
def test_a_mark_is_found_where_it_is(row, column, k, seed):
    labels = np.arange(300) % 3
    images = noise(300, size=16, seed=seed)
    images[labels == k, :, row : row + 2, column : column + 2] = 2 * images.max()
    finding = the_one(found_by(MarksCheck, patch_set(images, labels)))
    assert finding.severity == "critical"
    assert finding.numbers["class"] == "abc"[k]
    marked = {(row + i, column + j) for i in (0, 1) for j in (0, 1)}
    assert set(map(tuple, finding.numbers["pixels"])) & marked


@given(st.integers(0, 2**32 - 1))
def test_noise_has_no_marks(seed):
    assert not found_by(
        MarksCheck, patch_set(noise(60, size=12, seed=seed % 1000), np.arange(60) % 3)
    )


def test_a_mark_in_all_classes_is_not_reported():
    images = noise(120, size=16)
    images[:, :, :2, :2] = 2 * images.max()
    assert not found_by(MarksCheck, patch_set(images, np.arange(120) % 3))


@given(st.integers(2, 50), st.floats(-100, 100), st.floats(1e-3, 100), st.integers(0, 99))
def test_quantised_values_are_on_their_grid(levels, start, step, seed):
    rng = np.random.default_rng(seed)
    values = start + step * np.concatenate([np.arange(8 + levels), rng.integers(0, 8, 600)])
    grid = level_grid(np.tile(values, 3))
    assert grid is not None
    assert grid[1] == pytest.approx(step, rel=1e-6)
    assert off_grid(values, *grid) == 0
    assert off_grid(values + step / 2, *grid) == 1


def test_values_that_rarely_repeat_have_no_grid():
    assert level_grid(noise(50).ravel()) is None
    assert level_grid(np.tile([0.0, 1.0], 100)) is None
    assert level_grid(np.zeros(0)) is None


@pytest.mark.parametrize("bits", [1, 2, 3])
def test_a_class_with_coarser_levels_is_found(bits):
    labels = np.arange(150) % 3
    images = np.clip(np.round(128 + 40 * noise(150, bands=2)), 0, 255).astype(np.uint8)
    assert not found_by(LevelsCheck, patch_set(images, labels))
    images[labels == 1, 1] = images[labels == 1, 1] >> bits << bits
    finding = the_one(found_by(LevelsCheck, patch_set(images, labels)))
    assert finding.severity == "critical"
    assert finding.numbers == {
        "band": "band 2", "step": {"b": 2.0**bits}, "finer": {"b": ["a", "c"]},
    }  # fmt: skip
    assert not found_by(LevelsCheck, patch_set(images >> bits << bits, labels))
