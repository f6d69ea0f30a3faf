"""The audit's page and its section in the report."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

from outcrop.auditing.audit import audit
from outcrop.auditing.folder import read_audit, write_audit
from outcrop.errors import OutcropError
from outcrop.reporting import write_report
from outcrop.reporting.audit import audit_part
from outcrop.splits import RandomSplit
from tests.command_line import check_refused, run
from tests.test_audit_ground import dense
from tests.test_conflicts import mislabelled
from tests.test_report import Page
from tests.tiny import some_patches


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """An audit of overlapping patches, split at random, some with a wrong label."""
    folder = tmp_path_factory.mktemp("page") / "audit"
    patches, _ = mislabelled(dense(), 40)
    found = audit(patches, RandomSplit().assign(patches))
    write_audit(found, patches, folder)
    write_report(folder)
    return folder


@pytest.fixture(scope="module")
def page(folder):
    return Page((folder / "report.html").read_text(encoding="utf-8"))


def test_the_page_says_what_was_found(folder, page):
    found, _ = read_audit(folder)
    assert "scores cannot be trusted yet" in page.text
    for finding in found.findings:
        assert finding.title in page.text
        said = re.sub(r" ([;,.])", r"\1", re.sub(r"\s+", " ", page.text))
        assert re.sub("`", "", finding.remedy) in said
    assert {f.check for f in found.findings} >= {
        "overlaps",
        "leak-gap",
        "conflicts",
        "autocorrelation",
    }


def test_the_page_stands_alone(folder):
    text = (folder / "report.html").read_text(encoding="utf-8")
    assert not re.search(r'(src|href)="(?!data:|#)', text)
    assert text.count("<svg") == 3  # the variogram, distances on the ground, the leak gap
    identifiers = re.findall(r'\sid="([^"]+)"', text)
    assert len(identifiers) == len(set(identifiers))


def test_evidence_is_shown(folder, page):
    found, evidence = read_audit(folder)
    part = audit_part(found, evidence)
    conflicts = next(groups for f, groups in part.evidence if f.check == "conflicts")
    assert len(conflicts) == 6
    assert all(len(group.pictures) == 7 for group in conflicts)  # a patch and its neighbours
    pictures = [attrs["src"] for tag, attrs in page.elements if tag == "img"]
    assert len(pictures) == sum(len(g.pictures) for _, groups in part.evidence for g in groups)
    assert "Each group: a patch, and its 6 nearest neighbours." in page.text


def test_an_audit_that_found_nothing_critical_says_so(tmp_path):
    patches = some_patches()
    found = audit(patches)
    write_audit(found, patches, tmp_path / "audit")
    page = Page(write_report(tmp_path / "audit").read_text(encoding="utf-8"))
    assert found.failed == ("scores cannot be trusted yet" in page.text)
    assert "positions not known" in page.text
    assert not any(tag == "svg" for tag, _ in page.elements)


def test_a_page_is_not_replaced_and_no_foreign_folder_is_shown(folder, tmp_path):
    with pytest.raises(OutcropError, match="exists"):
        write_report(folder)
    (tmp_path / "audit.json").write_text("{}")
    with pytest.raises(OutcropError, match="is not"):
        write_report(tmp_path)


def test_the_command_writes_findings_evidence_and_page(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    patches = dense(step=12)
    patches.save(tmp_path / "patches.zarr")
    RandomSplit().assign(patches).save(tmp_path / "split.json")
    code = run("audit patches.zarr --split split.json --output found --json")
    out, err = capfd.readouterr()
    found, evidence = read_audit(tmp_path / "found")
    assert code == int(found.failed)
    assert err == ""
    assert json.loads(out) == json.loads(json.dumps(found.to_json()))
    members = {i for f in found.findings for group in f.groups for i in group}
    np.testing.assert_array_equal(evidence.index, sorted(members))
    assert (tmp_path / "found" / "report.html").exists()
    check_refused(
        tmp_path, monkeypatch, capfd, "audit patches.zarr --to-map none.tif", "--to-map: needs"
    )
    command = "audit patches.zarr --split split.json --to-map none.tif"
    check_refused(tmp_path, monkeypatch, capfd, command, "none.tif")
