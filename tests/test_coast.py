from __future__ import annotations

from dataclasses import replace

import geopandas
import numpy as np
import pytest
import rasterio
from rasterio.features import rasterize
from sklearn.discriminant_analysis import QuadraticDiscriminantAnalysis

from outcrop.errors import OutcropError
from outcrop.synthetic.coast import BANDS, CLASSES, Hand, Radiometry, coast_image, make_coast
from outcrop.synthetic.draws import Draws


@pytest.fixture(scope="module")
def image():
    return coast_image(0, size=240, seed=3)


@pytest.fixture(scope="module")
def coast(tmp_path_factory):
    return make_coast(tmp_path_factory.mktemp("coast") / "delta", images=2, size=200, seed=5)


def burn(coast, stem, raster):
    """Class numbers, from 1, of the pixels in the polygons of one scene."""
    table = geopandas.read_file(coast.labels)
    table = table[table["scene"] == stem]
    numbers = [CLASSES.index(name) + 1 for name in table["class"]]
    return rasterize(
        zip(table.geometry, numbers, strict=True),
        out_shape=raster.shape,
        transform=raster.transform,
        dtype="uint8",
    )


def test_a_seed_gives_the_same_image(image):
    again = coast_image(0, size=240, seed=3)
    other = coast_image(0, size=240, seed=4)
    assert again.truth.tobytes() == image.truth.tobytes()
    assert again.reflectance.tobytes() == image.reflectance.tobytes()
    assert (other.truth != image.truth).mean() > 0.1


def test_the_first_image_and_its_labels_do_not_depend_on_the_number_of_images(coast, tmp_path):
    alone = make_coast(tmp_path / "alone", images=1, size=200, seed=5)
    for one, two in ((alone.scenes, coast.scenes), (alone.truths, coast.truths)):
        with rasterio.open(one[0]) as a, rasterio.open(two[0]) as b:
            np.testing.assert_array_equal(a.read(), b.read())
    both = geopandas.read_file(coast.labels)
    first = both[both["scene"] == coast.scenes[0].stem].reset_index(drop=True)
    mine = geopandas.read_file(alone.labels)
    assert mine["class"].tolist() == first["class"].tolist()
    assert mine.geometry.geom_equals_exact(first.geometry, 1e-6).all()


@pytest.mark.parametrize("seed", range(10))
def test_every_class_exists(seed):
    counts = np.bincount(coast_image(seed % 3, size=200, seed=seed).truth.ravel(), minlength=7)
    assert (counts[1:] >= 200).all(), dict(zip(CLASSES, counts[1:], strict=True))


def test_adjacent_images_fit_together(coast):
    with rasterio.open(coast.truths[0]) as left, rasterio.open(coast.truths[1]) as right:
        assert left.bounds.right == right.bounds.left
        a, b = left.read(1), right.read(1)
        shift = round((left.bounds.top - right.bounds.top) / 10)
    # Column 199 of the left image and column 0 of the right one are adjacent.
    rows = np.arange(max(0, shift), min(200, 200 + shift))
    a, b = a[rows, -1], b[rows - shift, 0]
    seen = (a > 0) & (b > 0)
    assert seen.sum() > 100
    assert (a == b)[seen].mean() > 0.85


def test_files_have_their_metadata(coast):
    for scene, truth in zip(coast.scenes, coast.truths, strict=True):
        with rasterio.open(scene) as raster:
            assert raster.crs.is_projected
            assert raster.crs.linear_units == "metre"
            assert raster.res == (10, 10)
            assert raster.count == 4
            assert raster.dtypes == ("uint16",) * 4
            assert raster.nodata == 0
            assert raster.descriptions == BANDS
            values = raster.read()
            grid = raster.transform, raster.shape, raster.crs
        with rasterio.open(truth) as raster:
            assert (raster.transform, raster.shape, raster.crs) == grid
            assert raster.nodata == 0
            assert [raster.tags(1)[f"CLASS_{k}"] for k in range(1, 7)] == list(CLASSES)
            assert raster.colormap(1)[1] != raster.colormap(1)[2]
            np.testing.assert_array_equal(raster.read(1) == 0, (values == 0).all(axis=0))
        assert np.median(values[values > 0]) < 10_000


def test_first_image_has_a_swath_edge(image):
    gone = np.isnan(image.reflectance).all(axis=0)
    assert 0.01 < gone.mean() < 0.2
    np.testing.assert_array_equal(gone, image.truth == 0)
    assert len(np.unique(gone.sum(axis=1))) > 3, "the edge is not slanted"


def test_labels_agree_with_most_of_the_truth(coast):
    right = drawn = 0
    for scene, truth in zip(coast.scenes, coast.truths, strict=True):
        with rasterio.open(truth) as raster:
            known, labels = raster.read(1), burn(coast, scene.stem, raster)
        assert set(labels[labels > 0]) == set(range(1, 7))
        used = (labels > 0) & (known > 0)
        drawn += used.sum()
        right += (labels == known)[used].sum()
    assert 0.9 <= right / drawn < 1


def test_polygons_are_valid_and_do_not_overlap(coast):
    table = geopandas.read_file(coast.labels)
    assert table.crs.to_epsg() == 32648
    assert table.geometry.is_valid.all()
    assert set(table["class"]) == set(CLASSES)
    assert set(table["scene"]) == {scene.stem for scene in coast.scenes}
    for _, part in table.groupby("scene"):
        union = part.geometry.union_all().area
        assert part.area.sum() == pytest.approx(union)
    assert table.area.median() > 30 * 100


def test_polygons_can_be_mislabelled(tmp_path):
    coast = make_coast(tmp_path / "sloppy", 1, 200, 5, hand=Hand(mislabelled=1.0, slip=0.0))
    with rasterio.open(coast.truths[0]) as raster:
        known, labels = raster.read(1), burn(coast, coast.scenes[0].stem, raster)
    assert (labels == known)[labels > 0].mean() < 0.1


def test_the_centre_pixel_does_not_determine_the_class(image):
    seen = image.truth > 0
    pixels, classes = 100 * image.reflectance[:, seen].T, image.truth[seen]
    balanced = np.concatenate([np.flatnonzero(classes == k)[::7][:400] for k in range(1, 7)])
    model = QuadraticDiscriminantAnalysis().fit(pixels[balanced], classes[balanced])
    assert 0.4 < model.score(pixels[balanced], classes[balanced]) < 0.85


def test_ground_is_spatially_autocorrelated(image):
    near, far = [], []
    for k in range(1, 7):
        for shift, found in ((3, near), (60, far)):
            a, b = image.truth[:, shift:], image.truth[:, :-shift]
            both = (a == k) & (b == k)
            if both.sum() > 100:
                change = image.reflectance[:, :, shift:] - image.reflectance[:, :, :-shift]
                found.append(np.mean(change[:, both] ** 2))
    assert np.mean(near) < 0.75 * np.mean(far)


def test_each_image_has_its_own_radiometry():
    draws = Draws(0)
    assert Radiometry.draw(0, draws) == Radiometry.draw(0, draws)
    assert Radiometry.draw(0, draws).gain != Radiometry.draw(1, draws).gain
    plain = Radiometry.draw(1, draws)
    clear = coast_image(1, 64, radiometry=replace(plain, haze=0.0)).reflectance
    hazy = coast_image(1, 64, radiometry=replace(plain, haze=0.05)).reflectance
    blue, *_, infrared = (hazy - clear).mean(axis=(1, 2))
    assert blue > 2 * infrared > 0


def test_fields_have_unit_variance_and_fit_together():
    x, y = np.arange(400.0), np.arange(300.0)
    whole = Draws(7).field("a", x, y, 5.0)
    part = Draws(7).field("a", x[100:200], y[50:90], 5.0)
    np.testing.assert_allclose(whole[50:90, 100:200], part, atol=1e-12)
    assert abs(whole.mean()) < 0.05
    assert whole.std() == pytest.approx(1, abs=0.05)
    assert abs(np.corrcoef(whole.ravel(), Draws(7).field("b", x, y, 5.0).ravel())[0, 1]) < 0.1


def test_an_existing_folder_raises_an_error(tmp_path):
    with pytest.raises(OutcropError, match="exists already"):
        make_coast(tmp_path, images=1, size=64)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ({"images": 0}, "take 1 or more"),
        ({"size": 63}, "take 64 or more"),
        ({"seed": -1}, "negative"),
    ],
)
def test_wrong_arguments_give_one_line_and_no_folder(tmp_path, arguments, line):
    with pytest.raises(OutcropError, match=line) as error:
        make_coast(tmp_path / "new", **arguments)
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_the_smallest_coast_can_be_made(tmp_path):
    assert make_coast(tmp_path / "small", images=1, size=64, seed=1).labels.exists()
