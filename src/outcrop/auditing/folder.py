"""The folder of an audit: its findings, and thumbnails of the patches in their groups."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from outcrop.auditing.audit import Audit
from outcrop.errors import OutcropError
from outcrop.files import check_new, decoding, new_folder, read_json, write_json
from outcrop.patches.patchset import PatchSet
from outcrop.sources.stretch import stretch_of, ways_to_show
from outcrop.splits.split import Split

_JSON, _EVIDENCE = "audit.json", "evidence.npz"
_LARGEST = 96


@dataclass(frozen=True)
class Evidence:
    """Thumbnails of the M patches in the groups of the findings.

    Attributes:
        index: int64, `M`, indices of the patches, ascending.
        labels: int64, `M`, their classes.
        thumbnails: uint8, `M × height × width × 3`, at most 96 pixels a side. Each band is
            stretched over all patches (`outcrop.sources.stretch`).
    """

    index: np.ndarray
    labels: np.ndarray
    thumbnails: np.ndarray

    def of(self, group: tuple[int, ...]) -> np.ndarray:
        """The thumbnails of a group, in its order."""
        return self.thumbnails[np.searchsorted(self.index, group)]


def evidence_of(audit: Audit, patches: PatchSet) -> Evidence:
    """Thumbnails of the patches in the groups of the findings."""
    members = (i for finding in audit.findings for group in finding.groups for i in group)
    index = np.array(sorted(set(members)), np.int64)
    step = -(-max(patches.size) // _LARGEST)
    bands, words = ways_to_show(patches.bands)[0]
    images = patches.take(index)[:, list(bands), ::step, ::step]
    number, _, height, width = images.shape
    if not number:
        return Evidence(index, patches.labels[index], np.zeros((0, height, width, 3), np.uint8))
    rows = images.swapaxes(0, 1).reshape(len(bands), number * height, width)
    shown = stretch_of(rows, (0, 1, 2), words)(rows).reshape(number, height, width, 3)
    return Evidence(index, patches.labels[index], shown)


def check_folder(folder: str | Path, overwrite: bool = False) -> None:
    """Check that an audit can be written to a folder.

    Raises:
        OutcropError: `folder` exists and `overwrite` is false, or it is not an audit; its parent
            folder is missing.
    """
    folder = Path(folder)
    check_new(folder, overwrite)
    if folder.exists() and not (folder / _JSON).is_file():
        raise OutcropError(folder, "is not an audit and is not replaced; choose another name")


def write_audit(
    audit: Audit, patches: PatchSet, folder: str | Path, overwrite: bool = False
) -> None:
    """Write `audit.json` and `evidence.npz` into a new folder.

    Raises:
        OutcropError: as `check_folder`; the disk is full or read-only.
    """
    check_folder(folder, overwrite)
    evidence = evidence_of(audit, patches)
    with new_folder(folder, overwrite) as temporary:
        write_json(temporary / _JSON, audit.to_json())
        np.savez_compressed(temporary / _EVIDENCE, **vars(evidence))


def check_same_set(audit: Audit, patches: PatchSet, split: Split, where: object) -> None:
    """Check that an audit belongs to a patch set and a split.

    Args:
        where: file or object that an error message names.

    Raises:
        OutcropError: it belongs to another patch set or split.
    """
    about = json.loads(json.dumps([audit.about["fingerprint"], audit.about["split"]]))
    if about != json.loads(json.dumps([patches.fingerprint, dict(split.how)])):
        raise OutcropError(
            where, "is the audit of another patch set or split; delete it, or name another folder"
        )


def read_audit(folder: str | Path) -> tuple[Audit, Evidence]:
    """Read an audit and its thumbnails from a folder.

    Raises:
        OutcropError: the folder is missing, is not an audit, or is damaged.
    """
    folder = Path(folder)
    content: Any = read_json(folder / _JSON, "audit", "audit")
    with decoding(folder, "a complete audit", "make a new one with `outcrop.audit`"):
        audit = Audit.from_json(content)
        with np.load(folder / _EVIDENCE, allow_pickle=False) as arrays:
            evidence = Evidence(arrays["index"], arrays["labels"], arrays["thumbnails"])
        if not len(evidence.index) == len(evidence.labels) == len(evidence.thumbnails):
            raise ValueError("thumbnails and patches differ in number")
        return audit, evidence
