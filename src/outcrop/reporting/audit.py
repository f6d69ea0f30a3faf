"""The audit: a section of the report, and a page of its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from outcrop import __version__
from outcrop.auditing.audit import SEVERITIES, Audit
from outcrop.auditing.finding import Finding
from outcrop.auditing.folder import Evidence, read_audit
from outcrop.files import check_new, new_file
from outcrop.reporting import charts
from outcrop.reporting.html import render_page
from outcrop.reporting.rasters import jpeg, png

_GROUPS = 6
_MEMBERS = 8
_SMALL = 32


@dataclass(frozen=True)
class Thumbnails:
    """One group of patches behind a finding.

    Attributes:
        pictures: data URIs.
        words: classes and indices of the patches.
        left_out: number of further patches of the group, not shown.
    """

    pictures: tuple[str, ...]
    words: str
    left_out: int


@dataclass(frozen=True)
class AuditPart:
    """Contents of the section.

    Attributes:
        audit: the findings.
        evidence: thumbnails by finding.
        charts: charts of the measurements.
    """

    audit: Audit
    evidence: tuple[tuple[Finding, tuple[Thumbnails, ...]], ...]
    charts: tuple[Markup, ...]

    @property
    def counts(self) -> tuple[tuple[str, int], ...]:
        """Findings by severity."""
        severities = [finding.severity for finding in self.audit.findings]
        return tuple((name, severities.count(name)) for name in SEVERITIES)


def audit_part(audit: Audit, evidence: Evidence) -> AuditPart:
    """Prepare the section of an audit."""
    return AuditPart(
        audit=audit,
        evidence=tuple(
            (finding, _thumbnails(finding, audit, evidence))
            for finding in audit.findings
            if finding.groups
        ),
        charts=tuple(_charts({finding.check: finding.numbers for finding in audit.findings})),
    )


def write_audit_page(folder: Path, output: Path | None = None, overwrite: bool = False) -> Path:
    """Write one HTML page about an audit.

    Args:
        folder: folder written by `outcrop audit --output`.
        output: the page; `report.html` in the folder if not given.
        overwrite: whether the page may exist.

    Raises:
        OutcropError: the folder is foreign or damaged; the page exists; the disk is full.
    """
    output = folder / "report.html" if output is None else Path(output)
    part = audit_part(*read_audit(folder))
    check_new(output, overwrite)
    page = render_page(
        "audit_page.html.j2", part=part, title=folder.resolve().name, version=__version__
    )
    with new_file(output) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return output


def _thumbnails(finding: Finding, audit: Audit, evidence: Evidence) -> tuple[Thumbnails, ...]:
    shown = []
    for group in finding.groups[:_GROUPS]:
        members = group[:_MEMBERS]
        index = np.array(members)
        labels = evidence.labels[np.searchsorted(evidence.index, index)]
        names = [audit.about["classes"][k] for k in labels]
        shown_names = names[:1] if len(set(names)) == 1 else names
        numbers = ", ".join(map(str, members))
        shown.append(
            Thumbnails(
                pictures=tuple(_picture(pixels) for pixels in evidence.of(members)),
                words=f"{' · '.join(shown_names)} (patches {numbers})",
                left_out=len(group) - len(members),
            )
        )
    return tuple(shown)


def _picture(pixels: np.ndarray) -> str:
    return png(pixels) if max(pixels.shape[:2]) <= _SMALL else jpeg(pixels)


def _charts(numbers: Mapping[str, Mapping[str, Any]]) -> Iterator[Markup]:
    if "pixels" in numbers.get("autocorrelation", {}):
        yield charts.variogram_chart(numbers["autocorrelation"])
    for check, title in (
        ("map-ground", "geographic distance"),
        ("map-features", "distance of features"),
    ):
        if check in numbers:
            yield charts.distances_chart(title, numbers[check])
    leaks = [numbers[check] for check in ("leak-gap", "network-gap") if check in numbers]
    if leaks:
        yield charts.leak_chart(leaks)
