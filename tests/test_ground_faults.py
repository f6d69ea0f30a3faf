"""Faults of the ground, planted as in the benchmark, are found: one seed of each."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.audit_faults import judge
from benchmarks.ground_faults import GROUND_FAULTS
from benchmarks.worlds import WORLDS
from outcrop.auditing.audit import Audit
from outcrop.auditing.ground import check_ground

SEED = 50


@pytest.mark.parametrize("fault", GROUND_FAULTS, ids=lambda fault: fault.name)
def test_a_planted_fault_is_found_and_nothing_else(fault):
    planted = fault.plant(WORLDS[fault.worlds[0]](SEED), fault.stated, np.random.default_rng(0))
    found = check_ground(planted.patches, planted.split)
    told = judge(Audit(tuple(found), {}), fault)
    assert told.found, found
    assert not told.false, found
    assert all(one.remedy for one in found if one.severity != "note")
