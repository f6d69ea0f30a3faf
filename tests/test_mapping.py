from __future__ import annotations

import resource
import shutil
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import rasterio
import torch

from outcrop.errors import OutcropError
from outcrop.mapping import scene as mapping
from outcrop.mapping.scene import map_scene
from outcrop.models.architectures import ResidualNet
from outcrop.patches.palette import colours
from outcrop.sources.labels import open_labels
from outcrop.sources.scene import open_scene
from outcrop.training.classifier import Classifier
from outcrop.training.normalise import Normalisation
from tests.rasters import write_raster

CLASSES = ("water", "forest & wood", "rice", "built-up")


def classifier(bands=2, size=6):
    torch.manual_seed(0)
    network = ResidualNet(depth=8, width=4)
    return Classifier(
        network=network,
        module=network.build(bands, len(CLASSES)).eval(),
        classes=CLASSES,
        bands=tuple(f"band {i + 1}" for i in range(bands)),
        normalisation=Normalisation((100.0,) * bands, (60.0,) * bands),
        size=(size, size),
    )


def noise(bands=2, height=37, width=53):
    dice = np.random.default_rng(1)
    pixels = dice.integers(1, 256, (bands, height, width)).astype("uint8")
    pixels[:, 5:9, 30:35] = 0
    pixels[0, 20, 20] = 0
    return pixels


@pytest.fixture
def scene(tmp_path):
    return open_scene(write_raster(tmp_path / "scene.tif", noise(), nodata=0))


def read(path):
    with rasterio.open(path) as dataset:
        return dataset.read(1)


@pytest.mark.parametrize("size", [5, 6])
def test_every_pixel_gets_the_class_of_the_patch_around_it(tmp_path, scene, size):
    model = classifier(size=size)
    map_scene(model, scene, tmp_path / "map.tif", tmp_path / "sure.tif")
    pixels = np.where(noise() == 0, np.nan, noise().astype("float32"))
    padded = np.pad(pixels, ((0, 0), (8, 8), (8, 8)), mode="reflect")
    rows, columns = np.indices(pixels.shape[1:]).reshape(2, -1)
    top, left = rows - size // 2 + 8, columns - size // 2 + 8
    patches = np.stack(
        [padded[:, r : r + size, c : c + size] for r, c in zip(top, left, strict=True)]
    )
    probabilities = model.probabilities(patches)
    valid = np.isfinite(pixels).all(axis=0).ravel()
    expected = np.where(valid, probabilities.argmax(axis=1) + 1, 0)
    assert np.array_equal(read(tmp_path / "map.tif").ravel(), expected)
    certain = np.where(valid, np.rint(100 * probabilities.max(axis=1)), 255)
    assert np.abs(read(tmp_path / "sure.tif").ravel() - certain).max() <= 1


def test_the_map_does_not_depend_on_the_window(tmp_path, scene, monkeypatch):
    maps = []
    for window in (256, 16, 7):
        monkeypatch.setattr(mapping, "_WINDOW", window)
        map_scene(classifier(), scene, tmp_path / f"{window}.tif")
        maps.append(read(tmp_path / f"{window}.tif"))
    assert np.array_equal(maps[0], maps[1])
    assert np.array_equal(maps[0], maps[2])


def test_a_map_has_grid_nodata_names_and_colours(tmp_path, scene):
    path = tmp_path / "map.tif"
    map_scene(classifier(), scene, path)
    with rasterio.open(path) as made, rasterio.open(tmp_path / "scene.tif") as given:
        assert (made.shape, made.crs, made.transform) == (given.shape, given.crs, given.transform)
        assert made.nodata == 0
        assert made.tags(1)["CLASS_2"] == "forest & wood"
        table = made.colormap(1)
    for value, colour in enumerate(colours(CLASSES), start=1):
        assert table[value] == (*colour, 255)
    assert set(open_labels(path).classes) <= set(CLASSES)


@pytest.mark.skipif(shutil.which("gdalinfo") is None, reason="gdalinfo is not installed")
def test_gdalinfo_shows_the_class_names(tmp_path, scene):
    map_scene(classifier(), scene, tmp_path / "map.tif")
    told = subprocess.run(
        ["gdalinfo", tmp_path / "map.tif"], capture_output=True, text=True, check=True
    ).stdout
    assert "0: nodata" in told
    assert "2: forest & wood" in told
    assert "Color Table" in told
    assert "NoData Value=0" in told


@pytest.mark.parametrize("step", [2, 3, 5])
def test_a_coarse_map_gives_a_cell_the_class_of_one_of_its_pixels(tmp_path, scene, step):
    map_scene(classifier(), scene, tmp_path / "fine.tif")
    map_scene(classifier(), scene, tmp_path / "coarse.tif", step=step)
    fine, coarse = read(tmp_path / "fine.tif"), read(tmp_path / "coarse.tif")
    assert np.array_equal(fine == 0, coarse == 0)
    for row in range(0, 37, step):
        for column in range(0, 53, step):
            cell = np.s_[row : row + step, column : column + step]
            values = set(coarse[cell][coarse[cell] > 0])
            assert len(values) <= 1
            assert values <= set(fine[cell].ravel())


def test_memory_is_bounded_by_the_window(tmp_path):
    """A sparse scene of 0.8 GB, nodata but for a corner, is mapped in a child of 600 MB."""
    path = tmp_path / "large.tif"
    with rasterio.open(
        path, "w", driver="GTiff", dtype="uint8", count=2, height=20_000, width=20_000,
        crs="EPSG:32648", nodata=0, tiled=True, sparse_ok=True,
        transform=rasterio.Affine(10, 0, 600_000, 0, -10, 1_200_000),
    ) as dataset:  # fmt: skip
        window = rasterio.windows.Window(19_980, 19_980, 20, 20)
        dataset.write(noise()[:, :20, :20] | 1, window=window)
    program = f"""
        import resource, sys
        sys.path.insert(0, {str(mapping.__file__.split("/src/")[0])!r})
        from tests.test_mapping import classifier, map_scene, open_scene
        scene = open_scene({str(path)!r})
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        map_scene(classifier(), scene, {str(tmp_path / "map.tif")!r})
        print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
    """
    told = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, check=True
    )
    assert float(told.stdout) < 300
    with rasterio.open(tmp_path / "map.tif") as dataset:
        corner = dataset.read(1, window=window)
        assert not dataset.read(1, window=rasterio.windows.Window(0, 0, 100, 100)).any()
    assert (corner > 0).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bands": 3}, r"has 2 bands, but the model was trained on 3 \(band 1, band 2, band 3\)"),
        ({"size": 40}, "37 × 53 pixels, smaller than the model's patches of 40 × 40"),
        ({"step": 0}, "--step: must be from 1"),
        ({"output": "scene.tif"}, "exists already"),
        ({"output": "no/map.tif"}, "does not exist; make it first"),
    ],
)
def test_what_cannot_be_mapped_is_told(tmp_path, scene, change, message):
    model = classifier(change.get("bands", 2), change.get("size", 6))
    before = set(tmp_path.iterdir())
    with pytest.raises(OutcropError, match=message):
        map_scene(
            model, scene, tmp_path / change.get("output", "map.tif"), step=change.get("step", 1)
        )
    assert set(tmp_path.iterdir()) == before


def test_an_interrupted_map_leaves_nothing(tmp_path, scene, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    before = set(tmp_path.iterdir())
    monkeypatch.setattr(mapping, "classify_window", stop)
    with pytest.raises(KeyboardInterrupt):
        map_scene(classifier(), scene, tmp_path / "map.tif", tmp_path / "sure.tif")
    assert set(tmp_path.iterdir()) == before


def test_a_full_disk_leaves_nothing(tmp_path, scene):
    program = f"""
        import resource, sys
        sys.path.insert(0, {str(mapping.__file__.split("/src/")[0])!r})
        from tests.test_mapping import classifier, map_scene, open_scene
        from outcrop.errors import OutcropError
        resource.setrlimit(resource.RLIMIT_FSIZE, (700, 700))
        try:
            map_scene(
                classifier(), open_scene({str(tmp_path / "scene.tif")!r}),
                {str(tmp_path / "map.tif")!r}, {str(tmp_path / "sure.tif")!r},
            )
        except OutcropError as error:
            print(error)
    """
    before = set(tmp_path.iterdir())
    told = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, check=True
    )
    assert "is the disk full?" in told.stdout or "the disk is full" in told.stdout
    assert set(tmp_path.iterdir()) == before
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 700
