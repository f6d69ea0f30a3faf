"""Faults planted as in the benchmark are found, and clean sets pass: one seed of each."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from benchmarks.audit_faults import judge
from benchmarks.faults import FAULTS, LOOSE
from benchmarks.worlds import WORLDS
from outcrop.auditing.audit import audit

SEED = 50


@cache
def clean(name):
    return WORLDS[name](SEED, 240) if name in (*LOOSE, "alike") else WORLDS[name](SEED)


@pytest.mark.parametrize("name", WORLDS)
def test_a_clean_set_passes(name):
    found = audit(clean(name).patches, clean(name).split)
    assert not found.failed, str(found)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_planted_fault_is_found_and_nothing_else(fault):
    planted = fault.plant(clean(fault.worlds[0]), fault.stated, np.random.default_rng(0))
    found = audit(planted.patches, planted.split)
    result = judge(found, fault)
    assert result.found, str(found)
    assert not result.false, str(found)
    assert all(one.remedy for one in found.findings if one.severity != "note")
