from __future__ import annotations

import shutil

import geopandas as gpd
import numpy as np
import pytest
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely import Point, box

from outcrop.errors import OutcropError
from outcrop.patches.cut import cut
from outcrop.patches.patchset import PatchSet, read_patches
from outcrop.patches.positions import upper_left
from outcrop.sources.labels import open_labels
from outcrop.sources.opening import open_scene, open_scenes
from tests.rasters import UTM, ramp, write_raster
from tests.shared import DATA, needs_shared
from tests.test_scene import LANDSAT

NORTH_WEST = (600_000, 1_200_000)


def polygons(path, boxes, crs=UTM, to=None, **columns):
    """Polygons given as (class, first row, first column, last row, last column), in pixels."""
    x, y = NORTH_WEST
    shapes = [
        box(x + 10 * c0, y - 10 * (r1 + 1), x + 10 * (c1 + 1), y - 10 * r0)
        for _, r0, c0, r1, c1 in boxes
    ]
    data = {"class": [name for name, *_ in boxes], **columns}
    frame = gpd.GeoDataFrame(data, geometry=shapes, crs=crs)
    (frame.to_crs(to) if to else frame).to_file(path)
    return path


@pytest.fixture
def scene(tmp_path):
    return write_raster(tmp_path / "scene.tif", ramp())


@pytest.fixture
def labels(tmp_path):
    return polygons(tmp_path / "l.gpkg", [("water", 2, 3, 5, 6), ("forest", 20, 30, 22, 33)])


@given(size=st.integers(1, 17))
@settings(max_examples=17, deadline=None)
def test_a_patch_belongs_to_its_centre_pixel(tmp_path_factory, size):
    folder = tmp_path_factory.mktemp("cut")
    scene = write_raster(folder / "scene.tif", ramp())
    labels = polygons(folder / "l.gpkg", [("water", 0, 0, 3, 3), ("forest", 36, 46, 39, 49)])
    patches = cut(scene, labels, "class", size)
    padded = np.pad(ramp(), ((0, 0), (20, 20), (20, 20)), mode="reflect")
    assert len(patches) == 32
    for image, row, column in zip(
        patches.images, patches.positions.row, patches.positions.column, strict=True
    ):
        top, left = upper_left(row, size) + 20, upper_left(column, size) + 20
        assert np.array_equal(image, padded[:, top : top + size, left : left + size])
        assert np.array_equal(image[:, size // 2, size // 2], ramp()[:, row, column])


def test_positions_are_the_centres_of_pixels_in_metres(scene, labels):
    patches = cut(scene, labels, "class", 8)
    positions = patches.positions
    first = np.flatnonzero((positions.row == 2) & (positions.column == 3))[0]
    assert (positions.x[first], positions.y[first]) == (600_035, 1_199_975)
    assert positions.width[0] == positions.height[0] == 80
    assert patches.classes == ("forest", "water")
    assert patches.counts.tolist() == [12, 16]
    assert len(np.unique(positions.polygon)) == 2


def test_degrees_are_measured_in_metres(tmp_path):
    transform = Affine(1e-4, 0, 105.5, 0, -1e-4, 10.2)
    scene = write_raster(tmp_path / "s.tif", ramp(), crs="EPSG:4326", transform=transform)
    points = gpd.GeoDataFrame(
        {"class": ["a", "b"]}, geometry=[Point(105.50115, 10.1989), Point(105.50315, 10.1989)],
        crs="EPSG:4326",
    )  # fmt: skip
    points.to_file(tmp_path / "p.geojson")
    positions = cut(scene, tmp_path / "p.geojson", "class", 4).positions
    # A degree of longitude is 111.320 km times the cosine of the latitude.
    assert np.ptp(positions.x) == pytest.approx(
        20e-4 * 111_320 * np.cos(np.radians(10.2)), rel=0.01
    )
    assert positions.width[0] == pytest.approx(4e-4 * 111_320 * np.cos(np.radians(10.2)), rel=0.02)


def test_labels_in_another_system_give_the_same_patches(tmp_path, scene):
    boxes = [("water", 2, 3, 5, 6), ("forest", 20, 30, 22, 33)]
    same = cut(scene, polygons(tmp_path / "a.gpkg", boxes), "class", 8)
    other = cut(scene, polygons(tmp_path / "b.gpkg", boxes, to="EPSG:4326"), "class", 8)
    assert same.fingerprint == other.fingerprint
    assert np.array_equal(same.images, other.images)


def test_pixels_with_two_classes_are_dropped_and_counted(tmp_path, scene):
    boxes = [("water", 2, 2, 5, 5), ("forest", 5, 5, 9, 9), ("water", 3, 3, 4, 4)]
    patches = cut(scene, polygons(tmp_path / "l.gpkg", boxes), "class", 4)
    assert patches.dropped == {"conflict": 1}
    assert patches.counts.tolist() == [24, 15]


def test_groups_of_a_label_raster_are_its_connected_regions(tmp_path, scene):
    raster = np.zeros((40, 50), np.uint8)
    raster[0:3, 47:50] = 1
    raster[3, 0:3] = 1  # the next row's start is no neighbour of the last row's end
    raster[3:5, 3:5] = 2
    raster[5, 5] = 2  # touches at a corner
    path = write_raster(tmp_path / "labels.tif", raster)
    patches = cut(scene, path, size=4, classes=["river", "forest"])
    assert patches.classes == ("river", "forest")
    assert patches.counts.tolist() == [12, 5]
    polygon = patches.positions.polygon
    assert len(np.unique(polygon)) == 3
    assert len(np.unique(polygon[patches.labels == 1])) == 1


def test_a_complete_label_raster_has_no_polygons(tmp_path, scene):
    raster = np.ones((40, 50), np.uint8)
    raster[20:] = 2
    patches = cut(scene, write_raster(tmp_path / "labels.tif", raster), size=4, stride=5)
    assert len(np.unique(patches.positions.polygon)) == len(patches) == 80


def test_nodata_is_dropped_at_the_centre_and_nan_elsewhere(tmp_path):
    pixels = ramp()
    pixels[1, 3, 4] = 0
    scene = write_raster(tmp_path / "s.tif", pixels, nodata=0)
    labels = polygons(tmp_path / "l.gpkg", [("water", 2, 3, 5, 6), ("forest", 30, 30, 32, 33)])
    patches = cut(scene, labels, "class", 3)
    assert patches.dropped == {"no data": 1}
    assert patches.images.dtype == np.float32
    near = (abs(patches.positions.row - 3) <= 1) & (abs(patches.positions.column - 4) <= 1)
    assert np.array_equal(np.isnan(patches.images).any(axis=(1, 2, 3)), near)
    assert not np.isnan(patches.images[:, 0]).any()


def test_patches_beyond_the_edge_can_be_left_out(scene, tmp_path):
    labels = polygons(tmp_path / "l.gpkg", [("water", 0, 0, 5, 5), ("forest", 20, 30, 22, 33)])
    patches = cut(scene, labels, "class", 8, edge="drop")
    assert patches.dropped == {"edge": 32}
    assert patches.positions.row.min() == 4


def test_stride_and_limit_reduce_the_number_of_patches(scene, labels):
    patches = cut(scene, labels, "class", 4, stride=2)
    assert set(patches.positions.row % 2) == set(patches.positions.column % 2) == {0}
    few = cut(scene, labels, "class", 4, per_class=5, seed=1)
    again = cut(scene, labels, "class", 4, per_class=5, seed=1)
    assert few.counts.tolist() == [5, 5]
    assert few.fingerprint == again.fingerprint
    assert few.fingerprint != cut(scene, labels, "class", 4, per_class=5, seed=2).fingerprint


def test_on_disk_and_in_memory_are_the_same(scene, labels, tmp_path):
    memory = cut(scene, labels, "class", 7, keep=["class"])
    disk = cut(scene, labels, "class", 7, keep=["class"], output=tmp_path / "p.zarr")
    assert disk.fingerprint == memory.fingerprint
    assert np.array_equal(disk.take(np.arange(len(disk))[::-1]), memory.images[::-1])
    again = read_patches(tmp_path / "p.zarr")
    assert again.sources == memory.sources
    assert again.crs == memory.crs
    assert again.columns["class"].names == ("forest", "water")
    assert [again.columns["class"].names[c] for c in again.columns["class"].codes] == [
        again.classes[label] for label in again.labels
    ]
    assert {p.name for p in tmp_path.iterdir()} == {"scene.tif", "l.gpkg", "p.zarr"}


def test_a_missing_chunk_raises_an_error(scene, labels, tmp_path):
    cut(scene, labels, "class", 4, output=tmp_path / "p.zarr")
    shutil.rmtree(tmp_path / "p.zarr" / "images" / "c" / "0")
    with pytest.raises(OutcropError, match="1 chunks of images are missing"):
        read_patches(tmp_path / "p.zarr")


def test_chunks_of_zeros_are_stored(tmp_path, labels):
    scene = write_raster(tmp_path / "dark.tif", np.zeros((2, 40, 50), np.uint8))
    patches = cut(scene, labels, "class", 4, output=tmp_path / "p.zarr")
    assert not patches.take(np.arange(len(patches))).any()


def test_several_scenes_share_one_label_file(tmp_path, labels):
    scene = write_raster(tmp_path / "a.tif", ramp())
    shifted = Affine(10, 0, NORTH_WEST[0] + 50, 0, -10, NORTH_WEST[1])
    other = write_raster(tmp_path / "b.tif", ramp(), transform=shifted)
    patches = cut([scene, other], labels, "class", 4)
    assert np.bincount(patches.positions.source).tolist() == [28, 20]
    # The same polygon is the same polygon in both scenes.
    assert len(np.unique(patches.positions.polygon)) == 2
    first = patches.positions[patches.positions.source == 0]
    second = patches.positions[patches.positions.source == 1]
    assert set(zip(second.x, second.y, strict=True)) <= set(zip(first.x, first.y, strict=True))


def test_scenes_with_label_rasters_of_their_own(tmp_path):
    far = Affine(10, 0, 700_000, 0, -10, 1_200_000)
    raster = np.zeros((40, 50), np.uint8)
    raster[2:4, 2:4], raster[10:12, 2:4] = 1, 2
    scenes = [
        write_raster(tmp_path / "a.tif", ramp()),
        write_raster(tmp_path / "b.tif", ramp(), transform=far),
    ]
    labels = [
        write_raster(tmp_path / "la.tif", raster),
        write_raster(tmp_path / "lb.tif", raster, transform=far),
    ]
    patches = cut(scenes, labels, size=4)
    assert len(np.unique(patches.positions.polygon)) == 4


def test_memory_is_bounded_by_the_tile_not_the_scene(tmp_path):
    """A sparse scene of 3.2 GB (uncompressed) is cut without reading all of it."""
    import tracemalloc

    import rasterio
    from rasterio.windows import Window

    path = tmp_path / "large.tif"
    with rasterio.open(
        path, "w", driver="GTiff", dtype="uint16", count=4, height=20_000, width=20_000, crs=UTM,
        transform=Affine(10, 0, *NORTH_WEST[:1], 0, -10, NORTH_WEST[1]), tiled=True,
        sparse_ok=True,
    ) as dataset:  # fmt: skip
        dataset.write(ramp(4, 64, 64), window=Window(19_000, 19_000, 64, 64))
    labels = polygons(
        tmp_path / "l.gpkg", [("water", 19_010, 19_010, 19_019, 19_019), ("sea", 5, 5, 9, 9)]
    )
    tracemalloc.start()
    patches = cut(path, labels, "class", 16, output=tmp_path / "p.zarr")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert patches.counts.tolist() == [25, 100]
    assert patches.take(np.array([len(patches) - 1])).any()
    assert peak < 200e6


@needs_shared
@pytest.mark.parametrize(
    ("file", "column", "patches", "dropped"),
    [
        ("landsat96_labelled_pixels.tif", None, 2436, 436),
        ("landsat96_polygons.shp", "label", 1911, 353),
        ("landsat96_points.shp", "label", 561, 322),
    ],
)
def test_landsat_labels_of_all_three_kinds(file, column, patches, dropped):
    found = cut(LANDSAT, DATA / "nc_landsat" / file, column, 9)
    assert len(found) == patches
    assert found.dropped == {"no data": dropped}
    middle = found.images[:, :, 4, 4]
    assert np.isfinite(middle).all()


@needs_shared
def test_the_landsat_label_raster_has_33_regions():
    (scene,) = open_scenes(LANDSAT)
    pixels = open_labels(DATA / "nc_landsat" / "landsat96_labelled_pixels.tif").on(scene)
    assert (len(pixels), len(np.unique(pixels.polygon))) == (2872, 33)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": 41}, "smaller than a patch of 41"),
        ({"size": 0}, "`size`: must be at least 1"),
        ({"column": "klass"}, r"has no column 'klass' \(it has class"),
        ({"column": None}, "needs `column` with the column of class names; it has class"),
        ({"keep": ["region"]}, "has no column 'region'"),
        ({"boxes": [("water", 2, 3, 5, 6)]}, r"only one class \('water'\)"),
        ({"boxes": [("a", 900, 900, 901, 901), ("b", 950, 900, 951, 901)]}, "labels no pixel"),
        ({"boxes": [("a", 0, 0, 1, 1), ("b", 900, 900, 901, 901)]}, "gives patches of 'a' only"),
        ({"output": "l.gpkg"}, "exists already"),
        ({"output": "no/p.zarr"}, "does not exist; make it first"),
    ],
)
def test_bad_input_raises_an_error(tmp_path, scene, change, message):
    boxes = change.pop("boxes", [("water", 2, 3, 5, 6), ("forest", 20, 30, 22, 33)])
    labels = polygons(tmp_path / "l.gpkg", boxes)
    if "output" in change:
        change["output"] = tmp_path / change["output"]
    with pytest.raises(OutcropError, match=message):
        cut(scene, labels, **{"column": "class", "size": 4} | change)
    assert not list(tmp_path.glob(".*partial*"))


def test_an_empty_band_is_named(tmp_path):
    pixels = ramp(3)
    pixels[2] = 0
    scene = write_raster(tmp_path / "s.tif", pixels, nodata=0)
    labels = polygons(tmp_path / "l.gpkg", [("water", 2, 3, 5, 6), ("forest", 20, 30, 22, 33)])
    with pytest.raises(OutcropError, match=r"band 3 is nodata .*; pass `bands=.1, 2.`"):
        cut(scene, labels, "class", 4)


def test_empty_geometries_raise_an_error(tmp_path, scene):
    frame = gpd.GeoDataFrame({"class": ["a", "b"]}, geometry=[box(0, 0, 0, 0), None], crs=UTM)
    frame.geometry = [Point(), None]
    frame.to_file(tmp_path / "l.gpkg")
    with pytest.raises(OutcropError, match="1 feature with an empty geometry, 1 feature w"):
        cut(scene, tmp_path / "l.gpkg", "class", 4)


def test_open_scenes_can_be_given(scene, labels):
    assert isinstance(cut(open_scene(scene, [2]), labels, "class", 4), PatchSet)
