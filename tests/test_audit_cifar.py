"""The audit of CIFAR-10, which has known copies (Barz and Denzler 2020, ciFAIR)."""

from __future__ import annotations

import numpy as np
import pytest

from outcrop.auditing.audit import audit
from outcrop.auditing.copies import near_copies
from outcrop.patches.collection import from_collection
from outcrop.sources.collections import read_collection
from tests.shared import needs_shared, some_photographs

pytestmark = [needs_shared, pytest.mark.filterwarnings("error::RuntimeWarning")]


@pytest.fixture(scope="module")
def cifar(tmp_path_factory):
    return from_collection(
        read_collection(some_photographs(tmp_path_factory.mktemp("cifar"), 6000))
    )


def test_copies_look_alike_and_are_of_one_class(cifar):
    pairs = near_copies(cifar, np.arange(len(cifar))).pairs
    assert 2 <= len(pairs) < 0.01 * len(cifar)
    np.testing.assert_array_equal(cifar.labels[pairs.first], cifar.labels[pairs.second])
    one, other = (cifar.images[index].astype(float) for index in (pairs.first, pairs.second))
    alike = [
        max(np.corrcoef(a.ravel(), flipped.ravel())[0, 1] for flipped in (b, b[..., ::-1]))
        for a, b in zip(one, other, strict=True)
    ]
    assert min(alike) > 0.7


def test_a_part_of_it_passes(cifar):
    found = audit(cifar.subset(np.arange(0, len(cifar), 8)))
    assert found.about["split"] == {"splitter": "as delivered"}
    assert not found.failed, str(found)
    expected = {"order", "balance", "intensity", "duplicates", "distance"}
    assert {one.check for one in found.findings} <= expected
