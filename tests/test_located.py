"""Confidence, margin and contrast of located patches, and their table, report and figure."""

from __future__ import annotations

import json
import re
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.fft import dctn

import outcrop as oc
from outcrop.locating.correlation import Template, compare
from outcrop.locating.intensity import Intensity, common, intensities
from outcrop.locating.locate import locate as locate_patches
from outcrop.locating.null import _growth, _Sample, number_of_waves, surrogates
from outcrop.locating.planes import Planes
from outcrop.locating.projections import write_projections
from outcrop.locating.summary import summary
from outcrop.locating.table import write_positions
from outcrop.patches.collection import open_patches
from outcrop.synthetic.damage import damage
from tests.patches import patch_set
from tests.rasters import write_raster
from tests.rocks import CLASSES, COLUMNS, SHAPE, SIZE, cut, locate, rock, save


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("sigma", [(1, 1.5, 1), (3, 5, 5)], ids=["rough", "smooth"])
def test_patches_of_another_source_are_not_found_on_rough_or_smooth_ground(sigma):
    # Patches of another source score up to 0.55 on rough ground and 0.97 on smooth ground.
    np.save("cube.npy", rock(8, sigma))
    own, at = cut(rock(8, sigma), 0, 30, seed=1)
    others = cut(rock(9, sigma), 0, 60, seed=2)[0]
    images = damage(np.concatenate([own, others]), np.zeros(90), 3, order="kept", bits=16)[0]
    found = locate_patches(images, "cube.npy", axis=0)
    assert not found.found[30:].any()
    assert found.found[:30].all()
    assert found.row[:30].tolist() == at[:, 2].tolist()
    highest = found.score[30:].max()
    assert highest > 0.95 if sigma[0] == 3 else highest < 0.7


def test_surrogates_keep_only_the_spectrum():
    images = rock(1)[:5, None]
    made = surrogates(images, seed=3)
    assert np.array_equal(made, surrogates(images, seed=3))
    assert not np.array_equal(made, surrogates(images, seed=4))
    power = [np.abs(dctn(some, axes=(2, 3), norm="ortho")) for some in (images, made)]
    assert power[1][..., 0, 0] == pytest.approx(0, abs=1e-3)
    power[0][..., 0, 0] = power[1][..., 0, 0] = 0
    assert power[0] == pytest.approx(power[1], abs=1e-3)
    alike = [np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(images, made, strict=True)]
    assert np.abs(alike).max() < 0.3


def test_the_margin_is_the_score_minus_that_of_the_neighbouring_slices():
    samples = rock(10, sigma=(4, 1, 1))
    np.save("cube.npy", samples)
    window = samples[20, 10:34, 12:36]
    found = locate_patches(window[None], "cube.npy", axis=0)
    beside = [
        max(
            np.corrcoef(
                samples[i, 10 + r : 34 + r, 12 + c : 36 + c].ravel(), window.ravel()
            )[0, 1]
            for r in (-1, 0, 1)
            for c in (-1, 0, 1)
        )
        for i in (19, 21)
    ]  # fmt: skip
    assert found.score[0] == pytest.approx(1, abs=1e-4)
    assert found.margin[0] == pytest.approx(1 - max(beside), abs=1e-4)
    assert not found.ambiguous.any()


def test_patches_of_three_equal_bands_count_as_grey():
    np.save("cube.npy", rock(0))
    grey = cut(rock(0), 0, 4, seed=1)[0]
    one, alike = (
        locate_patches(some, "cube.npy", 0) for some in (grey, np.repeat(grey[:, None], 3, axis=1))
    )
    assert np.array_equal(one.score, alike.score)
    assert alike.bands == ()
    assert list(alike.to_frame().columns) == COLUMNS


def test_the_csv_file_equals_that_of_pandas():
    np.save("cube.npy", rock(0))
    images = np.concatenate([cut(rock(0), 0, 4, seed=1)[0], cut(rock(5), 0, 2, seed=1)[0]])
    patches = replace(patch_set(images[:, None], np.arange(6) % 2), classes=("a,b", "c"))
    found = locate_patches(patches, "cube.npy", 0)
    write_positions("ours.csv", found, patches)
    table = found.to_frame(patches)
    table.to_csv("theirs.csv", index=False, float_format="%.7g")
    assert Path("ours.csv").read_bytes() == Path("theirs.csv").read_bytes()
    assert table["row"].isna().tolist() == [False] * 4 + [True] * 2


def fit(patches, windows):
    """The intensities of patches, given their windows, `N × pixels` each."""
    fits = [compare([Template.of(y[None, None])], [x[None, None]])[0] for y, x in
            zip(patches, windows, strict=True)]  # fmt: skip
    return intensities(fits, [1] * len(fits))[0]


def test_each_band_has_an_intensity_and_all_bands_have_a_joint_one():
    rng = np.random.default_rng(6)
    x = rng.normal(size=(3, 5, 8)) + np.array([0, 4, 9])[:, None, None]
    y = x * np.array([2, -3, 1])[:, None, None] + rng.normal(size=x.shape)
    missing = rng.random((5, 8)) < 0.2
    for sign in (1, -1):
        fits = compare([Template.of(sign * y, missing)], [x])
        together, *each = intensities(fits, [sign])
        for found, a, b in zip([together, *each], [x, *x], [y, *y], strict=True):
            a, b = a[..., ~missing].ravel(), b[..., ~missing].ravel()
            gain, offset = np.polyfit(a, b, 1)
            assert (found.gain[0], found.offset[0]) == pytest.approx((gain, offset))
            left = b - gain * a - offset
            assert found.residual[0] == pytest.approx(np.sqrt((left**2).mean()))
            assert (found.mean[0], found.spread[0]) == pytest.approx((a.mean(), a.std()))


def test_the_common_stretch_is_that_of_most_patches():
    rng = np.random.default_rng(0)
    windows = rng.normal(3, 2, (50, 200))
    gain, offset = np.full(50, 9.5), np.full(50, 101.0)
    gain[:6], offset[6:9] = 11, 90
    patches = np.round(gain[:, None] * windows + offset[:, None])
    each = fit(patches, windows)
    assert each.gain == pytest.approx(gain, rel=1e-2)
    assert each.residual == pytest.approx(12**-0.5, rel=0.2)
    stretch = common(each, 12**-0.5)
    assert stretch.fits == 41
    assert (stretch.gain, stretch.offset) == pytest.approx((9.5, 101), rel=1e-3)
    exact = common(fit(windows * 2 + 1, windows), 0.0)
    assert (exact.gain, exact.offset, exact.fits) == pytest.approx((2, 1, 50))


def test_gain_and_offset_are_those_of_least_squares():
    rng = np.random.default_rng(4)
    x, y = rng.normal(size=(2, 3, 40))
    each = fit(y, x)
    for k in range(3):
        gain, offset = np.polyfit(x[k], y[k], 1)
        assert (each.gain[k], each.offset[k]) == pytest.approx((gain, offset))
        left = y[k] - gain * x[k] - offset
        assert each.residual[k] == pytest.approx(np.sqrt((left**2).mean()))
    flat = fit(y[:1], np.full((1, 40), 3.0))
    assert (flat.gain[0], flat.offset[0]) == pytest.approx((0, y[0].mean()))
    assert isinstance(flat, Intensity)


def test_report_and_figure_need_no_other_file():
    np.save("cube.npy", rock(0))
    images, at = cut(rock(0), 0, 20, seed=1)
    images = np.concatenate([images, cut(rock(5), 0, 3, seed=2)[0]])
    save("p.npz", images, np.arange(23) % 2)
    locate("p.npz cube.npy --axis 0 --report r.html --picture a.png")
    found, patches = locate_patches(images, "cube.npy", 0), open_patches("p.npz")
    for end in ("svg", "pdf"):
        write_projections(f"a.{end}", found, patches)
    for end, magic in (("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")):
        assert Path(f"a.{end}").read_bytes().startswith(magic)
    assert "3 not found" in Path("a.svg").read_text()
    page = Path("r.html").read_text()
    assert len(page) < 1_000_000
    links = re.findall(r"(?:href|src)=[\"']([^\"']{0,20})", page)
    assert all(link.startswith(("data:", "#")) for link in links)
    assert "<b>shale" not in page
    assert page.count("<figure>") == 3
    data = json.loads(re.search(r'<script type="application/json">(.*?)</script>', page)[1])
    assert (data["classes"], data["lengths"]) == (list(CLASSES), list(SHAPE))
    assert np.array(data["points"])[:, 3:].tolist() == [[i % 2, i] for i in range(20)]
    middle = at[:, 1:] + [0, (SIZE - 1) // 2, (SIZE - 1) // 2]
    assert np.array(data["points"])[:, :3].tolist() == middle.tolist()


def test_surrogates_are_searched_in_a_spread_sample_that_holds_no_window_twice():
    np.save("cube.npy", rock(0))
    write_raster("scene.tif", rock(1, shape=(2, 300, 80)))
    for stack, slices in ((Planes(oc.open_volume("cube.npy"), 0), 40),
                          (Planes(oc.open_scene("scene.tif"), -1), 1)):  # fmt: skip
        height, width = stack.size
        seen = np.zeros((slices, height - SIZE + 1, width - SIZE + 1), int)
        for piece in _Sample(stack.source, stack.axis).slabs((SIZE, SIZE)):
            last = piece.top + piece.height - SIZE + 1
            seen[piece.first : piece.last, piece.top : last] += 1
        assert seen.max() == 1
        assert 0.2 < seen.mean() < 0.5
        places = np.flatnonzero(seen.any(axis=(1, 2) if slices > 1 else (0, 2)))
        assert np.ptp(places) > 0.5 * max(slices, seen.shape[1] * (slices == 1))
        assert _growth([stack], [_Sample(stack.source, stack.axis)], (SIZE, SIZE)) > 1


def test_a_summary_has_no_score_of_patches_that_fit_nowhere():
    np.save("cube.npy", rock(0))
    found = locate_patches(cut(rock(0), 0, 4, seed=1)[0], "cube.npy", 0)
    here = np.arange(4) > 0
    found = replace(found, found=here, score=np.where(here, found.score, np.nan))
    line = next(line for line in summary(found, ("amplitude",)) if line.startswith("score"))
    assert "not found" not in line


def test_the_number_of_waves_is_computed_in_parts():
    images = np.random.default_rng(0).normal(size=(2000, 1, 96, 96)).astype(np.float32)
    number_of_waves(images[:2])
    tracemalloc.start()
    number_of_waves(images)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < images.nbytes
