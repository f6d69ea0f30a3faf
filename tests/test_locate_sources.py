"""`outcrop locate` in volumes and scenes of every kind, one or several."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import outcrop as oc
from outcrop.locating.locate import locate as locate_patches
from outcrop.patches.flips import FLIPS, flip
from outcrop.patches.patchset import read_patches
from outcrop.synthetic.damage import damage
from tests.command_line import run
from tests.cubes import write_segy
from tests.rasters import write_raster
from tests.rocks import COLUMNS, SIZE, cut, locate, places, rock, save
from tests.shared import DATA, needs_shared


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_all_axes_are_searched_by_default():
    samples = rock(6, sigma=(1, 1, 1))
    np.save("cube.npy", samples)
    parts = [cut(samples, axis, 8, seed=axis) for axis in range(3)]
    images, at = (np.concatenate(some) for some in zip(*parts, strict=True))
    save("p.npz", damage(images, np.zeros(24), 1, order="kept")[0])
    table = locate("p.npz cube.npy")
    assert places(table) == at.tolist()
    assert list(table.columns) == COLUMNS


def test_two_equal_places_have_no_margin_and_are_ambiguous(capfd):
    np.save("one.npy", rock(11))
    np.save("two.npy", rock(11))
    save("p.npz", cut(rock(11), 0, 12, seed=1)[0])
    table = locate("p.npz one.npy two.npy --axis 0")
    assert table["found"].all()
    assert table["margin"].abs().max() < 1e-6
    assert "12 patches ambiguous" in capfd.readouterr().out


def test_each_patch_is_found_in_its_own_source():
    samples = {f"{seed}.npy": rock(seed) for seed in (12, 13, 14)}
    parts = []
    for seed, (name, cube) in enumerate(samples.items()):
        np.save(name, cube)
        parts.append(cut(cube, 0, 5, seed)[0])
    save("p.npz", damage(np.concatenate(parts), np.zeros(15), 2, order="kept")[0])
    table = locate(f"p.npz {' '.join(samples)} --axis 0")
    assert table["source"].tolist() == np.repeat(list(samples), 5).tolist()


def test_patches_of_a_scene_are_found_with_the_contrast_of_each_band():
    pixels = np.stack([rock(seed, sigma=(0, 1.2, 1.2), shape=(1, 90, 110))[0] for seed in (1, 2)])
    pixels = (1000 + 200 * pixels).astype(np.uint16)
    write_raster("scene.tif", pixels)
    rng = np.random.default_rng(3)
    at = rng.integers((90 - SIZE + 1, 110 - SIZE + 1), size=(20, 2))
    names = rng.choice(["none", "turn 90", "left-right"], 20)
    gain, offset = np.array([2, 0.5])[:, None, None], np.array([-40, 7])[:, None, None]
    images = np.stack(
        [
            flip(gain * pixels[:, r : r + SIZE, c : c + SIZE] + offset, name)
            for (r, c), name in zip(at, names, strict=True)
        ]
    )
    save("p.npz", images.astype(np.float32), np.arange(20) % 2)
    table = locate(
        "p.npz scene.tif --flips --patches-output l.zarr --picture a.png --report r.html"
    )
    assert places(table) == np.insert(at, [0], [-1, 0], axis=1).tolist()
    assert table["flip"].tolist() == names.tolist()
    for k in range(2):
        assert table[f"gain of band {k + 1}"].to_numpy() == pytest.approx(gain[k, 0, 0], rel=1e-4)
        assert table[f"offset of band {k + 1}"].to_numpy() == pytest.approx(offset[k, 0, 0], abs=1)
    made = read_patches("l.zarr")
    source = np.stack([pixels[:, r : r + SIZE, c : c + SIZE] for r, c in at])
    assert np.array_equal(made.images[...], source)
    assert made.images.dtype == np.uint16
    assert made.bands == ("band 1", "band 2")
    position = made.positions
    assert position.x == pytest.approx(600_000 + 10 * (at[:, 1] + SIZE // 2 + 0.5))
    assert position.y == pytest.approx(1_200_000 - 10 * (at[:, 0] + SIZE // 2 + 0.5))
    grey = images[:, :1]
    assert (
        locate_patches(grey, "scene.tif", flips=True, bands=[1]).row.tolist() == at[:, 0].tolist()
    )


@needs_shared
def test_patches_of_a_real_scene_are_found():
    scene = oc.open_scene(sorted((DATA / "nc_landsat").glob("lsat7_2000_*.tif")), bands=[2, 3, 4])
    with scene.reader() as reader:
        pixels = reader.read(0, 0, scene.height, scene.width)
    whole = np.isfinite(pixels).all(axis=0)
    rng, at, images = np.random.default_rng(1), [], []
    names = rng.choice(["none", "turn 90", "turn 180", "anti-transpose"], 30)
    while len(at) < 30:
        r, c = rng.integers((scene.height - SIZE, scene.width - SIZE))
        if whole[r : r + SIZE, c : c + SIZE].all():
            at.append([r, c])
            window = pixels[:, r : r + SIZE, c : c + SIZE] * rng.uniform(0.5, 2, (3, 1, 1))
            images.append(flip(window + rng.uniform(-9, 9, (3, 1, 1)), names[len(at) - 1]))
    found = locate_patches(np.stack(images), scene, flips=True)
    assert found.found.all()
    assert np.stack([found.row, found.column], axis=1).tolist() == at
    assert found.flip.tolist() == names.tolist()


def test_segy_with_other_header_bytes_and_gaps():
    samples = rock(16, shape=(12, 40, 44))
    numbers = {"inlines": range(1, 13), "crosslines": range(1, 41), "at": (9, 21)}
    write_segy("cube.sgy", samples, [p for p in np.ndindex(12, 40) if p != (0, 0)], **numbers)
    images, at = cut(samples[1:], 0, 8, seed=1)
    save("p.npz", images, np.arange(8) % 2)
    headers = "--inline-byte 9 --crossline-byte 21 --gaps"
    table = locate(f"p.npz cube.sgy --axis 0 {headers}")
    assert places(table) == (at + np.array([0, 1, 0, 0])).tolist()
    again = f"patches cube.sgy --positions t.csv --size {SIZE} -o back.zarr {headers}"
    assert run(again) == 0
    assert np.allclose(read_patches("back.zarr").images[...][:, 0], images)


def test_missing_samples_and_patches_do_not_affect_the_others(capfd):
    samples = rock(15)
    images, at = cut(samples, 0, 20, seed=1)
    inside = (at[:, 2] + SIZE <= 45) & (at[:, 3] + SIZE <= 55)
    samples[:, 50:] = np.nan
    samples[:, :, 60:] = np.inf
    np.save("cube.npy", samples)
    images = images.copy()
    lost = np.flatnonzero(inside)[:2]
    images[lost[0], :13], images[lost[1]] = np.nan, np.inf
    save("p.npz", images)
    table = locate("p.npz cube.npy --axis 0")
    inside[lost] = False
    assert inside.sum() > 3
    assert places(table[inside]) == at[inside].tolist()
    assert not table["found"][lost].any()
    assert (table["confidence"][lost] == 0).all()
    first = f"2 patches flat or without most pixels cannot be located; the first is patch {lost[0]}"
    assert first in capfd.readouterr().out


def test_places_in_segy_have_inline_crossline_and_time():
    cube = rock(0)
    inlines, crosslines = range(179, 99, -2), range(501, 561)
    write_segy(Path("a.sgy"), cube, inlines=inlines, crosslines=crosslines)
    images, at = cut(cube, 1, 12, seed=4)
    save("p.npz", images, np.arange(12) % 2)
    table = locate("p.npz a.sgy --patches-output l.zarr")
    assert places(table) == at.tolist()
    middle = SIZE // 2
    assert table["crossline"].tolist() == [crosslines[i] for i in at[:, 1]]
    assert table["inline"].tolist() == [inlines[i + middle] for i in at[:, 2]]
    assert table["time"].tolist() == [4.0 * (i + middle) for i in at[:, 3]]
    # Inline, crossline and time alone give the same patches.
    table[["axis", "inline", "crossline", "time", "label"]].to_csv("lines.csv", index=False)
    assert run(f"patches a.sgy --positions lines.csv --size {SIZE} -o m.zarr") == 0
    assert np.array_equal(read_patches("m.zarr").images[...], read_patches("l.zarr").images[...])


@pytest.mark.parametrize("flips", [False, True])
def test_patches_with_missing_pixels_are_found_by_the_others(flips):
    samples = rock(17)
    np.save("cube.npy", samples)
    images, at = cut(samples, 0, 20, seed=2)
    images = 3 * images - 7
    rng = np.random.default_rng(3)
    for k, image in enumerate(images):
        # A mute at the top, dead traces, and single samples.
        image[: k % 8] = np.nan
        image[:, rng.choice(SIZE, k % 5)] = np.nan
        image[rng.random(image.shape) < 0.01] = np.inf
    names = list(FLIPS) if flips else ["none"]
    flips_of = [names[k % len(names)] for k in range(20)]
    flipped = np.stack([flip(image, name) for image, name in zip(images, flips_of, strict=True)])
    found = locate_patches(flipped, "cube.npy", axis=0, flips=flips)
    assert found.found.all()
    assert not found.ambiguous.any()
    assert found.flip.tolist() == flips_of
    assert np.stack([found.index, found.row, found.column], 1).tolist() == at[:, 1:].tolist()
    assert found.intensity.gain == pytest.approx(3, rel=1e-4)
    assert found.score == pytest.approx(1, abs=1e-6)
