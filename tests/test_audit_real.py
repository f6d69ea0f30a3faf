"""The audit of a real scene: true findings and no false alarms."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from outcrop.auditing.audit import audit
from outcrop.patches.cut import cut
from outcrop.splits import RandomSplit, block_split
from tests.shared import DATA, needs_shared

pytestmark = [needs_shared, pytest.mark.filterwarnings("error::RuntimeWarning")]

LANDSAT = [DATA / "nc_landsat" / f"lsat7_2000_{band}.tif" for band in (10, 20, 30, 40, 50, 70)]
LABELS = DATA / "nc_landsat" / "landsat96_labelled_pixels.tif"


def of_severity(found, severity):
    return [one for one in found.findings if one.severity == severity]


@pytest.fixture(scope="module")
def landsat():
    return cut(LANDSAT, LABELS, size=16)


@pytest.fixture(scope="module")
def audited(landsat):
    return audit(landsat)


def test_patches_of_a_scene_pass_except_for_classes_of_few_fields(landsat, audited):
    assert not of_severity(audited, "critical")
    assert not of_severity(audited, "warning")
    split = block_split(landsat, None, None, folds=5, seed=0).assign(landsat)
    one_fold = audit(landsat, split)
    (finding,) = of_severity(one_fold, "critical")
    missing = np.setdiff1d(np.unique(landsat.labels), landsat.labels[split.validation])
    assert finding.check == "sides"
    assert finding.numbers["classes"] == [landsat.classes[k] for k in missing]
    # One fold of a few fields is not representative of the scene, which may be a finding.
    assert {one.check for one in of_severity(one_fold, "warning")} <= {"map-features"}


def test_gaps_and_the_order_of_cutting_give_notes(landsat, audited):
    notes = {one.check: one for one in of_severity(audited, "note")}
    assert notes["gaps"].numbers["patches"] == int(
        np.isnan(landsat.images).any(axis=(1, 2, 3)).sum()
    )
    assert "long runs" in notes["order"].title
    assert notes["names"].numbers["classes"] == ["class 2"]


def test_overlaps_of_the_same_patches_without_positions_are_found(landsat):
    kept = landsat.subset(np.arange(0, len(landsat), 3))
    split = block_split(kept, None, None, folds=5, seed=0).assign(kept)
    lost = replace(kept, positions=None, sources=(), crs=None)
    random = RandomSplit(random_state=0).assign(lost)
    leaky = {one.check: one for one in of_severity(audit(lost, random), "critical")}["overlaps"]
    assert leaky.numbers["overlapping"] > 0.5 * len(lost)
    assert leaky.numbers["pairs across sides"] > 100
    apart = audit(lost, replace(split, fingerprint=lost.fingerprint))
    assert {one.check for one in of_severity(apart, "critical")} <= {"sides"}


def test_rare_classes_are_split_and_named():
    points = cut(LANDSAT, DATA / "nc_landsat" / "landsat96_points.shp", "id", size=9)
    rare = [name for name, n in zip(points.classes, points.counts, strict=True) if n < 5]
    named = RandomSplit(random_state=0).assign_all(points).notes(points)
    assert rare
    assert all(any(f"'{name}'" in note for note in named) for name in rare)
    warnings = of_severity(audit(points), "warning")
    assert any("fewer than 10 patches" in one.title for one in warnings)
