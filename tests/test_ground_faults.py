"""Spatial faults planted as in the benchmark are found: one seed of each."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.audit_faults import judge
from benchmarks.ground_faults import GROUND_FAULTS
from benchmarks.worlds import WORLDS
from outcrop.auditing.audit import audit

SEED = 50


@pytest.mark.parametrize("fault", GROUND_FAULTS, ids=lambda fault: fault.name)
def test_a_planted_fault_is_found_and_nothing_else(fault):
    planted = fault.plant(WORLDS[fault.worlds[0]](SEED), fault.stated, np.random.default_rng(0))
    found = audit(planted.patches, planted.split)
    result = judge(found, fault)
    assert result.found, found
    assert not result.false, found
    assert all(one.remedy for one in found.findings if one.severity != "note")
