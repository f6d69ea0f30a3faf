"""Labels that contradict those of neighbouring patches."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from outcrop.auditing.autocorrelation import Autocorrelation
from outcrop.auditing.labels import NEIGHBOURS, ConflictsCheck, neighbourhoods
from outcrop.auditing.variogram import Variogram
from outcrop.patches.cut import cut
from outcrop.splits.geometry import coordinates
from outcrop.synthetic.coast import make_coast
from tests.patches import found_by
from tests.shared import DATA, needs_shared
from tests.synthetic import PIXEL, cut_scene, cut_volume

SIDE = 300
REACH = 40 * PIXEL


def conflicts(patches, reach):
    """Conflicts between neighbours within the range of autocorrelation."""
    lags = np.array([np.nan_to_num(reach, nan=1.0)])
    pixels = Variogram(lags, np.ones(1), reach, "Gaussian")
    return found_by(
        ConflictsCheck, patches, autocorrelation=Autocorrelation((pixels,), None, "the patches")
    )


def mosaic(step=6, field=36, classes=3, seed=0):
    """Patches on a grid over square fields, with random classes."""
    row, column = (grid.ravel() for grid in np.mgrid[5 : SIDE - 5 : step, 5 : SIDE - 5 : step])
    kinds = np.random.default_rng(seed).integers(0, classes, (SIDE // field + 1,) * 2)
    return cut_scene(np.zeros((SIDE, SIDE)), row, column, kinds[row // field, column // field])


def mislabelled(patches, number, seed=0):
    """The patches with a number of wrong labels, and the indices of these."""
    rng = np.random.default_rng(seed)
    wrong = rng.choice(len(patches), number, replace=False)
    labels = patches.labels.copy()
    classes = len(patches.classes)
    labels[wrong] = (labels[wrong] + rng.integers(1, classes, number)) % classes
    return replace(patches, labels=labels), wrong


def test_borders_are_not_conflicts():
    for seed in range(5):
        for found in conflicts(mosaic(seed=seed), REACH):
            assert found.severity == "note"


@pytest.mark.parametrize("number", [25, 100])
@pytest.mark.parametrize("seed", range(3))
def test_wrong_labels_are_found(number, seed):
    patches, wrong = mislabelled(mosaic(seed=seed), number, seed)
    (found,) = conflicts(patches, REACH)
    assert found.severity == "warning"
    assert 0.55 * number <= found.numbers["conflicts"] <= 1.1 * number
    assert found.numbers["expected at most"] < 0.3 * number
    shown = [group[0] for group in found.groups]
    assert len(shown) == min(24, found.numbers["conflicts"])
    assert np.isin(shown, wrong).mean() > 0.9  # a mosaic also has isolated fields
    for patch, *others in found.groups:
        assert len(others) == NEIGHBOURS
        assert (patches.labels[others] != patches.labels[patch]).all()


def test_neighbours_are_the_nearest():
    rng = np.random.default_rng(0)
    row, column = rng.integers(0, SIDE, (2, 200))
    row[:3], column[:3] = 50, 60  # three at the same position
    patches = cut_scene(np.zeros((SIDE, SIDE)), row, column, rng.integers(0, 2, 200))
    near = neighbourhoods(patches, 30 * PIXEL)
    at = coordinates(patches.positions)
    apart = np.hypot(*(at[:, None] - at).T)
    np.fill_diagonal(apart, np.inf)
    k = np.sort(apart, axis=1)[:, :NEIGHBOURS]
    np.testing.assert_array_equal(near.index, np.flatnonzero(k[:, -1] < 30 * PIXEL))
    for i, others, against in zip(near.index, near.others, near.against, strict=True):
        assert i not in others
        np.testing.assert_allclose(np.sort(apart[i, others]), k[i])
        assert against == (patches.labels[others] != patches.labels[i]).sum()


@pytest.mark.parametrize("classes", [2, 5, 12])
def test_random_labels_are_not_conflicts(classes):
    rng = np.random.default_rng(classes)
    row, column = rng.integers(0, SIDE, (2, 3000))
    labels = rng.integers(0, classes, 3000)
    names = tuple(f"class {k}" for k in range(classes))
    patches = cut_scene(np.zeros((SIDE, SIDE)), row, column, labels, classes=names)
    for found in conflicts(patches, REACH):
        assert found.severity == "note"


def test_a_class_of_scattered_objects_is_left_out():
    patches = mosaic(classes=2)
    houses = np.random.default_rng(0).choice(len(patches), 60, replace=False)
    labels = patches.labels.copy()
    labels[houses] = 2
    patches = replace(patches, labels=labels, classes=("field", "wood", "house"))
    for found in conflicts(patches, REACH):
        assert found.severity == "note"
        assert found.numbers["scattered classes"] == ["house"]


def test_distant_neighbours_are_not_used():
    patches, _ = mislabelled(mosaic(step=20), 30)
    assert conflicts(patches, 10 * PIXEL) == []
    assert conflicts(patches, np.nan) == []
    assert conflicts(replace(patches, positions=None), REACH) == []


def test_conflicts_in_a_volume_are_found():
    index, row, column = (a.ravel() for a in np.mgrid[4:60:4, 8:56:4, 8:56:4])
    patches = cut_volume(np.zeros((64, 64, 64)), 0, index, row, column, (row > 30).astype(int))
    assert all(found.severity == "note" for found in conflicts(patches, 20.0))
    wrong, _ = mislabelled(patches, 40)
    (found,) = conflicts(wrong, 20.0)
    assert found.severity == "warning"


def test_conflicts_on_a_coast_are_the_planted_ones(tmp_path):
    coast = make_coast(tmp_path / "coast", images=1, size=300, seed=2)
    patches = cut(coast.scenes, coast.labels, "class", 16, stride=3)
    assert all(found.severity == "note" for found in conflicts(patches, 300.0))
    wrong, _ = mislabelled(patches, round(0.05 * len(patches)))
    (found,) = conflicts(wrong, 300.0)
    assert found.severity == "warning"


@needs_shared
def test_landsat_has_no_conflicts_until_some_are_planted():
    bands = [DATA / f"nc_landsat/lsat7_2000_{band}.tif" for band in (10, 20, 30, 40, 50, 70)]
    patches = cut(bands, DATA / "nc_landsat/landsat96_labelled_pixels.tif", size=1)
    assert conflicts(patches, 500.0) == []
    wrong, planted = mislabelled(patches, 25)
    (found,) = conflicts(wrong, 500.0)
    assert found.severity == "warning"
    assert np.isin([group[0] for group in found.groups], planted).all()
