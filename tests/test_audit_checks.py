"""One check at a time: order, classes, gaps, intensity, marks and grey levels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import mannwhitneyu
from sklearn.metrics import roc_auc_score

from outcrop.audit.classes import check_classes, check_names
from outcrop.audit.gaps import check_gaps
from outcrop.audit.intensity import brightness_accuracy, check_intensity, side_difference
from outcrop.audit.marks import check_levels, check_marks, level_grid, off_grid
from outcrop.audit.order import check_order, gathered_classes, label_changes
from outcrop.audit.pixels import measure
from outcrop.patches.patchset import PatchSet
from outcrop.splits import BUFFER, TEST, TRAIN, VALIDATION, Split
from tests.synthetic import cut_scene, smooth

pytestmark = pytest.mark.filterwarnings("error::RuntimeWarning")


def patch_set(images, labels, classes=None):
    images, labels = np.asarray(images), np.asarray(labels)
    names = tuple("abcdefgh"[: classes or labels.max() + 1])
    return PatchSet(images, labels, names, tuple(f"band {i + 1}" for i in range(images.shape[1])))


def noise(n, bands=1, size=8, seed=0):
    return np.random.default_rng(seed).normal(size=(n, bands, size, size)).astype(np.float32)


def split_of(patches, sides, groups=None):
    groups = np.arange(len(patches)) if groups is None else groups
    return Split(np.asarray(sides, np.int8), groups, patches.fingerprint)


def last_fifth(n):
    return np.where(np.arange(n) < 0.8 * n, TRAIN, VALIDATION)


def every_fifth(n):
    return np.where(np.arange(n) % 5, TRAIN, VALIDATION)


def said(findings):
    return [(one.severity, one.title) for one in findings]


def the_one(findings):
    (finding,) = findings
    return finding


# Order


def test_changes_are_those_of_shuffled_labels():
    dice, labels = np.random.default_rng(0), np.repeat([0, 1, 2], [10, 30, 60])
    shuffled = np.array([label_changes(dice.permutation(labels))[0] for _ in range(4000)])
    changes, expected, z = label_changes(labels)
    assert changes == 2
    assert expected == pytest.approx(shuffled.mean(), abs=4 * shuffled.std() / np.sqrt(4000))
    assert z == pytest.approx((2 - shuffled.mean()) / shuffled.std(), rel=0.05)


@pytest.mark.parametrize(("labels", "changes"), [([], 0), ([1], 0), ([2, 2, 2], 0)])
def test_where_no_order_is_possible_there_is_none(labels, changes):
    assert label_changes(np.array(labels, int))[0] == changes
    assert label_changes(np.array(labels, int))[2] == 0


@given(st.integers(0, 2**32 - 1), st.integers(2, 6), st.integers(1, 400))
def test_shuffled_labels_are_no_order(seed, classes, n):
    labels = np.random.default_rng(seed).integers(0, classes, n)
    assert not len(gathered_classes(labels, classes))


@given(st.integers(0, 2**32 - 1), st.integers(2, 5), st.integers(30, 100))
def test_sorted_labels_are_told(seed, classes, each):
    labels = np.repeat(np.random.default_rng(seed).permutation(classes), each)
    assert len(gathered_classes(labels, classes)) >= 2
    patches = patch_set(np.zeros((len(labels), 1, 1, 1)), labels)
    finding = the_one(check_order(patches, None))
    assert finding.severity == "warning"
    assert finding.title.startswith("labels come sorted: ")


def test_sorted_labels_are_critical_if_the_split_goes_by_position():
    labels = np.repeat(np.arange(4), 50)
    patches = patch_set(np.zeros((200, 1, 1, 1)), labels)
    finding = the_one(check_order(patches, split_of(patches, last_fifth(200))))
    assert finding.severity == "critical"
    assert "a side has none or hardly any of 'a', 'b' and 'c'" in finding.title
    assert finding.numbers["last fifth"] == {"a": 0, "b": 0, "c": 0, "d": 40}
    assert the_one(check_order(patches, split_of(patches, every_fifth(200)))).severity == "note"


def test_nearly_sorted_labels_are_told_too():
    labels = np.repeat(np.arange(4), 50)
    dice = np.random.default_rng(0)
    loose = dice.permutation(200)[:10]
    labels[loose] = labels[dice.permutation(loose)]
    patches = patch_set(np.zeros((200, 1, 1, 1)), labels)
    split = split_of(patches, last_fifth(200))
    finding = the_one(check_order(patches, split))
    assert finding.severity == "critical"
    assert "in long runs" in finding.title


def test_patches_cut_polygon_by_polygon_are_only_noted():
    at = np.arange(10, 290)
    patches = cut_scene(smooth(3, 0), at, at, np.repeat([0, 1], 140))
    finding = the_one(check_order(patches, None))
    assert finding.severity == "note"
    assert "--by blocks" in finding.remedy


# Classes


def test_balance_is_measured():
    labels = np.repeat([0, 1], [30, 10])
    finding = the_one(check_classes(patch_set(noise(40), labels), None))
    assert finding.severity == "note"
    assert "always answering 'a' is right in 75 %" in finding.title
    assert finding.numbers == {"patches": {"a": 30, "b": 10}, "largest over smallest": 3.0}


def test_rare_and_uneven_classes_deserve_a_look():
    labels = np.repeat([0, 1, 2], [200, 10, 9])
    few, uneven = check_classes(patch_set(noise(219), labels), None)
    assert (few.severity, uneven.severity) == ("warning", "warning")
    assert few.title == "'c' has fewer than 10 patches"
    assert few.groups == (tuple(range(210, 219)),)
    assert uneven.title.startswith("9 to 200 patches a class")


def test_fewer_patches_than_classes_are_critical():
    finding = the_one(check_classes(patch_set(noise(3), [0, 1, 1], classes=5), None))
    assert finding.severity == "critical"
    assert "3 patches of 5 classes" in finding.title


@pytest.mark.parametrize("side", [TRAIN, VALIDATION, TEST])
@pytest.mark.parametrize("alone", [False, True])
def test_a_class_missing_from_a_side_is_told(side, alone):
    labels, sides = np.arange(60) % 3, (np.arange(60) // 3) % 3
    sides[(labels == 2) & (sides == side)] = BUFFER
    groups = np.where(labels == 2, 0, 1 + np.arange(60)) if alone else np.arange(60)
    patches = patch_set(noise(60), labels)
    finding = check_classes(patches, split_of(patches, sides, groups))[-1]
    word = ("training", "validation", "test")[side]
    assert finding.title.startswith(f"'c' has no {word} patches")
    assert finding.severity == ("warning" if alone and side != TRAIN else "critical")
    assert ("one piece of ground" in finding.title) is alone


@pytest.mark.parametrize("side", [TRAIN, VALIDATION])
def test_an_empty_side_is_critical(side):
    patches = patch_set(noise(30), np.arange(30) % 3)
    sides = np.full(30, VALIDATION if side == TRAIN else TRAIN)
    assert said(check_classes(patches, split_of(patches, sides)))[-1] == (
        "critical",
        f"the {'training' if side == TRAIN else 'validation'} side is empty",
    )


def test_names_that_are_no_names_are_noted():
    names = ("Rice", "rice ", "", "[0 1 0]", "0. 0. 1.", "mud")
    patches = replace(patch_set(noise(50), np.arange(50) % 5, classes=6), classes=names)
    found = check_names(patches)
    assert {one.severity for one in found} == {"note"}
    assert [one.numbers["classes"] for one in found] == [
        ["2"], ["[0 1 0]", "0. 0. 1."], ["Rice", "rice "], ["mud"],
    ]  # fmt: skip
    assert not check_names(patch_set(noise(30), np.arange(30) % 3))


# Gaps


def gaps(images, labels=None, classes=3, split=None):
    patches = patch_set(images, np.arange(len(images)) % classes if labels is None else labels)
    return check_gaps(patches, split, measure(patches))


def test_whole_patches_have_no_gaps():
    assert gaps(noise(300)) == []
    assert gaps(np.random.default_rng(0).integers(0, 256, (300, 3, 8, 8)).astype(np.uint8)) == []


@pytest.mark.parametrize(("number", "severity"), [(1, "warning"), (3, "critical")])
@pytest.mark.parametrize("value", [5.0, np.nan])
def test_empty_patches_are_told(number, severity, value):
    images = noise(300)
    images[7 : 7 + number, :, 1:] = value
    images[7 : 7 + number, :, 0] = value if value == 5 else 0
    finding = gaps(images)[0]
    assert finding.severity == severity
    assert ("constant" in finding.title) is (value == 5)
    assert finding.numbers["patches"] == number
    assert finding.groups == (tuple(range(7, 7 + number)),)


def test_a_class_with_empty_patches_is_critical():
    images, labels = noise(600), np.repeat([0, 1], [570, 30])
    images[[580, 590]] = 1
    assert gaps(images, labels, 2)[0].severity == "critical"
    images = noise(600)
    images[[3, 4]] = 1
    assert gaps(images, labels, 2)[0].severity == "warning"


def test_faint_patches_deserve_a_look():
    images = noise(300)
    images[5] *= 0.01
    finding = the_one(gaps(images))
    assert (finding.severity, finding.groups) == ("warning", ((5,),))
    assert "hardly any contrast" in finding.title


def test_dead_bands_deserve_a_look():
    images = noise(60, bands=3)
    images[:, 1] = 4
    finding = the_one(gaps(images))
    assert finding.title == "no patch has contrast in band 'band 2'"


def test_gaps_that_tell_the_class_deserve_a_look():
    images, labels = noise(300), np.arange(300) % 3
    images[labels == 1, :, 0] = np.nan
    finding = the_one(gaps(images))
    assert finding.severity == "warning"
    assert finding.numbers["share"] == {"a": 0, "b": 1, "c": 0}
    images = noise(300)
    images[:200, :, 0] = np.nan
    assert the_one(gaps(images)).severity == "note"


# Intensity


@given(st.integers(0, 2**32 - 1), st.integers(20, 60))
def test_a_difference_of_one_class_is_the_area_under_the_curve(seed, n):
    dice = np.random.default_rng(seed)
    values, judged = dice.normal(size=n), np.arange(n) % 3 == 0
    area, chance = side_difference(values, np.zeros(n, int), judged, np.arange(n))
    assert area == pytest.approx(roc_auc_score(judged, values))
    assert chance == pytest.approx(mannwhitneyu(values[judged], values[~judged]).pvalue)


def test_another_mixture_of_classes_is_no_difference():
    dice = np.random.default_rng(0)
    labels = np.repeat([0, 1], 100)
    judged = np.concatenate([np.arange(100) < 80, np.arange(100) < 20])
    values = 10 * labels + dice.normal(size=200)
    area, chance = side_difference(values, labels, judged, np.arange(200))
    assert abs(area - 0.5) < 0.1
    assert chance > 0.01


def test_patches_of_one_piece_of_ground_count_once():
    dice = np.random.default_rng(0)
    pieces = np.repeat(np.arange(6), 50)
    values, judged = dice.normal(size=6)[pieces] + 0.1 * dice.normal(size=300), pieces < 3
    labels = np.zeros(300, int)
    assert side_difference(values, labels, judged, np.arange(300))[1] < 1e-3
    assert side_difference(values, labels, judged, pieces)[1] >= 0.1


def sides_apart(by, contrast=1.0):
    images, sides = noise(200, bands=2) + noise(200, size=1, seed=1), every_fifth(200)
    images[sides == VALIDATION, 1] = contrast * images[sides == VALIDATION, 1] + by
    patches = patch_set(images, np.arange(200) % 3)
    found = check_intensity(patches, split_of(patches, sides), measure(patches))
    return [one for one in found if "side" in one.numbers]


def test_a_brighter_side_is_told():
    assert sides_apart(0) == []
    finding = the_one(sides_apart(3))
    assert finding.severity == "critical"
    assert finding.numbers["measure"] == "brightness of band 'band 2'"
    assert finding.numbers["area under ROC"] > 0.9
    assert the_one(sides_apart(0, contrast=1.5)).numbers["measure"] == "contrast of band 'band 2'"


def test_brightness_names_the_class_only_where_it_does():
    labels = np.arange(300) % 3
    for step, expected in ((0, 1 / 3), (30, 1)):
        patches = patch_set(noise(300) + step * labels[:, None, None, None], labels)
        accuracy, chance = brightness_accuracy(patches, measure(patches), np.arange(300), 0)
        assert accuracy == pytest.approx(expected, abs=0.12)
        assert chance == pytest.approx(1 / 3)
        (finding,) = check_intensity(patches, None, measure(patches))
        assert finding.severity == ("warning" if step else "note")


def test_brightness_is_judged_on_ground_that_was_not_seen():
    dice = np.random.default_rng(0)
    pieces = np.repeat(np.arange(12), 30)
    labels = pieces % 2
    images = noise(360) * 0.01 + dice.permutation(12)[pieces][:, None, None, None]
    patches = patch_set(images.astype(np.float32), labels)
    by_patch, by_piece = (
        brightness_accuracy(patches, measure(patches), groups, 0)[0]
        for groups in (np.arange(360), pieces)
    )
    assert by_patch > 0.75
    assert by_piece < by_patch - 0.2


def test_a_clipped_class_deserves_a_look():
    labels = np.arange(300) % 3
    images = np.clip(np.round(128 + 40 * noise(300)), 1, 254).astype(np.uint8)
    images[(labels == 2)[:, None, None, None] & (images > 150)] = 255
    patches = patch_set(images, labels)
    finding = check_intensity(patches, None, measure(patches))[-1]
    assert "of the pixels of 'c' have the brightest value" in finding.title


# Marks and grey levels


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 13), st.integers(0, 13), st.integers(0, 2), st.integers(0, 99))
def test_a_mark_is_found_where_it_is(row, column, k, seed):
    labels = np.arange(120) % 3
    images = noise(120, size=16, seed=seed)
    images[labels == k, :, row : row + 2, column : column + 2] = 2 * images.max()
    finding = the_one(check_marks(patch_set(images, labels)))
    assert finding.severity == "critical"
    assert finding.numbers["class"] == "abc"[k]
    marked = {(row + i, column + j) for i in (0, 1) for j in (0, 1)}
    assert set(map(tuple, finding.numbers["pixels"])) & marked


@given(st.integers(0, 2**32 - 1))
def test_noise_has_no_marks(seed):
    assert not check_marks(patch_set(noise(60, size=12, seed=seed % 1000), np.arange(60) % 3))


def test_a_mark_of_all_classes_tells_nothing():
    images = noise(120, size=16)
    images[:, :, :2, :2] = 2 * images.max()
    assert not check_marks(patch_set(images, np.arange(120) % 3))


@given(st.integers(2, 50), st.floats(-100, 100), st.floats(1e-3, 100), st.integers(0, 99))
def test_quantised_values_lie_on_their_grid(levels, start, step, seed):
    dice = np.random.default_rng(seed)
    values = start + step * np.concatenate([np.arange(8 + levels), dice.integers(0, 8, 600)])
    grid = level_grid(np.tile(values, 3))
    assert grid is not None
    assert grid[1] == pytest.approx(step, rel=1e-6)
    assert off_grid(values, *grid) == 0
    assert off_grid(values + step / 2, *grid) == 1


def test_values_that_hardly_repeat_are_on_no_grid():
    assert level_grid(noise(50).ravel()) is None
    assert level_grid(np.tile([0.0, 1.0], 100)) is None
    assert level_grid(np.zeros(0)) is None


@pytest.mark.parametrize("bits", [1, 2, 3])
def test_a_class_of_coarser_levels_is_told(bits):
    labels = np.arange(150) % 3
    images = np.clip(np.round(128 + 40 * noise(150, bands=2)), 0, 255).astype(np.uint8)
    assert not check_levels(patch_set(images, labels))
    images[labels == 1, 1] = images[labels == 1, 1] >> bits << bits
    finding = the_one(check_levels(patch_set(images, labels)))
    assert finding.severity == "critical"
    assert finding.numbers == {
        "band": "band 2", "step": {"b": 2.0**bits}, "finer": {"b": ["a", "c"]},
    }  # fmt: skip
    assert not check_levels(patch_set(images >> bits << bits, labels))
