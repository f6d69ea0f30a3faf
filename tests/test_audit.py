"""The audit as a whole: its registry of checks, unusual patch sets, and its folder."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.worlds import textured
from outcrop.auditing.audit import SEVERITIES, Audit, audit
from outcrop.auditing.check import CHECKS, Check, Finding
from outcrop.auditing.folder import evidence_of, read_audit, write_audit
from outcrop.errors import OutcropError
from outcrop.patches.patchset import Column, read_patches
from outcrop.splits import TEST, TRAIN, VALIDATION, RandomSplit
from tests.patches import noise, patch_set, split_of

# A check must not overflow or compute with unknown numbers.
pytestmark = pytest.mark.filterwarnings("error::RuntimeWarning")


def criticals(found):
    return [one.check for one in found.findings if one.severity == "critical"]


@pytest.fixture(scope="module")
def world():
    return textured(0, 150)


@pytest.fixture(scope="module")
def faulty(world):
    """Copies across sides, an empty patch, and few patches of one class."""
    images, labels = world.patches.images.copy(), world.patches.labels.copy()
    images[world.split.validation[:3]] = images[world.split.train[:3], :, ::-1]
    images[world.split.train[5]] = 7
    patches = replace(world.patches, images=images, labels=labels)
    return patches, replace(world.split, fingerprint=patches.fingerprint)


def test_a_new_check_is_one_class(world):
    class LargeCheck(Check):
        name, needs = "large", ("split",)

        def run(self, context):
            return [Finding(self.name, "note", f"there are {len(context.patches)} patches")]

    try:
        findings = audit(world.patches, world.split).findings
        assert findings[-1] == Finding("large", "note", "there are 150 patches")
        assert "large" not in [one.check for one in audit(world.patches).findings]
    finally:
        CHECKS.remove(LargeCheck)


def test_checks_are_registered_once_and_ordered(world):
    audit(world.patches)
    assert len({check.name for check in CHECKS}) == len({check.rank for check in CHECKS}) == 16
    assert all(check.rank < Check.rank for check in CHECKS)
    assert all(check.__doc__ for check in CHECKS)


def test_checks_of_images_are_skipped_without_images(world):
    bare = replace(world.patches, images=np.zeros((150, 1, 0, 0), np.uint8), bands=("none",))
    checks = {one.check for one in audit(bare).findings}
    assert checks == {"balance", "distance"}


def test_findings_come_with_the_most_severe_first(faulty):
    found = audit(*faulty)
    order = [SEVERITIES.index(one.severity) for one in found.findings]
    assert order == sorted(order)
    assert found.failed
    counts = Counter(one.severity for one in found.findings)
    assert found.summary == ", ".join(f"{counts[s]} {s}" for s in SEVERITIES if counts[s])
    assert all(one.title in str(found) for one in found.findings)
    assert str(found).endswith(found.summary)


def test_every_finding_has_patches_of_the_set(faulty):
    patches, split = faulty
    for one in audit(patches, split).findings:
        members = [i for group in one.groups for i in group]
        assert all(isinstance(i, int) and 0 <= i < len(patches) for i in members)


def test_a_seed_gives_the_same_findings(faulty):
    patches, split = faulty
    one, same = (audit(patches, split, seed=3) for _ in range(2))
    assert one == same
    assert audit(patches, split, seed=4).findings[0].check == one.findings[0].check


def test_a_set_on_disk_has_the_audit_of_the_set_in_memory(faulty, tmp_path):
    patches, split = faulty
    patches.save(tmp_path / "set.zarr")
    assert audit(read_patches(tmp_path / "set.zarr"), split) == audit(patches, split)


def test_an_audit_is_written_to_json_and_read(faulty):
    found = audit(*faulty)
    text = json.dumps(found.to_json(), allow_nan=False)
    content = json.loads(text)
    assert content["failed"] is True
    assert Audit.from_json(content) == found
    assert Audit.from_json(Audit((), {}).to_json()) == Audit((), {})


@pytest.mark.parametrize(
    "content", [{}, {"format": "outcrop split"}, {"format": "outcrop audit", "findings": [{}]}]
)
def test_other_json_raises_an_error(content):
    with pytest.raises((KeyError, TypeError)):
        Audit.from_json(content)


def test_an_audit_and_its_evidence_are_written_and_read(faulty, tmp_path):
    patches, split = faulty
    found = audit(patches, split)
    write_audit(found, patches, tmp_path / "audit")
    again, evidence = read_audit(tmp_path / "audit")
    assert again == found
    assert sorted(path.name for path in tmp_path.rglob("*")) == [
        "audit", "audit.json", "evidence.npz",
    ]  # fmt: skip
    shown = {i for one in found.findings for group in one.groups for i in group}
    assert evidence.index.tolist() == sorted(shown)
    np.testing.assert_array_equal(evidence.labels, patches.labels[evidence.index])
    assert (evidence.thumbnails.dtype, evidence.thumbnails.shape[1:]) == (np.uint8, (32, 32, 3))
    copies = next(one for one in found.findings if one.check == "duplicates")
    thumbnails = evidence.of(copies.groups[0])
    assert len(thumbnails) == len(copies.groups[0])
    np.testing.assert_array_equal(thumbnails[0], thumbnails[1][::-1])


def test_thumbnails_are_small_and_have_one_stretch():
    images = np.linspace(0, 1000, 200 * 200, dtype=np.float32).reshape(1, 1, 200, 200)
    images = np.repeat(images, 3, axis=0) * np.array([1, 0.5, np.nan])[:, None, None, None]
    finding = Finding("gaps", "note", "", groups=((2, 0), (1,)))
    shown = evidence_of(Audit((finding,), {}), patch_set(images.astype(np.float32), [0, 1, 2]))
    assert shown.thumbnails.shape == (3, 67, 67, 3)
    assert shown.thumbnails[0].max() == 255
    assert 120 <= shown.thumbnails[1].max() <= 135
    assert shown.thumbnails[2].min() == 255  # no data is white, as in all pictures
    np.testing.assert_array_equal(shown.of((2, 0)), shown.thumbnails[[2, 0]])


def test_an_audit_without_evidence_is_written_and_read(tmp_path):
    write_audit(Audit((), {"patches": 3}), patch_set(noise(3), [0, 1, 2]), tmp_path / "audit")
    found, evidence = read_audit(tmp_path / "audit")
    assert found == Audit((), {"patches": 3})
    assert len(evidence.index) == 0


@pytest.mark.parametrize("damage", ["gone", "no evidence", "not JSON", "no audit", "cut off"])
def test_an_incomplete_audit_folder_raises_an_error(damage, tmp_path):
    folder = tmp_path / "audit"
    write_audit(Audit((), {}), patch_set(noise(3), [0, 1, 2]), folder)
    if damage == "gone":
        folder = tmp_path / "none"
    elif damage == "no evidence":
        (folder / "evidence.npz").unlink()
    elif damage == "not JSON":
        (folder / "audit.json").write_text("{")
    elif damage == "no audit":
        (folder / "audit.json").write_text('{"format": "outcrop split"}')
    else:
        content = (folder / "evidence.npz").read_bytes()
        (folder / "evidence.npz").write_bytes(content[: len(content) // 2])
    with pytest.raises(OutcropError, match=r"outcrop\.audit"):
        read_audit(folder)


def test_only_an_audit_is_replaced(tmp_path):
    patches = patch_set(noise(3), [0, 1, 2])
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "work.txt").write_text("years")
    with pytest.raises(OutcropError, match="is not an audit"):
        write_audit(Audit((), {}), patches, tmp_path / "precious", overwrite=True)
    assert (tmp_path / "precious" / "work.txt").read_text() == "years"
    write_audit(Audit((), {}), patches, tmp_path / "audit")
    with pytest.raises(OutcropError, match="exists already"):
        write_audit(Audit((), {}), patches, tmp_path / "audit")
    write_audit(Audit((), {"patches": 3}), patches, tmp_path / "audit", overwrite=True)
    assert read_audit(tmp_path / "audit")[0].about == {"patches": 3}


def test_the_audit_describes_the_patch_set(world):
    about = audit(world.patches, world.split).about
    assert about["patches"] == 150
    assert about["fingerprint"] == world.patches.fingerprint
    assert about["split"]["splitter"] == "RandomSplit"
    assert about["positions"] is False
    assert audit(world.patches).about["split"] is None


def test_the_default_split_is_that_of_the_collection(world):
    codes = np.repeat([0, 1], [75, 75])
    names = ("validation", "train")
    patches = replace(world.patches, columns={"side": Column(codes, names)})
    kept = patches.labels != 0
    kept |= codes == 1
    patches = patches.subset(kept)
    found = audit(patches)
    assert found.about["split"] == {"splitter": "as delivered"}
    lacking = next(one for one in found.findings if one.check == "sides")
    assert lacking.numbers == {"side": "validation", "classes": ["a"]}


def test_a_column_called_side_need_not_name_sides(world):
    column = Column(np.arange(150) % 2, ("left", "right"))
    assert audit(replace(world.patches, columns={"side": column})).about["split"] is None


@pytest.mark.parametrize("split", [None, "any", "no validation", "no training", "all in between"])
@pytest.mark.parametrize(
    "images",
    [
        np.full((60, 2, 8, 8), np.nan, np.float32),
        np.concatenate([noise(30), np.full((30, 1, 8, 8), np.nan, np.float32)]),
        np.concatenate([noise(), np.full((60, 1, 8, 8), np.nan, np.float32)], axis=1),
        np.where(np.arange(60)[:, None, None, None] < 2, np.inf, noise()),
        np.where(np.arange(60)[:, None, None, None] < 2, -np.inf, noise()),
        1e30 * noise(),
        1000 + 1e-4 * noise(),
        np.zeros((60, 1, 8, 8), np.uint8),
        np.arange(60, dtype=np.int16)[:, None, None, None] + np.zeros((60, 1, 8, 8), np.int16),
        np.repeat(noise(1), 60, axis=0),
        noise(1), noise(2), noise(3),
        noise(60, 3, 1, 1), noise(60, 1, 2, 2), noise(60, 1, 1, 9), noise(60, 1, 5, 9),
        noise(40, 1, 8, 120), noise(6, 1, 200, 200), noise(60, 12),
        (noise() > 0).astype(np.uint8),
    ],
    ids=["NaN", "half NaN", "a band NaN", "infinite", "minus infinite", "huge", "rounding",
         "zeros", "constant", "all the same", "one", "two", "three", "pixels", "2 × 2", "1 × 9",
         "5 × 9", "long", "large and few", "many bands", "binary"],
)  # fmt: skip
def test_unusual_patches_are_audited_without_a_warning(images, split):
    patches = patch_set(images, np.random.default_rng(0).integers(0, 3, len(images)), 3)
    sides = {
        "any": np.random.default_rng(2).integers(0, 3, len(patches)),
        "no validation": np.full(len(patches), TRAIN),
        "no training": np.full(len(patches), VALIDATION),
        "all in between": np.full(len(patches), 3),
    }
    found = audit(patches, None if split is None else split_of(patches, sides[split]))
    json.dumps(found.to_json(), allow_nan=False)
    assert evidence_of(found, patches).thumbnails.dtype == np.uint8
    if split in ("no validation", "no training", "all in between"):
        assert "sides" in criticals(found)


def test_validation_and_test_are_both_checked(world):
    labels, sides = world.patches.labels, np.array(world.split.sides)
    for k in range(4):
        sides[np.flatnonzero((labels == k) & (sides == VALIDATION))[::2]] = TEST
    at = np.flatnonzero(sides == TEST)[0]
    images = world.patches.images.copy()
    images[at] = images[world.split.train[labels[world.split.train] == labels[at]][0]]
    patches = replace(world.patches, images=images)
    found = audit(patches, split_of(patches, sides))
    assert criticals(found) == ["duplicates"]
    assert found.findings[0].numbers["judged with a copy in training"] == 1


def test_bad_input_raises_an_error(world):
    empty = patch_set(noise(0), np.zeros(0, np.int64), 3)
    with pytest.raises(OutcropError, match="contains no patches"):
        audit(empty)
    one_hot = patch_set(noise(3), np.eye(3, dtype=np.int64))
    with pytest.raises(OutcropError, match=r"one-hot rows; pass labels.argmax\(1\)"):
        audit(one_hot)
    with pytest.raises(OutcropError, match="`seed`"):
        audit(world.patches, seed=-1)
    other = textured(1, 150)
    with pytest.raises(OutcropError, match="another patch set"):
        audit(world.patches, other.split)
    with pytest.raises(OutcropError, match="another patch set"):
        audit(world.patches, RandomSplit().assign(other.patches))
