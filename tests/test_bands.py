from __future__ import annotations

import numpy as np
import pytest
import rasterio
from hypothesis import given
from hypothesis import strategies as st

from outcrop.errors import OutcropError
from outcrop.mapping.scene import map_scene
from outcrop.patches.patchset import PatchSet
from outcrop.sources.bands import identities, match, name_without_band, select_bands
from outcrop.sources.mosaic import mosaic_scenes
from outcrop.sources.opening import open_scene, open_scenes
from outcrop.sources.reading import Reading
from outcrop.sources.stretch import ways_to_show
from outcrop.workflow.evaluate import evaluate
from tests.rasters import GRID, ramp, write_raster
from tests.test_mapping import classifier, dense, noise

NAMES = ("blue", "green", "red", "nir", "B05", "B8A", "elevation")
SENTINEL = [f"B{i:02}" for i in range(1, 13)] + ["B8A"]


def named(path, pixels, names, **options):
    write_raster(path, pixels, **options)
    with rasterio.open(path, "r+") as dataset:
        dataset.descriptions = tuple(names)
    return path


def of_bands(model, *names):
    from dataclasses import replace

    return replace(model, bands=names)


def read(path):
    with rasterio.open(path) as dataset:
        return dataset.read(1)


@given(st.permutations(NAMES), st.integers(1, len(NAMES)))
def test_equal_names_in_another_order_are_reordered(have, count):
    want = NAMES[:count]
    found = match(have, want)
    assert found is not None
    assert not found.assumed
    assert [have[i] for i in found.order] == list(want)


@given(st.permutations(SENTINEL), st.permutations(SENTINEL))
def test_tile_date_and_resolution_do_not_identify_bands(one, other):
    have = [f"T33UUU_20170216T102101_{band}_10m" for band in one]
    want = [f"T32TQM_20220701T100559_{band}" for band in other]
    found = match(have, want)
    assert found is not None
    assert not found.assumed
    assert [one[i] for i in found.order] == list(other)
    assert match(have, other) == match(one, other)


@pytest.mark.parametrize(
    ("have", "want"),
    [
        (["red", "green"], ["red", "nir"]),
        (["B02", "B03", "B04"], ["blue", "green", "red"]),
        (["SR_B4"], ["ST_B4"]),
        (["band 1", "band 2"], ["band 1"]),
        (["ndvi"], ["blue", "red"]),
        (["ndvi", "slope"], ["ndvi", "elevation"]),
    ],
)
def test_different_bands_are_not_matched(have, want):
    assert match(have, want) is None


@pytest.mark.parametrize(
    ("have", "want", "order"),
    [
        (["band 1", "band 2"], ["blue", "red"], (0, 1)),
        (["Band_1", "Band_2"], ["band1", "band2"], (0, 1)),
        (["2015-07-11", "2015-08-30"], ["2016-07-05", "2016-08-29"], (0, 1)),
        (["ndvi_20150711", "ndvi_20150830"], ["ndvi_20160705", "ndvi_20160829"], (0, 1)),
        (["band 1", "band 2", "band 3"], ["band 3", "band 2", "band 1"], (2, 1, 0)),
    ],
)
def test_unidentified_bands_are_matched_by_number_with_a_note(have, want, order):
    found = match(have, want)
    assert found is not None
    assert found.order == order
    assert found.assumed


def test_spellings_of_one_band_are_equal():
    groups = [
        ["T26EMU_20190414T110751_B02_10m", "2018-10-13, Sentinel-2B L1C, B02", "L8_B2", "b2"],
        ["LC08_L2SP_023032_20210622_20210629_02_T1_SR_B4", "sr_b4"],
        ["Red", "tile_2020_red", "red (0.65 µm)", "RED 665 nm"],
        ["Red edge 1", "rededge1", "red_edge_1"],
    ]
    for names in groups:
        assert len({identities([name])[0] for name in names}) == 1
    assert len({identities([names[0]])[0] for names in groups}) == len(groups)


def test_names_without_band_distinguish_dates():
    one, other = ("T33UUU_20170216T102101_{}_10m", "T33UUU_20170226T102101_{}_20m")
    assert name_without_band(one.format("B02")) == name_without_band(one.format("B8A"))
    assert name_without_band(one.format("B02")) != name_without_band(other.format("B02"))


def test_bands_are_selected_by_number_or_name():
    names = ["T33_20170216_B02", "T33_20170216_B8A", "T33_20170216_B11"]
    assert select_bands(names, [3, "1"], "x") == (2, 0)
    assert select_bands(names, ["B8A", "b2"], "x") == (1, 0)
    with pytest.raises(OutcropError, match=r"no band 'B12' \(it has T33"):
        select_bands(names, ["B12"], "x")
    with pytest.raises(OutcropError, match=r"selects band 1 twice"):
        select_bands(names, [1, 1], "x")
    with pytest.raises(OutcropError, match="2 bands named 'a'; pass their numbers"):
        select_bands(["a", "a"], ["a"], "x")


@pytest.mark.parametrize("model", [classifier(bands=3), dense(bands=3)])
def test_maps_do_not_depend_on_the_order_of_bands(tmp_path, model):
    names, pixels = ("blue", "green", "red"), noise(3)
    model = of_bands(model, *names)
    map_scene(model, named(tmp_path / "a.tif", pixels, names), tmp_path / "a-map.tif")
    map_scene(model, named(tmp_path / "b.tif", pixels[::-1], names[::-1]), tmp_path / "b-map.tif")
    whole = open_scenes([tmp_path / "b.tif", tmp_path / "a.tif"])
    map_scene(model, mosaic_scenes(whole), tmp_path / "c-map.tif")
    expected = read(tmp_path / "a-map.tif")
    assert len(np.unique(expected)) > 1
    assert np.array_equal(read(tmp_path / "b-map.tif"), expected)
    assert np.array_equal(read(tmp_path / "c-map.tif"), expected)


def test_scenes_with_different_bands_raise_an_error_with_both_lists(tmp_path, capfd):
    model = of_bands(dense(), "blue", "red")
    other = named(tmp_path / "a.tif", noise(), ("blue", "nir"))
    with pytest.raises(
        OutcropError, match=r"a.tif.*\(blue, nir\) where .*\(blue, red\); .*`band_n"
    ):
        map_scene(model, other, tmp_path / "m.tif")
    again = open_scene(other, reading=Reading(band_names=["blue", "red"]))
    map_scene(model, again, tmp_path / "m.tif")
    assert "of the model" not in capfd.readouterr().err
    nameless = write_raster(tmp_path / "b.tif", noise())
    map_scene(model, nameless, tmp_path / "n.tif")
    assert "used in this order as blue, red of the model" in capfd.readouterr().err
    assert np.array_equal(read(tmp_path / "m.tif"), read(tmp_path / "n.tif"))


def test_models_of_an_ensemble_may_differ_in_band_order(tmp_path):
    scene = named(tmp_path / "a.tif", noise(), ("blue", "red"))
    one, two = of_bands(dense(), "blue", "red"), of_bands(dense(seed=1), "blue", "red")
    turned = two.in_order([1, 0])
    assert turned.bands == ("red", "blue")
    for name, second in (("m", two), ("n", turned)):
        map_scene([one, second], scene, tmp_path / f"{name}.tif", tmp_path / f"{name}-sure.tif")
    assert np.array_equal(read(tmp_path / "m.tif"), read(tmp_path / "n.tif"))
    sure = [read(tmp_path / f"{name}-sure.tif").astype(int) for name in "mn"]
    assert np.abs(sure[0] - sure[1]).max() <= 1
    with pytest.raises(OutcropError, match=r"`model`.*blue, nir.*blue, red"):
        map_scene([one, of_bands(two, "blue", "nir")], scene, tmp_path / "o.tif")


def test_scores_do_not_depend_on_the_band_order_of_patches():
    model = of_bands(classifier(), "blue", "red")
    images = np.random.default_rng(0).normal(100, 60, (40, 2, 6, 6)).astype("float32")
    labels = np.arange(40) % 4
    patches = PatchSet(images, labels, model.classes, ("blue", "red"))
    turned = PatchSet(images[:, ::-1].copy(), labels, model.classes, ("red", "blue"))
    more = PatchSet(np.repeat(images, 2, axis=1), labels, model.classes, ("blue", "a", "red", "b"))
    expected = evaluate(model, patches).scores.confusion
    assert np.array_equal(evaluate(model, turned).scores.confusion, expected)
    assert np.array_equal(evaluate(model, more).scores.confusion, expected)
    with pytest.raises(OutcropError, match=r"patches.*\(blue, nir\).*\(blue, red\)"):
        evaluate(model, PatchSet(images, labels, model.classes, ("blue", "nir")))


def test_scenes_of_one_set_have_the_band_order_of_the_first(tmp_path):
    names = ("blue", "green", "red")
    pixels = noise(3)
    first = named(tmp_path / "a.tif", pixels, names)
    far = GRID @ GRID.translation(100, 0)
    second = named(tmp_path / "b.tif", pixels[::-1], names[::-1], transform=far)
    scenes = open_scenes([first, second])
    assert [scene.band_names for scene in scenes] == [names, names]
    with scenes[1].reader() as reader:
        assert np.array_equal(reader.read(0, 0, 37, 53), pixels)
    other = named(tmp_path / "c.tif", pixels, ("blue", "green", "nir"))
    with pytest.raises(OutcropError, match=r"c.tif.*blue, green, nir.*a.tif.*blue, green, red"):
        open_scenes([first, other])


def test_two_dates_are_two_scenes_and_a_repeated_band_raises_an_error(tmp_path):
    for name in ("T33UUU_20170216T102101", "T33UUU_20170226T102101"):
        for band in ("B02", "B03"):
            write_raster(tmp_path / f"{name}_{band}.tif", ramp(1))
    files = sorted(tmp_path.glob("*.tif"))
    scenes = open_scenes([files[0], files[3], files[1], files[2]])
    assert [scene.band_names for scene in scenes] == [("B02", "B03")] * 2
    assert [scene.bands[0].file for scene in scenes] == [str(files[0]), str(files[2])]
    assert [scene.opened for scene in scenes] == [
        tuple(map(str, files[:2])),
        (str(files[3]), str(files[2])),
    ]
    half = GRID @ GRID.scale(2)
    coarse = write_raster(
        tmp_path / "T33UUU_20170216T102101_B02_20m.tif", ramp(1, 20, 25), transform=half
    )
    fine = files[0].rename(tmp_path / "T33UUU_20170216T102101_B02_10m.tif")
    with pytest.raises(OutcropError, match=r"has band B2, as .*B02_10m.tif does; pass one"):
        open_scenes([fine, coarse])


def test_the_name_of_a_single_file_is_not_a_band_name(tmp_path):
    one, other = (write_raster(tmp_path / f"{name}.tif", ramp(1)) for name in ("site", "new"))
    assert open_scene(one).band_names == open_scene(other).band_names == ("band 1",)
    assert open_scene(write_raster(tmp_path / "x_B8A.tif", ramp(1))).band_names == ("B8A",)


def test_files_joined_by_the_user_stay_one_scene(tmp_path):
    names = ("T33UUU_20170216T102101_B02.tif", "T33UUU_20170226T102101_B02.tif")
    one, other = (write_raster(tmp_path / name, ramp(1)) for name in names)
    assert len(open_scenes([one, other])) == 2
    (scene,) = open_scenes([one, "+", other])
    assert scene.opened == (str(one), str(other))
    assert len(set(scene.band_names)) == 2


S2 = [f"T33UUU_20170216T102101_B{number:02}_10m" for number in (2, 3, 4, 8)]


@pytest.mark.parametrize(
    ("names", "sensor", "bands", "words"),
    [
        (S2, "", (2, 1, 0), "true colour"),
        (["2018-10-13, Sentinel-2B L1C, B03", "x B04", "x B02"], "", (1, 0, 2), "true colour"),
        ([f"L8_B{n}" for n in range(1, 8)], "", (3, 2, 1), "true colour"),
        ([f"SR_B{n}" for n in (1, 2, 3, 4)], "Landsat 7 ETM", (2, 1, 0), "true colour"),
        ([f"SR_B{n}" for n in (2, 3, 4)], "Landsat 9 OLI_TIRS", (2, 1, 0), "true colour"),
        (["B2", "B3", "B4"], "", (2, 1, 0), "B4, B3, B2 as red, green, blue"),
        (["b", "G", "r"], "", (2, 1, 0), "true colour"),
        (["nir", "red", "green"], "", (0, 1, 2), "false colour: near infrared, red, green"),
        (["a", "b", "c", "d"], "", (0, 1, 2), "false colour: a, b, c"),
        (["band 1", "band 2"], "", (0, 0, 0), "band 1"),
        ([f"sur_refl_b{n:02}" for n in range(1, 8)], "", (0, 3, 2), "true colour"),
        (["B01", "B02", "B03", "B04"], "MODIS", (0, 3, 2), "true colour"),
    ],
)
def test_scenes_are_shown_in_true_colour_where_names_say_it(names, sensor, bands, words):
    assert ways_to_show(names, sensor)[0] == (bands, words)
