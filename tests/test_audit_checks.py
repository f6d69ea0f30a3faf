"""Checks of labels and of patches without content: order, classes, names, gaps."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from outcrop.auditing.gaps import GapsCheck
from outcrop.auditing.labels import (
    BalanceCheck,
    NamesCheck,
    OrderCheck,
    SidesCheck,
    gathered_classes,
    label_changes,
)
from outcrop.auditing.pixels import measure
from outcrop.splits import BUFFER, TEST, TRAIN, VALIDATION
from tests.patches import found_by, noise, patch_set, split_of, the_one
from tests.synthetic import cut_scene, smooth

pytestmark = pytest.mark.filterwarnings("error::RuntimeWarning")


def last_fifth(n):
    return np.where(np.arange(n) < 0.8 * n, TRAIN, VALIDATION)


def every_fifth(n):
    return np.where(np.arange(n) % 5, TRAIN, VALIDATION)


def titles(findings):
    return [(one.severity, one.title) for one in findings]


# Order


def test_expected_changes_are_those_of_shuffled_labels():
    rng, labels = np.random.default_rng(0), np.repeat([0, 1, 2], [10, 30, 60])
    shuffled = np.array([label_changes(rng.permutation(labels))[0] for _ in range(4000)])
    changes, expected, z = label_changes(labels)
    assert changes == 2
    assert expected == pytest.approx(shuffled.mean(), abs=4 * shuffled.std() / np.sqrt(4000))
    assert z == pytest.approx((2 - shuffled.mean()) / shuffled.std(), rel=0.05)


@pytest.mark.parametrize(("labels", "changes"), [([], 0), ([1], 0), ([2, 2, 2], 0)])
def test_labels_without_changes_have_no_deviation(labels, changes):
    assert label_changes(np.array(labels, int))[0] == changes
    assert label_changes(np.array(labels, int))[2] == 0


@given(st.integers(0, 2**32 - 1), st.integers(2, 6), st.integers(1, 400))
def test_shuffled_labels_have_no_order(seed, classes, n):
    labels = np.random.default_rng(seed).integers(0, classes, n)
    assert not len(gathered_classes(labels, classes))


@given(st.integers(0, 2**32 - 1), st.integers(2, 5), st.integers(30, 100))
def test_sorted_labels_are_found(seed, classes, each):
    labels = np.repeat(np.random.default_rng(seed).permutation(classes), each)
    assert len(gathered_classes(labels, classes)) >= 2
    patches = patch_set(np.zeros((len(labels), 1, 1, 1)), labels)
    finding = the_one(found_by(OrderCheck, patches))
    assert finding.severity == "warning"
    assert finding.title.startswith("labels are sorted: ")


def test_sorted_labels_are_critical_if_the_split_follows_the_order():
    labels = np.repeat(np.arange(4), 50)
    patches = patch_set(np.zeros((200, 1, 1, 1)), labels)
    finding = the_one(found_by(OrderCheck, patches, split_of(patches, last_fifth(200))))
    assert finding.severity == "critical"
    assert "a side has almost no 'a', 'b' and 'c'" in finding.title
    assert finding.numbers["last fifth"] == {"a": 0, "b": 0, "c": 0, "d": 40}
    assert (
        the_one(found_by(OrderCheck, patches, split_of(patches, every_fifth(200)))).severity
        == "note"
    )


def test_almost_sorted_labels_are_found_too():
    labels = np.repeat(np.arange(4), 50)
    rng = np.random.default_rng(0)
    loose = rng.permutation(200)[:10]
    labels[loose] = labels[rng.permutation(loose)]
    patches = patch_set(np.zeros((200, 1, 1, 1)), labels)
    split = split_of(patches, last_fifth(200))
    finding = the_one(found_by(OrderCheck, patches, split))
    assert finding.severity == "critical"
    assert "in long runs" in finding.title


def test_patches_cut_polygon_by_polygon_give_a_note():
    at = np.arange(10, 290)
    patches = cut_scene(smooth(3, 0), at, at, np.repeat([0, 1], 140))
    finding = the_one(found_by(OrderCheck, patches))
    assert finding.severity == "note"
    assert "--by blocks" in finding.remedy


# Classes


def test_balance_is_measured():
    labels = np.repeat([0, 1], [30, 10])
    finding = the_one(found_by(BalanceCheck, patch_set(noise(40), labels)))
    assert finding.severity == "note"
    assert "predicting 'a' for every patch is correct for 75 %" in finding.title
    assert finding.numbers == {"patches": {"a": 30, "b": 10}, "largest over smallest": 3.0}


def test_rare_and_uneven_classes_are_warnings():
    labels = np.repeat([0, 1, 2], [200, 10, 9])
    few, uneven = found_by(BalanceCheck, patch_set(noise(219), labels))
    assert (few.severity, uneven.severity) == ("warning", "warning")
    assert few.title == "'c' has fewer than 10 patches"
    assert few.groups == (tuple(range(210, 219)),)
    assert uneven.title.startswith("9 to 200 patches per class")


def test_fewer_patches_than_classes_are_critical():
    finding = the_one(found_by(BalanceCheck, patch_set(noise(3), [0, 1, 1], classes=5)))
    assert finding.severity == "critical"
    assert "3 patches of 5 classes" in finding.title


@pytest.mark.parametrize("side", [TRAIN, VALIDATION, TEST])
@pytest.mark.parametrize("alone", [False, True])
def test_a_class_missing_from_a_side_is_found(side, alone):
    labels, sides = np.arange(60) % 3, (np.arange(60) // 3) % 3
    sides[(labels == 2) & (sides == side)] = BUFFER
    groups = np.where(labels == 2, 0, 1 + np.arange(60)) if alone else np.arange(60)
    patches = patch_set(noise(60), labels)
    finding = found_by(SidesCheck, patches, split_of(patches, sides, groups))[-1]
    word = ("training", "validation", "test")[side]
    assert finding.title.startswith(f"'c' has no {word} patches")
    assert finding.severity == ("warning" if alone and side != TRAIN else "critical")
    assert ("one spatial group" in finding.title) is alone


@pytest.mark.parametrize("side", [TRAIN, VALIDATION])
def test_an_empty_side_is_critical(side):
    patches = patch_set(noise(30), np.arange(30) % 3)
    sides = np.full(30, VALIDATION if side == TRAIN else TRAIN)
    assert titles(found_by(SidesCheck, patches, split_of(patches, sides)))[-1] == (
        "critical",
        f"the {'training' if side == TRAIN else 'validation'} side is empty",
    )


def test_unusable_names_give_notes():
    names = ("Rice", "rice ", "", "[0 1 0]", "0. 0. 1.", "mud")
    patches = replace(patch_set(noise(50), np.arange(50) % 5, classes=6), classes=names)
    found = found_by(NamesCheck, patches)
    assert {one.severity for one in found} == {"note"}
    assert [one.numbers["classes"] for one in found] == [
        ["2"], ["[0 1 0]", "0. 0. 1."], ["Rice", "rice "], ["mud"],
    ]  # fmt: skip
    assert not found_by(NamesCheck, patch_set(noise(30), np.arange(30) % 3))


# Gaps


def gaps(images, labels=None, classes=3, split=None):
    patches = patch_set(images, np.arange(len(images)) % classes if labels is None else labels)
    return found_by(GapsCheck, patches, split)


def test_complete_patches_have_no_gaps():
    assert gaps(noise(300)) == []
    assert gaps(np.random.default_rng(0).integers(0, 256, (300, 3, 8, 8)).astype(np.uint8)) == []


@pytest.mark.parametrize(("number", "severity"), [(1, "warning"), (3, "critical")])
@pytest.mark.parametrize("value", [5.0, np.nan])
def test_empty_patches_are_found(number, severity, value):
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


def test_faint_patches_are_a_warning():
    images = noise(300)
    images[5] *= 0.01
    finding = the_one(gaps(images))
    assert (finding.severity, finding.groups) == ("warning", ((5,),))
    assert "almost no contrast" in finding.title


def test_bands_without_contrast_are_a_warning():
    images = noise(60, bands=3)
    images[:, 1] = 4
    finding = the_one(gaps(images))
    assert finding.title == "no patch has contrast in band 'band 2'"


def test_gaps_that_reveal_the_class_are_a_warning():
    images, labels = noise(300), np.arange(300) % 3
    images[labels == 1, :, 0] = np.nan
    finding = the_one(gaps(images))
    assert finding.severity == "warning"
    assert finding.numbers["share"] == {"a": 0, "b": 1, "c": 0}
    images = noise(300)
    images[:200, :, 0] = np.nan
    assert the_one(gaps(images)).severity == "note"


# Pixels filled with one value


@pytest.mark.parametrize("value", [0, 7.5, -40])
@pytest.mark.parametrize("where", ["top", "triangle", "frame"])
def test_a_mute_that_reveals_the_class_is_found(value, where):
    images = noise(120, bands=2, size=24)
    row, column = np.indices((24, 24))
    filled = {
        "top": row < 4,
        "triangle": row + column < 12,
        "frame": (row < 2) | (row >= 22) | (column < 2) | (column >= 22),
    }[where]
    labels = np.arange(120) % 3
    images[np.ix_(labels == 1, [0, 1])] = np.where(
        filled, value, images[np.ix_(labels == 1, [0, 1])]
    )
    patches = patch_set(images, labels)
    pixels = measure(patches)
    np.testing.assert_allclose(pixels.filled[labels == 1], filled.mean(), rtol=0.03)
    assert not pixels.filled[labels != 1].any()
    found = the_one(found_by(GapsCheck, patches))
    assert (found.check, found.severity) == ("gaps", "warning")
    assert "as by a mute or padding" in found.title
    assert found.numbers["patches"] == 40
    # Brightness and contrast are those of the other pixels, and of two tips of the triangle.
    clear = measure(patch_set(np.where(filled, np.nan, images), labels))
    atol = 1e-5 if where != "triangle" else 0.01 * abs(value) + 0.01
    np.testing.assert_allclose(pixels.mean[labels == 1], clear.mean[labels == 1], atol=atol)


def test_a_larger_mute_is_found_if_every_patch_has_one():
    images, labels = noise(200, size=20), np.arange(200) % 2
    for k, image in enumerate(images):
        image[:, : 2 + 6 * labels[k]] = 0
    found = the_one(gaps(images, labels, classes=2))
    assert "more than 10 % of their pixels filled" in found.title


@pytest.mark.parametrize("levels", [2, 4, 16, 200])
def test_smooth_ground_of_few_grey_levels_is_not_filled(levels):
    ground = np.stack([smooth(6, seed, (32, 32)) for seed in range(40)])[:, None]
    images = np.clip(np.round(ground * levels / 12 + levels / 2), 0, levels).astype(np.uint8)
    assert measure(patch_set(images, np.zeros(40, int))).filled.mean() < 0.1


def test_mutes_of_all_classes_tell_nothing():
    images = noise(90, size=20)
    images[:, :, :5] = 0
    assert gaps(images, np.arange(90) % 3) == []
