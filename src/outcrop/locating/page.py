"""The HTML report of located patches: places, confidence, and change of contrast."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from outcrop.files import check_new, new_file
from outcrop.locating.located import Located
from outcrop.locating.projections import Cloud, clouds, projections
from outcrop.locating.summary import summary
from outcrop.patches.patchset import PatchSet
from outcrop.reporting.html import RANDOM, SPATIAL, asset, chart, render_page, svg
from outcrop.reporting.rasters import png
from outcrop.sources.scene import Scene
from outcrop.sources.stretch import stretches
from outcrop.sources.volumes import Volume

FOLDER = Path(__file__).parent
"""The folder of the templates of this package."""

_MOST_POINTS = 20_000
_MOST_THUMBS = 24
_SMALL = (3.4, 2.3)


@dataclass(frozen=True)
class NotFound:
    """A patch that was not found.

    Attributes:
        patch: its number.
        picture: its image as a data URI.
        words: its class and the reason.
    """

    patch: int
    picture: str
    words: str


def write_origins(
    path: str | Path, located: Located, patches: PatchSet, overwrite: bool = False
) -> None:
    """Write the report as one HTML page that needs no network and no other file.

    Args:
        path: output file.
        patches: the patches that were located, in that order.

    Raises:
        OutcropError: the file exists and `overwrite` is false; a scene cannot be read; the disk is
            full.
    """
    path = Path(path)
    check_new(path, overwrite)
    page = render_page(
        "origins.html.j2",
        FOLDER,
        script=asset("scatter.js", FOLDER),
        **_content(located, patches),
    )
    with new_file(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def scatter_data(cloud: Cloud) -> Markup:
    """The data of `scatter.js` as JSON, with at most 20,000 points."""
    assert isinstance(cloud.source, Volume)
    n = len(cloud.patch)
    shown = np.unique(np.linspace(0, n - 1, min(n, _MOST_POINTS)).round().astype(int))
    rows = np.column_stack([cloud.middle, cloud.codes, cloud.patch])[shown].astype(int).tolist()
    words = "" if len(shown) == n else f", {len(shown):,} of {n:,} patches"
    content = {
        "lengths": cloud.source.shape,
        "axes": cloud.source.axes,
        "classes": cloud.classes,
        "colours": ["#{:02x}{:02x}{:02x}".format(*colour) for colour in cloud.palette],
        "points": rows,
        "words": f"drag to rotate{words}",
    }
    # An unescaped `</script>` in a name would end the script element.
    return Markup(json.dumps(content, separators=(",", ":")).replace("<", "\\u003c"))


def _content(located: Located, patches: PatchSet) -> dict[str, Any]:
    height, width = located.size
    return {
        "title": f"Origin of {len(located):,} patches of {height} × {width} pixels",
        "searched": [_described(source) for source in located.sources],
        "classes": list(patches.palette.items()),
        "tiles": _tiles(located),
        "sentences": summary(located, patches.bands),
        "parts": [
            (
                cloud.source.title,
                None if isinstance(cloud.source, Scene) else scatter_data(cloud),
                projections(cloud),
            )
            for cloud in clouds(located, patches)
        ],
        "rows": _rows(located, patches),
        "charts": _charts(located, patches.bands) if located.found.any() else [],
        "not_found": _not_found(located, patches),
        "not_found_count": int((~located.found).sum()),
    }


def _described(source: Scene | Volume) -> str:
    lengths = source.shape if isinstance(source, Volume) else (source.height, source.width)
    return f"{source.title} ({' × '.join(f'{length:,}' for length in lengths)})"


def _tiles(located: Located) -> list[tuple[str, str, str]]:
    n, found = len(located), int(located.found.sum())
    tiles = [("Found", f"{found:,}", f"of {n:,} patches, {100 * found / n:.1f} %")]
    if found:
        score = located.score[located.found]
        tiles.append(("Score", f"{np.median(score):.4f}", f"median; lowest {score.min():.4f}"))
        nearly = int(located.ambiguous.sum())
        tiles.append(("Ambiguous", f"{nearly:,}", "another place may fit as well"))
        fits = min(one.fits for one in located.stretches) / found
        tiles.append(
            ("Common contrast", f"{100 * fits:.0f} %", "of the patches fit one gain and offset")
        )
    return tiles


def _rows(located: Located, patches: PatchSet) -> list[dict[str, Any]]:
    """Counts, score and margin of each class and of all patches."""
    groups = [(name, patches.labels == k) for k, name in enumerate(patches.classes)]
    rows = []
    for name, here in [*groups, ("all", np.ones(len(located), bool))]:
        found = here & located.found
        some = found.any()
        rows.append(
            {
                "name": name,
                "patches": int(here.sum()),
                "found": int(found.sum()),
                "ambiguous": int((located.ambiguous & here).sum()),
                "score": f"{np.median(located.score[found]):.4f}" if some else "–",
                "margin": f"{np.median(located.margin[found]):.4f}" if some else "–",
            }
        )
    return rows


def _charts(located: Located, bands: Sequence[str]) -> list[Markup]:
    found, lost = located.found, ~located.found & located.usable
    lowest = float(np.nanmin(located.score[located.usable]))
    with chart("score of the best place", _SMALL) as (figure, axes):
        edges = np.linspace(min(0.99 * lowest, 0.9), 1, 41).tolist()
        axes.hist(located.score[found], edges, color=SPATIAL, label="found")
        axes.hist(located.score[lost], edges, color=RANDOM, label="not found")
        axes.set_yscale("symlog", linthresh=1)
        axes.yaxis.set_major_formatter("{x:g}")
        axes.set_ylabel("patches")
        axes.legend(loc="upper left")
    made = [svg(figure, "scores of the patches that were found and of the others")]
    with chart("margin over the next best place", _SMALL) as (figure, axes):
        margin = located.margin[found]
        ends = min(0.0, float(margin.min())), max(1e-3, float(margin.max()))
        axes.hist(margin, 40, range=ends, color=SPATIAL)
        axes.set_ylabel("patches")
    made.append(svg(figure, "margins of the patches that were found"))
    with chart("gain and offset of each patch", _SMALL) as (figure, axes):
        for name, each in zip(bands, located.bands or (located.intensity,), strict=False):
            axes.scatter(each.gain, each.offset, s=5, lw=0, alpha=0.6, rasterized=True, label=name)
        if located.bands:
            axes.legend(fontsize=7, markerscale=2)
        axes.set_xlabel("gain")
        axes.set_ylabel("offset (grey values)")
    return [*made, svg(figure, "gain and offset of each patch that was found")]


def _not_found(located: Located, patches: PatchSet) -> list[NotFound]:
    """The first patches that were not found."""
    here = np.flatnonzero(~located.found)[:_MOST_THUMBS]
    made = []
    for patch, image in zip(here, patches.take(here), strict=True):
        name = patches.classes[patches.labels[patch]]
        why = (
            f"score {located.score[patch]:.3f}, confidence {located.confidence[patch]:.4f}"
            if located.usable[patch]
            else "flat, or most pixels missing"
        )
        shown = stretches(image, patches.bands)[0](image)
        made.append(NotFound(int(patch), png(shown), f"{name}; {why}"))
    return made
