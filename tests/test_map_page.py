"""The page of a class map, and what it shows of the layers beside it."""

import base64
import io
import tracemalloc

import numpy as np
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from outcrop.accuracy.assess import assess
from outcrop.accuracy.assessment import write_assessment
from outcrop.files import write_json
from outcrop.mapping.layers import LAYERS
from outcrop.reporting import write_report
from outcrop.reporting.map_panels import count_cells, outside_cells, wrong_cells
from outcrop.reporting.maps import LONGEST, MapFiles, map_part
from outcrop.sources.class_raster import open_class_raster, windows
from outcrop.sources.opening import open_scene
from tests.command_line import check_refused, run
from tests.pages import Page
from tests.rasters import GRID, tagged, write_raster

NAMES = ["<b>rice</b>", "water", "sand"]
RANDOM = np.random.default_rng(3)
HEIGHT, WIDTH = 60, 90
TITLES = ["Class map", "Area of applicability", "Confidence", "Entropy", "Truth", "Errors"]


def write_layer(path, values, name):
    write_raster(path, np.asarray(values, np.uint8), nodata=LAYERS[name].nodata)
    with rasterio.open(path, "r+") as dataset:
        dataset.set_band_description(1, LAYERS[name].title)
    return path


@pytest.fixture
def home(tmp_path):
    """A map whose third part is wrong, all that can lie beside it, and what does not fit it."""
    classes = RANDOM.integers(1, 4, (HEIGHT, WIDTH))
    classes[:4, :10] = 0
    truth = np.where(np.arange(WIDTH) < 30, classes % 3 + 1, classes)
    tagged(tmp_path / "classes.tif", classes, NAMES)
    tagged(tmp_path / "truth.tif", truth, NAMES)
    dissimilarity = RANDOM.integers(0, 200, (HEIGHT, WIDTH))
    dissimilarity[classes == 0] = 255
    write_layer(tmp_path / "dissimilarity.tif", dissimilarity, "dissimilarity")
    for name in ("confidence", "entropy"):
        percent = RANDOM.integers(0, 101, (HEIGHT, WIDTH))
        write_layer(tmp_path / f"{name}.tif", np.where(classes == 0, 255, percent), name)
    write_raster(tmp_path / "scene.tif", RANDOM.integers(0, 900, (3, HEIGHT, WIDTH), np.uint16))
    write_raster(tmp_path / "smaller.tif", np.ones((3, HEIGHT, WIDTH - 1), np.uint8))
    write_raster(tmp_path / "elsewhere.tif", np.ones((3, HEIGHT, WIDTH), np.uint8), crs="EPSG:3857")
    write_assessment(
        tmp_path / "assessment.json", assess(tmp_path / "classes.tif", tmp_path / "truth.tif")
    )
    return tmp_path


ALL = (
    "report classes.tif --scene scene.tif --confidence confidence.tif --entropy entropy.tif "
    "--dissimilarity dissimilarity.tif --truth truth.tif"
)


def picture(image):
    return np.asarray(
        Image.open(io.BytesIO(base64.b64decode(image["href"].partition(",")[2]))).convert("RGBA")
    )


def test_pictures_lie_upon_each_other(home, monkeypatch, capsys):
    monkeypatch.chdir(home)
    assert run(ALL) == 0
    assert capsys.readouterr().out.strip() == "classes.html"
    page = Page((home / "classes.html").read_text())
    assert [title for title, *_ in page.pictures][1:] == TITLES
    for _, width, height, images in page.pictures:
        assert (width, height) == (WIDTH, HEIGHT)
        for image in images:
            assert picture(image).shape[:2] == (HEIGHT, WIDTH)
            assert (image["width"], image["height"]) == (str(WIDTH), str(HEIGHT))
    assert "wipe" in {
        a["class"].split()[-1] for t, a in page.elements if t == "div" and "class" in a
    }
    assert "<b>rice" in page.text
    for tag, attrs in page.elements:
        assert attrs.get("href", "data:image/").startswith("data:image/"), tag
        assert "src" not in attrs


def test_pictures_show_what_the_files_hold(home):
    path = write_report(
        home / "classes.tif",
        dissimilarity=home / "dissimilarity.tif",
        truth=home / "truth.tif",
        confidence=home / "confidence.tif",
    )
    shown = {title: images for title, _, _, images in Page(path.read_text()).pictures}
    classes, truth, dissimilarity, confidence = (
        rasterio.open(home / f"{name}.tif").read(1)
        for name in ("classes", "truth", "dissimilarity", "confidence")
    )
    for title, codes in (("Class map", classes), ("Truth", truth)):
        pixels = picture(shown[title][0])
        assert ((pixels[..., 3] == 0) == (codes == 0)).all()
        for code in (1, 2, 3):
            assert len(np.unique(pixels[codes == code], axis=0)) == 1
    red, _, blue, alpha = np.moveaxis(picture(shown["Errors"][0]).astype(int), 2, 0)
    assert ((red - blue > 50) == ((classes != truth) & (classes > 0))).all()
    veil = picture(shown["Area of applicability"][1])
    assert ((veil[..., 3] > 0) == ((dissimilarity > 100) & (dissimilarity < 255))).all()
    assert len(np.unique(veil[veil[..., 3] > 0], axis=0)) == 2
    sure = picture(shown["Confidence"][0])
    assert ((sure[..., 3] == 0) == (confidence == 255)).all()
    green = sure[..., 1].astype(int)
    assert green[confidence == 100].min() > green[confidence < 20].max()
    assert alpha[classes == 0].max() == 0


def test_the_share_outside_is_that_of_the_file(home):
    page = Page(
        write_report(home / "classes.tif", dissimilarity=home / "dissimilarity.tif").read_text()
    )
    dissimilarity = rasterio.open(home / "dissimilarity.tif").read(1)
    share = (dissimilarity[dissimilarity < 255] > 100).mean()
    assert f"{100 * share:.1f} % of the map is outside" in page.text.replace("\xa0", " ")


def test_the_table_of_areas_is_the_assessment(home):
    found = assess(home / "classes.tif", home / "truth.tif")
    one = write_report(home / "classes.tif", assessment=home / "assessment.json").read_text()
    text = Page(one).text
    for name, users, producers, area in zip(
        found.classes, found.accuracy.users, found.accuracy.producers, found.accuracy.area,
        strict=True,
    ):  # fmt: skip
        assert f"{area.scaled(found.whole, 2)} {users} {producers}" in text, name
    for words in (found.design, found.estimator, *found.notes):
        assert words in text
    assert f"Overall accuracy {found.accuracy.overall} %." in text
    for count in found.counts.ravel():
        assert f"{count:,}" in text
    mapped = write_report(home / "classes.tif", truth=home / "truth.tif", overwrite=True)
    assert Page(mapped.read_text()).text.count(str(found.accuracy.overall)) == 1


def test_a_map_alone_has_its_areas_and_says_what_they_are_not(home):
    page = Page(write_report(home / "classes.tif").read_text())
    assert [title for title, *_ in page.pictures] == ["Class map"]
    assert "not adjusted for its errors" in page.text
    classes = rasterio.open(home / "classes.tif").read(1)
    for code in (1, 2, 3):
        pixels = (classes == code).sum()
        assert f"{pixels:,}" in page.text
        assert f"{pixels * 0.01:.2f}" in page.text


def test_classes_of_the_truth_alone_have_a_colour_and_a_row(home):
    classes = rasterio.open(home / "classes.tif").read(1)
    tagged(home / "other.tif", np.where(classes == 3, 4, classes), [*NAMES, "cloud"])
    part = map_part(MapFiles(home / "classes.tif", truth=home / "other.tif"), None)
    assert [name for name, _ in part.classes] == [*NAMES, "cloud"]
    assert [row.name for row in part.rows] == [*NAMES, "cloud", "all"]
    assert part.rows[3].pixels == 0
    assert float(part.rows[3].area.split()[0]) > 0


def test_what_does_not_fit_is_left_out_of_a_part_and_told(home):
    layers = {"confidence": home / "dissimilarity.tif", "dissimilarity": home / "gone.tif"}
    part = map_part(MapFiles(home / "classes.tif", layers), open_scene(home / "smaller.tif"))
    assert [panel.title for panel in part.panels] == ["Class map"]
    assert len(part.refused) == 3


@pytest.mark.parametrize(
    ("command", "pieces"),
    [
        ("report classes.tif --scene smaller.tif", ("smaller.tif", "not on the grid")),
        ("report classes.tif --scene elsewhere.tif", ("elsewhere.tif", "not on the grid")),
        ("report classes.tif --confidence smaller.tif", ("smaller.tif", "not on the grid")),
        (
            "report classes.tif --dissimilarity confidence.tif",
            ("holds confidence", "pass the dissimilarity"),
        ),
        ("report classes.tif --entropy scene.tif", ("scene.tif", "holds uint16 numbers")),
        ("report classes.tif --dissimilarity gone.tif", ("gone.tif", "no such file")),
        ("report classes.tif --truth gone.tif", ("gone.tif", "no such file")),
        ("report classes.tif --assessment other.json", ("other.json", "another map than")),
        ("report classes.tif --assessment gone.json", ("gone.json", "no such assessment")),
        ("report scene.tif", ("scene.tif", "is not a class map")),
        ("report gone.tif", ("gone.tif", "no such folder or map")),
        ("report folder --truth truth.tif", ("--truth", "folder is not a map")),
        ("report cube.zarr", ("cube.zarr", "is a class cube")),
        ("report cube.npy --truth truth.tif", ("cube.npy", "is a class cube")),
        ("report classes.tif -o page.html", ("page.html", "exists already")),
        ("report classes.tif -o no/page.html", ("no", "does not exist")),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(home, monkeypatch, capfd, command, pieces):
    tagged(home / "other.tif", np.ones((HEIGHT, WIDTH)), NAMES)
    write_assessment(home / "other.json", assess(home / "other.tif", home / "truth.tif"))
    (home / "folder").mkdir()
    (home / "cube.zarr").mkdir()
    np.save(home / "cube.npy", np.ones((2, 2, 2), np.uint8))
    for cube in ("cube.zarr", "cube.npy"):
        write_json(home / f"{cube}.json", NAMES)
    (home / "page.html").write_text("mine")
    check_refused(home, monkeypatch, capfd, command, *pieces)


def test_the_page_is_bounded_by_its_pictures_and_not_by_the_scene(tmp_path):
    """Noise, which no format makes small, of twice the longest picture and of four times."""
    sizes, peaks = [], []
    for side in (2 * LONGEST, 4 * LONGEST):
        # What a pixel of the picture shows differs from the next one at either size.
        cell = side // LONGEST
        values = np.random.default_rng(0).integers(1, 4, (LONGEST, LONGEST), np.uint8)
        values = values.repeat(cell, 0).repeat(cell, 1)
        home = tmp_path / str(side)
        home.mkdir()
        options = {"tiled": True, "blockxsize": 256, "blockysize": 256}
        tagged(home / "classes.tif", values, NAMES, **options)
        write_raster(home / "scene.tif", np.stack([values * 80, values, 255 - values]), **options)
        write_layer(home / "dissimilarity.tif", values * 45, "dissimilarity")
        tracemalloc.start()
        path = write_report(
            home / "classes.tif",
            scene=[home / "scene.tif"],
            dissimilarity=home / "dissimilarity.tif",
        )
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        sizes.append(path.stat().st_size)
        for _, width, height, _ in Page(path.read_text()).pictures:
            assert (width, height) == (LONGEST, LONGEST)
    assert abs(sizes[1] - sizes[0]) < 0.02 * sizes[0]
    assert max(sizes) < 4e6
    assert peaks[1] < 1.2 * peaks[0]


@settings(max_examples=60, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 70), st.integers(1, 70)),
    shrink=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    window=st.integers(1, 40),
)
def test_cells_count_each_pixel_once_and_where_it_lies(shape, shrink, window):
    from rasterio.windows import Window

    size = tuple(max(1, round(s * n)) for s, n in zip(shrink, shape, strict=True))
    mask = np.random.default_rng(0).random((2, *shape)) < 0.4
    parts = [
        (Window(column, row, 0, 0), mask[:, row : row + window, column : column + window])
        for row in range(0, shape[0], window)
        for column in range(0, shape[1], window)
    ]
    expected = np.zeros((2, *size), int)
    for which, row, column in zip(*np.nonzero(mask), strict=True):
        expected[which, row * size[0] // shape[0], column * size[1] // shape[1]] += 1
    np.testing.assert_array_equal(count_cells(parts, shape, size), expected)


def test_shares_of_a_smaller_picture_are_those_of_all_pixels(home, monkeypatch):
    monkeypatch.setattr("outcrop.sources.class_raster._WINDOW", 32)
    with rasterio.open(home / "classes.tif") as dataset:
        assert len(list(windows(dataset))) == 6
    classes, truth, dissimilarity = (
        rasterio.open(home / f"{name}.tif").read(1)
        for name in ("classes", "truth", "dissimilarity")
    )
    wrong, codes = wrong_cells(
        home / "classes.tif", open_class_raster(home / "truth.tif"), NAMES, (7, 11)
    )
    assert wrong.overall == (classes != truth)[classes > 0].mean()
    assert codes.shape == (7, 11)
    outside = outside_cells(home / "dissimilarity.tif", (7, 11))
    assert outside.overall == (dissimilarity[dissimilarity < 255] > 100).mean()
    assert outside.known.sum() == (dissimilarity < 255).sum()


def test_a_truth_on_another_grid_is_brought_onto_the_maps(home):
    finer = GRID @ GRID.scale(0.5)
    truth = rasterio.open(home / "truth.tif").read(1).repeat(2, 0).repeat(2, 1)
    tagged(home / "finer.tif", truth, NAMES, transform=finer)
    one, other = (
        wrong_cells(home / "classes.tif", open_class_raster(home / name), NAMES, (HEIGHT, WIDTH))
        for name in ("truth.tif", "finer.tif")
    )
    np.testing.assert_array_equal(one[0].shares, other[0].shares)
    np.testing.assert_array_equal(one[1], other[1])
