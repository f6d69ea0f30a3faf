from __future__ import annotations

import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import pytest
import rasterio
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rio_cogeo import cog_validate
from scipy.ndimage import label

from outcrop.errors import OutcropError
from outcrop.mapping import engine, predictor
from outcrop.mapping import scene as mapping
from outcrop.mapping.engine import Partial
from outcrop.mapping.job import Job
from outcrop.mapping.layers import render
from outcrop.mapping.openmap import share_outside
from outcrop.mapping.scene import map_scene
from outcrop.metrics.applicability import AreaOfApplicability, learn_area
from outcrop.models.architectures import ResidualNet
from outcrop.models.factory import build
from outcrop.patches.flips import FLIPS, flip
from outcrop.patches.palette import colours
from outcrop.sources.labels import open_labels
from outcrop.sources.opening import open_scene
from outcrop.training.classifier import Classifier
from outcrop.training.normalise import Normalisation
from outcrop.training.run import Run
from tests.rasters import write_raster

CLASSES = ("water", "forest & wood", "rice", "built-up")


def classifier(bands=2, size=6, padding="zeros", seed=0, flip=False, temperature=1.0, **changes):
    torch.manual_seed(seed)
    network = ResidualNet(**{"depth": 8, "width": 4, "padding": padding} | changes)
    module = build(network, bands, len(CLASSES)).eval()
    with torch.no_grad():
        # Biases such that every class occurs.
        module.linear.weight *= 30
        module.linear.bias -= module(torch.randn(64, bands, size, size)).mean(dim=0)
    return Classifier(
        network=network,
        module=module,
        classes=CLASSES,
        bands=tuple(f"band {i + 1}" for i in range(bands)),
        normalisation=Normalisation((100.0,) * bands, (60.0,) * bands),
        size=(size, size),
        flip=flip,
        temperature=temperature,
    )


def dense(size=28, **options):
    return classifier(size=size, padding="none", **options)


def patch_by_patch(model, pixels, rows, columns, turns=()):
    """Probabilities of the classifier for the patches around pixels of a scene, NaN for nodata.

    Patches are turned about their pixel: of even size, a row and a column more of the scene is
    turned and then left out.
    """
    size, half = model.size[0], model.size[0] // 2
    around = np.pad(pixels, ((0, 0), (size, size), (size, size)), mode="reflect")
    windows = [
        around[:, r - half : r + half + 1, c - half : c + half + 1]
        for r, c in zip(rows + size, columns + size, strict=True)
    ]
    own = ("none", "left-right") if model.flip else ("none",)
    plain = replace(model, flip=False, temperature=1)
    likely = [
        plain.predict_proba(flip(np.stack(windows), turn)[..., :size, :size])
        for turn in dict.fromkeys((*own, *turns))
    ]
    cooled = np.mean(likely, axis=0) ** (1 / model.temperature)
    return cooled / cooled.sum(axis=1, keepdims=True)


def noise(bands=2, height=37, width=53):
    rng = np.random.default_rng(1)
    pixels = rng.integers(1, 256, (bands, height, width)).astype("uint8")
    pixels[:, 5:9, 30:35] = 0
    pixels[0, 20, 20] = 0
    return pixels


@pytest.fixture
def scene(tmp_path):
    return open_scene(write_raster(tmp_path / "scene.tif", noise(), nodata=0))


def read(path):
    with rasterio.open(path) as dataset:
        return dataset.read(1)


@pytest.mark.parametrize(
    "model",
    [
        classifier(size=5),
        classifier(size=6, temperature=3.0),
        dense(27),
        dense(28, temperature=0.5),
        dense(30, flip=True, temperature=2.0),
        classifier(size=8, seen=5),
        dense(24, seen=17, halvings=0),
        dense(27, seen=18, halvings=1, flip=True),
    ],
    ids=[
        "odd",
        "even",
        "dense, odd",
        "dense, even",
        "dense, mirrored",
        "part of a patch, and pixel",
        "dense, part of a patch, and pixel",
        "dense, mirrored, part of a patch, and pixel",
    ],
)
def test_every_pixel_gets_the_class_of_the_patch_around_it(tmp_path, scene, model):
    map_scene(model, scene, tmp_path / "map.tif", tmp_path / "sure.tif")
    pixels = np.where(noise() == 0, np.nan, noise().astype("float32"))
    rows, columns = np.indices(pixels.shape[1:]).reshape(2, -1)
    probabilities = patch_by_patch(model, pixels, rows, columns)
    valid = np.isfinite(pixels).all(axis=0).ravel()
    expected = np.where(valid, probabilities.argmax(axis=1) + 1, 0)
    assert np.array_equal(read(tmp_path / "map.tif").ravel(), expected)
    assert len(np.unique(expected)) > 2
    certain = np.where(valid, np.rint(100 * probabilities.max(axis=1)), 255)
    assert np.abs(read(tmp_path / "sure.tif").ravel() - certain).max() <= 1


@settings(max_examples=15, deadline=None)
@given(
    shape=st.tuples(st.integers(28, 61), st.integers(28, 61)),
    window=st.integers(1, 80),
    seed=st.integers(0, 3),
    kind=st.sampled_from(["dense", "patches"]),
)
def test_the_map_does_not_depend_on_the_window_bit_by_bit(
    tmp_path_factory, shape, window, seed, kind
):
    folder = tmp_path_factory.mktemp("windows")
    pixels = np.random.default_rng(seed).normal(100, 60, (2, *shape)).astype("float32")
    path = write_raster(folder / "scene.tif", pixels)
    model = dense(seed=seed) if kind == "dense" else classifier(seed=seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(predictor._TILE, kind, 16)
        for name, side in (("a", window), ("b", 1000)):
            map_scene(model, path, folder / f"{name}.tif", folder / f"{name}-sure.tif", window=side)
    for layer in ("", "-sure"):
        assert (folder / f"a{layer}.tif").read_bytes() == (folder / f"b{layer}.tif").read_bytes()


def test_the_map_does_not_depend_on_the_number_of_threads(tmp_path, scene, monkeypatch):
    monkeypatch.setitem(predictor._TILE, "dense", 16)
    for threads in (1, 2, 5):
        monkeypatch.setattr(engine, "threads_for", lambda _, n=threads: n)
        map_scene(dense(), scene, tmp_path / f"{threads}.tif", window=16)
    one, two, five = ((tmp_path / f"{threads}.tif").read_bytes() for threads in (1, 2, 5))
    assert one == two == five


def test_a_padded_network_is_dense_on_request_only(tmp_path, scene, capsys):
    """Dense units see the scene where units of patches see zeros: similar, but not equal."""
    model = classifier(size=28)
    for method in ("auto", "patches", "dense"):
        map_scene(model, scene, tmp_path / f"{method}.tif", method=method)
    auto, patches, other = (
        read(tmp_path / f"{method}.tif") for method in ("auto", "patches", "dense")
    )
    assert np.array_equal(auto, patches)
    assert 0 < (other != patches).mean() < 0.9
    assert np.array_equal(other == 0, patches == 0)
    told = re.search(r"agree on ([\d.]+) % .* of ([\d,]+) pixels", capsys.readouterr().err)
    assert float(told[1]) == pytest.approx(100 * (other == patches)[other > 0].mean(), abs=3)
    assert int(told[2].replace(",", "")) > 900


def test_a_map_is_a_valid_cog(tmp_path):
    pixels = np.random.default_rng(0).integers(1, 255, (2, 700, 600)).astype("uint8")
    path = write_raster(tmp_path / "scene.tif", pixels, nodata=0)
    map_scene(dense(), path, tmp_path / "map.tif", tmp_path / "sure.tif", sieve=4)
    for name in ("map.tif", "sure.tif"):
        valid, errors, warnings = cog_validate(tmp_path / name, strict=True, quiet=True)
        assert (valid, errors, warnings) == (True, [], [])
    with rasterio.open(tmp_path / "map.tif") as made:
        assert made.overviews(1)
        assert made.tags(1)["CLASS_2"] == "forest & wood"


def test_entropy_and_second_class(tmp_path, scene):
    model = dense()
    map_scene(
        model, scene, tmp_path / "map.tif", entropy=tmp_path / "h.tif", second=tmp_path / "2.tif"
    )
    pixels = np.where(noise() == 0, np.nan, noise().astype("float32"))
    rows, columns = np.array([3, 30, 36]), np.array([4, 0, 52])
    likely = patch_by_patch(model, pixels, rows, columns)
    entropy = -(likely * np.log(likely)).sum(axis=1) / np.log(len(CLASSES))
    assert np.abs(read(tmp_path / "h.tif")[rows, columns] - 100 * entropy).max() <= 1
    assert np.array_equal(
        read(tmp_path / "2.tif")[rows, columns], np.argsort(likely, axis=1)[:, -2] + 1
    )
    assert read(tmp_path / "h.tif")[6, 31] == 255
    assert read(tmp_path / "2.tif")[6, 31] == 0
    with rasterio.open(tmp_path / "2.tif") as dataset:
        assert dataset.tags(1)["CLASS_3"] == "rice"


@dataclass(frozen=True, eq=False)
class SomeRun(Run):
    """An untrained run with an area of applicability."""

    area: AreaOfApplicability

    @property
    def applicability(self):
        return self.area


@pytest.mark.parametrize("kind", ["dense", "patches"])
@pytest.mark.parametrize("flip", [False, True])
def test_the_dissimilarity_of_every_pixel(tmp_path, scene, kind, flip):
    # A mirrored patch of even size is padded, but that of a scene is read.
    model = dense(29, flip=flip) if kind == "dense" else classifier(size=7, flip=flip)
    pixels = np.where(noise() == 0, np.nan, noise().astype("float32"))
    rows, columns = np.indices(pixels.shape[1:]).reshape(2, -1)
    size = model.size[0]
    around = np.pad(pixels, ((0, 0), (size, size), (size, size)), mode="reflect")
    patches = np.lib.stride_tricks.sliding_window_view(around, (size, size), axis=(1, 2))
    images = patches[:, rows - size // 2 + size, columns - size // 2 + size].swapaxes(0, 1)
    features = torch.from_numpy(model.probabilities_and_features(images)[1])
    area = learn_area(features[::9], np.arange(len(features[::9])), features[4::9])
    run = SomeRun(tmp_path, model, (), None, {}, area)
    map_scene(run, scene, tmp_path / "map.tif", dissimilarity=tmp_path / "far.tif")
    expected = 100 * (area.dissimilarity(features) / area.threshold).numpy()
    valid = np.isfinite(pixels).all(axis=0).ravel()
    found = read(tmp_path / "far.tif").ravel().astype(int)
    assert np.array_equal(found == 255, ~valid)
    assert np.abs(found[valid] - np.minimum(expected[valid], 254)).max() <= 2
    outside = share_outside(tmp_path / "far.tif")
    assert outside == pytest.approx((expected[valid] > 100).mean(), abs=0.02)
    assert 0 < outside < 0.5


def test_dissimilarity_needs_a_run(tmp_path, scene):
    with pytest.raises(OutcropError, match="`dissimilarity`: needs the run"):
        map_scene(dense(), scene, tmp_path / "map.tif", dissimilarity=tmp_path / "far.tif")


def test_equal_probabilities_have_the_highest_entropy():
    same = np.full((4, 1), 0.25, np.float32)
    assert render(["confidence", "entropy"], same).ravel().tolist() == [25, 100]
    sure = np.array([[1], [0], [0], [0]], np.float32)
    assert render(["confidence", "entropy"], sure).ravel().tolist() == [100, 0]


@pytest.mark.parametrize("kind", ["dense", "patches"])
def test_an_ensemble_is_the_mean_of_its_models(tmp_path, scene, kind):
    make = dense if kind == "dense" else classifier
    models = [make(size=28), make(size=33, seed=1)]
    map_scene(models, scene, tmp_path / "map.tif", tmp_path / "sure.tif")
    pixels = np.where(noise() == 0, np.nan, noise().astype("float32"))
    rows, columns = np.indices(pixels.shape[1:]).reshape(2, -1)[:, ::37]
    likely = np.mean([patch_by_patch(one, pixels, rows, columns) for one in models], axis=0)
    valid = np.isfinite(pixels[:, rows, columns]).all(axis=0)
    assert np.array_equal(
        read(tmp_path / "map.tif")[rows, columns][valid], likely.argmax(axis=1)[valid] + 1
    )
    sure = read(tmp_path / "sure.tif")[rows, columns][valid].astype(int)
    assert np.abs(sure - 100 * likely.max(axis=1)[valid]).max() <= 1


@pytest.mark.parametrize(
    "model",
    [classifier(size=7), classifier(size=8), dense(29), dense(28), dense(30, flip=True)],
    ids=["odd", "even", "dense, odd", "dense, even", "dense, mirrored"],
)
def test_turns_are_averaged_over_all_eight(tmp_path, scene, model):
    map_scene(model, scene, tmp_path / "map.tif", tmp_path / "sure.tif", tta=True)
    pixels = np.where(noise() == 0, np.nan, noise().astype("float32"))
    rows, columns = np.array([0, 17, 36, 9, 30]), np.array([0, 33, 50, 0, 52])
    likely = patch_by_patch(model, pixels, rows, columns, FLIPS)
    assert (
        read(tmp_path / "map.tif")[rows, columns].tolist() == (likely.argmax(axis=1) + 1).tolist()
    )
    sure = read(tmp_path / "sure.tif")[rows, columns].astype(int)
    assert np.abs(sure - 100 * likely.max(axis=1)).max() <= 1


@pytest.mark.parametrize("tta", [False, True])
@pytest.mark.parametrize("size", [28, 29, 30])
def test_dense_and_patch_by_patch_are_the_same_map(tmp_path, scene, size, tta):
    model = dense(size, flip=True)
    for method in ("dense", "patches"):
        sure = tmp_path / f"sure-{method}.tif"
        map_scene(model, scene, tmp_path / f"{method}.tif", sure, method=method, tta=tta)
    one, other = (
        read(tmp_path / f"sure-{method}.tif").astype(int) for method in ("dense", "patches")
    )
    assert np.abs(one - other).max() <= 1
    same = read(tmp_path / "dense.tif") == read(tmp_path / "patches.tif")
    assert same.mean() > 0.999


def test_the_sieve_leaves_no_small_area(tmp_path, scene):
    map_scene(dense(), scene, tmp_path / "fine.tif")
    map_scene(dense(), scene, tmp_path / "sieved.tif", sieve=12)
    fine, sieved = read(tmp_path / "fine.tif"), read(tmp_path / "sieved.tif")
    assert np.array_equal(fine == 0, sieved == 0)
    assert (fine != sieved).any()

    def patches(values):
        return [
            count
            for value in np.unique(values[values > 0])
            for count in np.bincount(label(values == value)[0].ravel())[1:]
        ]

    assert min(patches(fine)) < 12 <= min(patches(sieved))


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
    """A child process maps a sparse scene of 0.4 GB, with data in a corner, with less memory."""
    path = tmp_path / "large.tif"
    with rasterio.open(
        path, "w", driver="GTiff", dtype="uint8", count=2, height=14_000, width=14_000,
        crs="EPSG:32648", nodata=0, tiled=True, sparse_ok=True,
        transform=rasterio.Affine(10, 0, 600_000, 0, -10, 1_200_000),
    ) as dataset:  # fmt: skip
        window = rasterio.windows.Window(13_980, 13_980, 20, 20)
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
        ({"bands": 3}, r"has 2 bands .* where the model has 3 bands \(band 1, band 2, band 3\)"),
        ({"size": 40}, "37 × 53 pixels, smaller than the model's patches of 40 × 40"),
        ({"step": 0}, "`step`: must be from 1"),
        ({"output": "scene.tif"}, "exists already"),
        ({"output": "no/map.tif"}, "does not exist; make it first"),
    ],
)
def test_wrong_arguments_raise_an_error(tmp_path, scene, change, message):
    model = classifier(change.get("bands", 2), change.get("size", 6))
    before = set(tmp_path.iterdir())
    with pytest.raises(OutcropError, match=message):
        map_scene(
            model, scene, tmp_path / change.get("output", "map.tif"), step=change.get("step", 1)
        )
    assert set(tmp_path.iterdir()) == before


class Stops:
    """Classifies some windows, then raises KeyboardInterrupt."""

    def __init__(self, windows):
        self.left, self.classify, self.seen = windows, Job.classify, []

    def __call__(self, job, window, pixels):
        if not self.left:
            raise KeyboardInterrupt
        self.left -= 1
        self.seen.append(window)
        return self.classify(job, window, pixels)


def interrupted(tmp_path, scene, monkeypatch, windows, **options):
    monkeypatch.setitem(predictor._TILE, "dense", 16)
    monkeypatch.setattr(engine, "threads_for", lambda _: 1)
    stops = Stops(windows)
    with monkeypatch.context() as patch:
        patch.setattr(Job, "classify", lambda *args: stops(*args))
        with pytest.raises(KeyboardInterrupt):
            map_scene(dense(), scene, tmp_path / "map.tif", window=16, **options)
    return stops


def test_a_map_interrupted_before_its_first_window_leaves_no_file(tmp_path, scene, monkeypatch):
    before = set(tmp_path.iterdir())
    interrupted(tmp_path, scene, monkeypatch, 0)
    assert set(tmp_path.iterdir()) == before


def test_an_interrupted_map_resumes_at_the_next_window(tmp_path, scene, monkeypatch, capsys):
    map_scene(dense(), scene, tmp_path / "whole.tif", window=16)
    first = interrupted(tmp_path, scene, monkeypatch, 4)
    assert not (tmp_path / "map.tif").exists()
    assert "4 finished windows are kept; continue with `resume=True`" in capsys.readouterr().err
    second = Stops(99)
    monkeypatch.setattr(Job, "classify", lambda *args: second(*args))
    map_scene(dense(), scene, tmp_path / "map.tif", window=16, resume=True)
    assert not set(first.seen) & set(second.seen)
    assert len(first.seen) + len(second.seen) == 12
    assert {path.name for path in tmp_path.iterdir()} == {
        "scene.tif",
        *("map.tif", "map.tif.aux.xml", "map.qml"),
        *("whole.tif", "whole.tif.aux.xml", "whole.qml"),
    }
    monkeypatch.undo()
    monkeypatch.setitem(predictor._TILE, "dense", 16)
    map_scene(dense(), scene, tmp_path / "again.tif")
    assert (tmp_path / "again.tif").read_bytes() == (tmp_path / "map.tif").read_bytes()


def test_the_old_name_of_tta_warns_and_old_parts_of_a_map_are_resumed(tmp_path, scene, monkeypatch):
    map_scene(dense(), scene, tmp_path / "new.tif", tta=True)
    with pytest.warns(FutureWarning, match="the argument turns is now tta"):
        map_scene(dense(), scene, tmp_path / "old.tif", turns=True)
    assert (tmp_path / "old.tif").read_bytes() == (tmp_path / "new.tif").read_bytes()
    interrupted(tmp_path, scene, monkeypatch, 4)
    (plan,) = tmp_path.glob(".map.tif.windows/plan.json")
    plan.write_text(plan.read_text().replace('"tta"', '"turns"'))
    map_scene(dense(), scene, tmp_path / "map.tif", window=16, resume=True)


def test_a_map_with_other_settings_is_not_resumed(tmp_path, scene, monkeypatch):
    interrupted(tmp_path, scene, monkeypatch, 4)
    for change, what in (
        ({"tta": True}, "tta"),
        ({"entropy": tmp_path / "h.tif"}, "layers"),
        ({"window": 32}, "windows"),
    ):
        refused = pytest.raises(OutcropError, match=f"started with another {what}; use the old")
        with refused:
            map_scene(
                dense(), scene, tmp_path / "map.tif", **{"window": 16, "resume": True, **change}
            )
    with pytest.raises(OutcropError, match="started with another models"):
        map_scene(dense(seed=5), scene, tmp_path / "map.tif", window=16, resume=True)
    map_scene(dense(seed=5), scene, tmp_path / "map.tif", window=16)
    assert not list(tmp_path.glob(".*"))


def test_a_cluster_writes_the_same_bytes(tmp_path, scene, monkeypatch, forked_workers):
    monkeypatch.setitem(predictor._TILE, "dense", 16)
    map_scene(dense(), scene, tmp_path / "here.tif", tmp_path / "here-sure.tif", window=16)
    map_scene(
        dense(), scene, tmp_path / "there.tif", tmp_path / "there-sure.tif", window=32,
        scheduler="local[2]",
    )  # fmt: skip
    for layer in ("", "-sure"):
        here, there = (tmp_path / f"{name}{layer}.tif" for name in ("here", "there"))
        assert here.read_bytes() == there.read_bytes()
    with ThreadPoolExecutor(2) as pool:
        map_scene(dense(), scene, tmp_path / "pool.tif", window=16, scheduler=pool)
    assert (tmp_path / "pool.tif").read_bytes() == (tmp_path / "here.tif").read_bytes()


def test_a_damaged_scene_raises_an_error_on_a_cluster(tmp_path, forked_workers):
    pixels = np.random.default_rng(0).integers(1, 255, (2, 600, 600)).astype("uint8")
    path = write_raster(
        tmp_path / "scene.tif", pixels, tiled=True, compress="deflate", blockxsize=256,
        blockysize=256,
    )  # fmt: skip
    opened, content = open_scene(path), path.read_bytes()
    path.write_bytes(content[: len(content) // 2] + bytes(len(content) - len(content) // 2))
    with pytest.raises(OutcropError, match=r"scene\.tif: cannot be read at rows .*; the file is"):
        map_scene(dense(), opened, tmp_path / "map.tif", scheduler="local[1]")
    assert not (tmp_path / "map.tif").exists()


def test_a_few_windows_are_read_in_advance(tmp_path, scene, monkeypatch):
    """Reading and computing overlap, and memory stays bounded."""
    monkeypatch.setitem(predictor._TILE, "dense", 8)
    monkeypatch.setattr(engine, "threads_for", lambda _: 1)
    read, done, lead = [], [], []
    reads, classifies = Job.read, Job.classify

    def reading(job, reader, window):
        read.append(window)
        return reads(job, reader, window)

    def classifying(job, window, pixels):
        time.sleep(0.01)
        done.append(window)
        lead.append(len(read) - len(done))
        return classifies(job, window, pixels)

    monkeypatch.setattr(Job, "read", reading)
    monkeypatch.setattr(Job, "classify", classifying)
    map_scene(dense(), scene, tmp_path / "map.tif")
    assert read == done
    assert len(done) == 35
    assert 1 <= max(lead) <= 8


def test_the_map_is_completed_after_a_worker_was_killed(
    tmp_path, scene, monkeypatch, forked_workers
):
    from distributed import LocalCluster

    monkeypatch.setitem(predictor._TILE, "dense", 16)
    map_scene(dense(), scene, tmp_path / "here.tif", window=16)
    with LocalCluster(
        n_workers=1, threads_per_worker=1, dashboard_address=None, silence_logs=50
    ) as cluster:
        write, killed = Partial.write, []

        def kill_once(store, window, layers):
            write(store, window, layers)
            if not killed:
                killed.append(window)
                os.kill(cluster.workers[0].pid, signal.SIGKILL)

        monkeypatch.setattr(Partial, "write", kill_once)
        map_scene(
            dense(), scene, tmp_path / "there.tif", window=16, scheduler=cluster.scheduler_address
        )
    assert len(killed) == 1
    assert (tmp_path / "here.tif").read_bytes() == (tmp_path / "there.tif").read_bytes()


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
