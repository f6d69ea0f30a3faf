"""`outcrop generative draw` with tiny networks."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import outcrop as oc
from outcrop.errors import OutcropError
from outcrop.generative.drawing import generate
from outcrop.generative.grids import to_rgb
from outcrop.generative.run import read_vaegan_run
from outcrop.generative.settings import VaeGan, VaeGanRecipe
from outcrop.generative.training import train_vaegan
from outcrop.models.architectures import ResidualNet
from outcrop.patches.patchset import PatchSet
from outcrop.splits.split import Split
from outcrop.training.engine import train
from outcrop.training.recipe import Machine, Recipe
from tests.command_line import check_refused, largest_file, run, start

CPU = Machine(device="cpu")
CLASSES = ("water", "rice field", "built-up")
ENLARGED = 3


def some_patches(size=32, seed=0):
    """Three classes that differ in brightness and stripes, with values far above 255."""
    rng = np.random.default_rng(seed)
    labels = np.arange(96) % 3
    images = rng.normal(1000, 60, (96, 3, size, size)) + 400 * labels[:, None, None, None]
    images[labels == 1, :, ::4] += 300
    return PatchSet(images.astype(np.uint16), labels, CLASSES, ("blue", "green", "red"))


def sides(patches, held_out, train=None):
    found = np.full(len(patches), 3, dtype=np.int8)
    found[slice(None) if train is None else train] = 0
    found[held_out] = 1
    groups = np.arange(len(patches)) // 2
    return Split(found, groups, patches.fingerprint, {"splitter": "by hand"}, spatial=False)


PATCHES = some_patches()
SPLIT = sides(PATCHES, np.arange(0, 96, 4))
HELD_OUT = set(SPLIT.validation.tolist())


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder with a VAE-GAN, a GAN, judges, and their patches."""
    place = tmp_path_factory.mktemp("generate")
    PATCHES.save(place / "p.zarr")
    some_patches(seed=1).subset(np.arange(90)).save(place / "other.zarr")
    # Enough steps that images differ between codes by more than rounding.
    recipe = VaeGanRecipe(epochs=6, batch=12, learning_rate=2e-3, machine=CPU)
    for parts in ("vaegan", "gan"):
        network = VaeGan(parts, latent=4, filters=4)
        train_vaegan(PATCHES, SPLIT, place / parts, network, recipe)
    network, recipe = ResidualNet(depth=8, width=4), Recipe(epochs=2, batch=24, machine=CPU)
    train(PATCHES, SPLIT, place / "judge", network, recipe)
    train(PATCHES, sides(PATCHES, [1, 2, 3]), place / "knowing", network, recipe)
    small = some_patches(16)
    train(small, sides(small, [1, 2, 3]), place / "small", network, recipe)
    return place


@pytest.fixture(scope="module")
def drawn(place):
    """The folder of a command with all parts."""
    folder = place / "drawn"
    command = f"generative draw {place}/vaegan {place}/p.zarr -o {folder} --number 20 --per-class 7"
    assert run(f"{command} --judge {place}/judge --between 3,17 --device cpu") == 0
    return folder


@pytest.fixture
def vaegan(place):
    return read_vaegan_run(place / "vaegan", "cpu")


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def with_split(run, split, folder):
    """The run with another split."""
    shutil.copytree(run.folder, folder)
    (folder / "split.json").unlink()
    split.save(folder / "split.json")
    return read_vaegan_run(folder, "cpu")


def picture_in(sheet, picture):
    """Whether a sheet contains an enlarged picture, pixel by pixel."""
    wanted = picture.repeat(ENLARGED, axis=0).repeat(ENLARGED, axis=1)
    height, width, _ = wanted.shape
    corners = np.argwhere((sheet[: 1 - height, : 1 - width] == wanted[0, 0]).all(axis=2))
    return any(
        np.array_equal(sheet[row : row + height, column : column + width], wanted)
        for row, column in corners
    )


def test_the_folder_has_all_parts(drawn):
    names = ("attributes", "interpolation", "nearest", "reconstructions", "samples")
    files = {"arrays.npz", "classes.npz", "measures.json", *(f"{name}.png" for name in names)}
    assert set(contents(drawn)) == files


def test_sheets_show_the_arrays(drawn, vaegan):
    arrays = np.load(drawn / "arrays.npz")
    for sheet, names in (
        ("samples", ["samples"]),
        ("reconstructions", ["originals", "reconstructions"]),
        ("interpolation", ["interpolation"]),
        ("attributes", ["attributes"]),
    ):
        pixels = np.asarray(Image.open(drawn / f"{sheet}.png").convert("RGB"))
        for name in names:
            images = arrays[name].reshape(-1, 3, 32, 32)
            assert images.dtype == np.uint16
            seen = to_rgb(vaegan.model.normalised(images), vaegan.model.bands)
            assert all(picture_in(pixels, picture) for picture in seen), name
            assert not picture_in(pixels, 255 - seen[0])


def test_the_nearest_samples_are_shown_with_their_nearest_training_images(drawn, vaegan):
    arrays = np.load(drawn / "arrays.npz")
    pixels = np.asarray(Image.open(drawn / "nearest.png").convert("RGB"))
    order = np.argsort(arrays["nearest_distances"][:, 0])
    for sample in order[:12]:
        images = [arrays["samples"][sample], *PATCHES.images[arrays["nearest"][sample]]]
        seen = to_rgb(vaegan.model.normalised(np.stack(images)), vaegan.model.bands)
        assert all(picture_in(pixels, picture) for picture in seen)


def test_nearest_training_images_are_those_in_features_of_the_judge(drawn, place):
    arrays = np.load(drawn / "arrays.npz")
    judge = oc.read_run(place / "judge", "cpu").classifier
    of_samples, of_train, of_held_out = (
        judge.probabilities_and_features(images)[1]
        for images in (
            arrays["samples"],
            PATCHES.images[SPLIT.train],
            PATCHES.images[SPLIT.validation],
        )
    )
    apart = np.linalg.norm(of_samples[:, None] - of_train, axis=2)
    assert not set(arrays["nearest"].ravel()) & HELD_OUT
    np.testing.assert_allclose(arrays["nearest_distances"], np.sort(apart)[:, :3], rtol=1e-4)
    usual = np.linalg.norm(of_held_out[:, None] - of_train, axis=2).min(axis=1)
    np.testing.assert_allclose(arrays["held_out_distances"], usual, rtol=1e-4)


def test_the_arrays_are_consistent(drawn, vaegan):
    arrays, model = np.load(drawn / "arrays.npz"), vaegan.model
    assert len(np.unique(arrays["samples"], axis=0)) == 20
    np.testing.assert_array_equal(arrays["samples"], model.decode(arrays["sample_codes"]))
    again = model.reconstruct(PATCHES.images)
    np.testing.assert_array_equal(arrays["reconstructions"], again[arrays["reconstructed"]])
    np.testing.assert_array_equal(arrays["originals"], PATCHES.images[arrays["reconstructed"]])
    assert set(arrays["reconstructed"]) <= HELD_OUT
    np.testing.assert_array_equal(arrays["between"], [3, 17])
    np.testing.assert_array_equal(arrays["interpolation"][[0, -1]], again[[3, 17]])
    np.testing.assert_array_equal(arrays["attribute_targets"], [0, 1, 2])
    sources = arrays["attribute_sources"]
    assert set(sources) <= HELD_OUT
    assert (PATCHES.labels[sources] != arrays["attribute_targets"]).all()
    np.testing.assert_array_equal(arrays["attributes"][:, 0], again[sources])


def test_class_means_are_those_of_the_training_side(drawn, vaegan):
    found = np.load(drawn / "arrays.npz")["class_codes"]
    train = SPLIT.train
    for k in range(3):
        images = PATCHES.images[train[PATCHES.labels[train] == k]]
        wanted = vaegan.model.encode(images)[0].mean(axis=0)
        np.testing.assert_allclose(found[k], wanted, rtol=1e-4, atol=1e-5)


def test_samples_of_classes_can_be_read_as_a_collection(drawn, vaegan):
    found = oc.open_patches(str(drawn / "classes.npz"))
    assert found.classes == CLASSES
    assert found.bands == PATCHES.bands
    assert found.images.shape == (21, 3, 32, 32)
    assert found.images.dtype == np.uint16
    np.testing.assert_array_equal(found.counts, [7, 7, 7])
    images, labels = oc.class_samples(vaegan.model, PATCHES, SPLIT.train, 7, seed=0)
    np.testing.assert_array_equal(found.images, images)
    np.testing.assert_array_equal(found.labels, labels)


def test_measures_have_reference_values(drawn, place):
    measures = json.loads((drawn / "measures.json").read_text())["measures"]
    wanted = f"features of ResNet-8 trained by outcrop ({place}/judge); not the FID"
    assert measures["features"] == wanted
    assert measures["sampled"]["pictures"] == measures["reconstructed"]["pictures"] == 24
    assert measures["sampled"]["halves"]["pictures"] == 12
    assert set(measures["reconstructed"]["band_errors"]) == {"blue", "green", "red"}
    assert measures["memorised"]["expected_side"] == 72 / 96
    rows = {row["name"]: row for row in measures["retrieval"]["rows"]}
    assert tuple(rows) == CLASSES
    assert all(row["generated"]["pictures"] == row["untouched"]["pictures"] == 16
               for row in rows.values())  # fmt: skip
    assert all(row["real"]["pictures"] == 8 for row in rows.values())


def test_measures_are_those_of_the_arrays(drawn, vaegan):
    model = vaegan.model
    real = PATCHES.images[SPLIT.validation]
    again = model.reconstruct(real)
    found = json.loads((drawn / "measures.json").read_text())["measures"]["reconstructed"]
    blue = np.sqrt(np.mean((real[:, 0].astype(float) - again[:, 0]) ** 2))
    np.testing.assert_allclose(found["band_errors"]["blue"], blue)
    error = oc.relative_error(model.normalised(real), model.normalised(again)).value
    np.testing.assert_allclose(found["pixel_error"]["value"], error)


def test_printed_measures_name_their_features_and_references(place, tmp_path, capfd):
    command = f"generative draw {place}/vaegan {place}/p.zarr -o {tmp_path}/d --judge {place}/judge"
    assert run(command) == 0
    out, err = capfd.readouterr()
    assert "trained by outcrop" in out
    assert "not the FID" in out
    for piece in ("real images", "no copies", "50 % the mean image", "rice field"):
        assert piece in out
    assert f"{tmp_path}/d/nearest.png" in out
    assert err == ""


def test_the_output_depends_on_the_seed_alone(vaegan, place, tmp_path):
    judge = oc.read_run(place / "judge", "cpu")
    for name, seed in (("one", 5), ("two", 5), ("three", 6)):
        generate(vaegan, tmp_path / name, PATCHES, 12, seed, judge, per_class=2)
    one, two, three = (contents(tmp_path / name) for name in ("one", "two", "three"))
    assert one == two
    alike = {name for name in one if one[name] == three[name]}
    # All held-out images are shown, whatever the seed.
    assert alike == {"reconstructions.png"}


def test_a_larger_number_adds_samples(vaegan, tmp_path):
    few, many = (generate(vaegan, tmp_path / str(n), number=n).arrays["samples"] for n in (3, 9))
    np.testing.assert_array_equal(few, many[:3])


def test_without_patches_there_are_samples_and_an_interpolation(vaegan, tmp_path):
    found = generate(vaegan, tmp_path / "d", number=1)
    assert {path.name for path in found.files} == {
        "arrays.npz", "interpolation.png", "measures.json", "samples.png"
    }  # fmt: skip
    assert found.measures is None
    assert len(found.notes) == 1
    np.testing.assert_array_equal(found.arrays["interpolation"][0], found.arrays["samples"][0])


def test_without_a_judge_distances_are_in_pixels(vaegan, tmp_path):
    found = generate(vaegan, tmp_path / "d", PATCHES, number=5)
    assert found.measures.features == ""
    assert found.measures.sampled is found.measures.retrieval is None
    assert found.measures.reconstructed.feature_error is None
    see = vaegan.model.normalised
    apart = see(found.arrays["samples"])[:, None] - see(PATCHES.images[SPLIT.train])
    usual = np.sqrt((apart**2).sum(axis=(2, 3, 4))).min(axis=1)
    np.testing.assert_allclose(found.arrays["nearest_distances"][:, 0], usual, rtol=1e-4)


def test_one_attribute_is_added_to_an_image_of_every_other_class(vaegan, tmp_path):
    found = generate(vaegan, tmp_path / "d", PATCHES, attribute="rice field").arrays
    np.testing.assert_array_equal(found["attribute_targets"], [1, 1])
    np.testing.assert_array_equal(PATCHES.labels[found["attribute_sources"]], [0, 2])


def test_a_gan_has_no_parts_that_need_an_encoder(place, tmp_path):
    gan = read_vaegan_run(place / "gan", "cpu")
    found = generate(gan, tmp_path / "d", PATCHES, judge=oc.read_run(place / "judge", "cpu"))
    assert {path.name for path in found.files} == {
        "arrays.npz", "interpolation.png", "measures.json", "nearest.png", "samples.png"
    }  # fmt: skip
    assert found.measures.sampled is not None
    assert found.measures.reconstructed is found.measures.retrieval is None
    assert [note for note in found.notes if "no encoder" in note]


def test_without_a_validation_side_there_are_still_nearest_images(vaegan, tmp_path):
    run = with_split(vaegan, sides(PATCHES, []), tmp_path / "run")
    found = generate(run, tmp_path / "d", PATCHES, per_class=1, between=(0, 1))
    names = {path.name for path in found.files}
    assert {"nearest.png", "classes.npz", "interpolation.png"} <= names
    assert not names & {"reconstructions.png", "attributes.png"}
    assert found.measures is None
    assert [note for note in found.notes if "no validation side" in note]
    assert [note for note in found.notes if "not both held out" in note]


def test_few_held_out_images_are_shown_but_not_measured(vaegan, tmp_path):
    run = with_split(vaegan, sides(PATCHES, [4, 5]), tmp_path / "run")
    found = generate(run, tmp_path / "d", PATCHES)
    assert len(found.arrays["reconstructions"]) == 2
    assert found.measures is None
    assert [note for note in found.notes if "no measures of 2" in note]


def test_a_single_class_has_samples_but_no_attributes(vaegan, tmp_path):
    water = np.flatnonzero(PATCHES.labels == 0)
    run = with_split(vaegan, sides(PATCHES, np.arange(1, 30, 3), water), tmp_path / "run")
    found = generate(run, tmp_path / "d", PATCHES, per_class=3)
    assert "attributes" not in found.arrays
    assert [note for note in found.notes if "single class" in note]
    drawn = np.load(tmp_path / "d" / "classes.npz")
    np.testing.assert_array_equal(drawn["labels"], [0, 0, 0])


@pytest.mark.parametrize(
    ("judge", "piece"),
    [("knowing", "trained on 24 of 24 held-out images"), ("judge", None)],
)
def test_a_judge_trained_on_held_out_images_has_a_caution(vaegan, place, tmp_path, judge, piece):
    found = generate(vaegan, tmp_path / "d", PATCHES, judge=oc.read_run(place / judge, "cpu"))
    cautions = [note for note in found.notes if "the judge" in note]
    assert len(cautions) == (piece is not None)
    assert piece is None or piece in cautions[0]
    assert json.loads((tmp_path / "d" / "measures.json").read_text())["notes"] == [*found.notes]


def test_a_judge_of_unknown_training_has_a_caution(vaegan, place, tmp_path):
    classifier = oc.read_run(place / "judge", "cpu").classifier
    found = generate(vaegan, tmp_path / "d", PATCHES, judge=classifier)
    assert [note for note in found.notes if "is unknown" in note]
    assert found.measures.features == "features of ResNet-8 trained by outcrop; not the FID"


def test_a_judge_of_other_classes_measures_without_recognition(vaegan, place, tmp_path):
    judge = replace(oc.read_run(place / "judge", "cpu").classifier, classes=("x", "y", "z"))
    found = generate(vaegan, tmp_path / "d", PATCHES, judge=judge)
    assert found.measures.sampled is not None
    assert found.measures.retrieval is None
    assert [note for note in found.notes if "lacks some classes" in note]


def test_the_order_of_the_judges_classes_does_not_matter(vaegan, place, tmp_path):
    judge = oc.read_run(place / "judge", "cpu").classifier
    # The same network with permuted rows of its last layer.
    linear = judge.module.linear
    order = [2, 0, 1]
    one = generate(vaegan, tmp_path / "one", PATCHES, judge=judge).measures.retrieval
    linear.weight.data, linear.bias.data = linear.weight.data[order], linear.bias.data[order]
    permuted = replace(judge, classes=tuple(CLASSES[k] for k in order))
    other = generate(vaegan, tmp_path / "two", PATCHES, judge=permuted).measures.retrieval
    rows = {row.name: row for row in other.rows}
    for row in one.rows:
        assert row.generated.share.value == rows[row.name].generated.share.value
        assert row.real.cosine == pytest.approx(rows[row.name].real.cosine, rel=1e-5)


@pytest.mark.parametrize(
    ("command", "pieces"),
    [
        ("judge p.zarr", ["judge", "a classifier", "a VAE-GAN is wanted"]),
        ("nothing p.zarr", ["no such run"]),
        ("vaegan nothing.zarr", ["nothing.zarr"]),
        ("vaegan other.zarr", ["patches", "take the same set"]),
        ("vaegan p.zarr --judge gan", ["a VAE-GAN", "a classifier is wanted"]),
        ("vaegan p.zarr --judge small", ["--judge", "16 × 16", "32 × 32"]),
        ("vaegan p.zarr --number 0", ["--number", "take 1 or more"]),
        ("vaegan p.zarr --seed -1", ["--seed", "take 0 or more"]),
        ("vaegan p.zarr --per-class -2", ["--per-class", "take 0 or more"]),
        ("vaegan p.zarr --between 3", ["--between", "two different"]),
        ("vaegan p.zarr --between 3,3", ["--between", "two different"]),
        ("vaegan p.zarr --between 3,96", ["--between", "no patch 96", "0 to 95"]),
        ("vaegan p.zarr --between a,b", ["between", "whole numbers"]),
        ("vaegan p.zarr --attribute smiling", ["--attribute", "smiling", "rice field"]),
        ("gan p.zarr --attribute water", ["--attribute", "encoder"]),
        ("gan p.zarr --between 3,4", ["--between", "encoder"]),
        ("gan p.zarr --per-class 4", ["--per-class", "encoder"]),
        ("vaegan --judge judge", ["--judge", "needs patches"]),
        ("vaegan --between 1,2", ["--between", "needs patches"]),
        ("vaegan --attribute water", ["--attribute", "needs patches"]),
        ("vaegan --per-class 2", ["--per-class", "needs patches"]),
        ("vaegan p.zarr --device cuda:7", ["cuda"]),
    ],
)
def test_a_wrong_input_gives_one_line(place, monkeypatch, capfd, command, pieces):
    check_refused(place, monkeypatch, capfd, f"generative draw {command} -o new", *pieces)


def test_an_existing_folder_raises_an_error(place, monkeypatch, capfd):
    check_refused(
        place, monkeypatch, capfd, "generative draw vaegan -o gan", "gan", "exists already"
    )


def test_a_full_disk_leaves_no_files(place, tmp_path):
    ended = start(
        f"generative draw {place}/vaegan -o {tmp_path}/d", preexec_fn=largest_file(20_000)
    )
    assert ended.returncode == 2
    assert (
        ended.stderr
        == f"outcrop: {tmp_path}/d: the disk is full; free some space or write elsewhere\n"
    )
    assert list(tmp_path.iterdir()) == []


def test_an_attribute_without_training_patches_raises_an_error(vaegan, tmp_path):
    dry = np.flatnonzero(PATCHES.labels > 0)
    run = with_split(vaegan, sides(PATCHES, [0, 3, 6], dry), tmp_path / "run")
    with pytest.raises(OutcropError, match="'water' is not one of"):
        generate(run, tmp_path / "d", PATCHES, attribute="water")
    assert not (tmp_path / "d").exists()
