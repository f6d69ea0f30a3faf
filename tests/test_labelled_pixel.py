"""The label belongs to one pixel, and every transformation leaves it where it is."""

from dataclasses import replace
from unittest.mock import patch

import numpy as np
import pytest
import rasterio
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import outcrop.mapping.predictor
from outcrop.mapping.predictor import Predictor
from outcrop.mapping.scene import map_scene
from outcrop.mapping.volume import map_volume
from outcrop.models.architectures import ResidualNet
from outcrop.models.factory import build
from outcrop.patches.cut import cut
from outcrop.patches.cut_volume import cut_volume
from outcrop.patches.flips import FLIPS, flip
from outcrop.patches.patchset import Column, PatchSet
from outcrop.splits import RandomSplit
from outcrop.training.augment import Moves, draw, move, settled
from outcrop.training.classifier import Classifier, views
from outcrop.training.cutter import Shifts, open_cutter
from outcrop.training.engine import train
from outcrop.training.normalise import Normalisation
from outcrop.training.recipe import Augmentation, Machine, Recipe
from tests.rasters import write_raster

SIZES = st.tuples(st.integers(1, 12), st.integers(1, 12))


def only_the_labelled_pixel(n: int, height: int, width: int) -> torch.Tensor:
    """Images that are 0 but for their labelled pixel."""
    images = torch.zeros(n, 1, height, width)
    images[:, :, height // 2, width // 2] = 1
    return images


@settings(max_examples=80, deadline=None)
@given(size=SIZES, seed=st.integers(0, 999), rotate=st.booleans(), upright=st.booleans())
def test_no_mirror_or_turn_moves_the_labelled_pixel(size, seed, rotate, upright):
    augmentation = Augmentation(label_of="pixel", flip=True, rotate=rotate)
    lying = np.arange(16) % 2 == 0 if upright else None
    moves = draw(augmentation, 16, size, np.random.default_rng(seed), lying)
    images = only_the_labelled_pixel(16, *size)
    moved, inside = move(images, moves)
    assert torch.equal(moved, images)
    assert inside.all()


@settings(max_examples=40, deadline=None)
@given(size=SIZES)
def test_no_view_of_a_classifier_moves_the_labelled_pixel(size):
    images = only_the_labelled_pixel(3, *size)
    for view in views(images, flip=True, label_of="pixel"):
        assert torch.equal(view, images)


@settings(max_examples=30, deadline=None)
@given(size=st.tuples(st.integers(3, 9), st.integers(3, 9)), seed=st.integers(0, 99))
def test_a_view_is_what_training_makes_of_a_patch_that_it_mirrors(size, seed):
    images = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(seed))
    zero = torch.zeros(2, dtype=torch.int64)
    for label_of in ("pixel", "image"):
        mirrored, _ = move(images, Moves(zero == 0, zero, zero, zero, label_of))
        assert torch.equal(views(images, True, label_of)[1], mirrored)


def test_labels_of_whole_images_are_mirrored_about_the_middle_and_shifted():
    images = torch.arange(8.0).view(1, 1, 1, 8)
    assert views(images, True, "image")[1].flatten().tolist() == [7, 6, 5, 4, 3, 2, 1, 0]
    patches = PatchSet(np.zeros((2, 1, 33, 33)), np.arange(2), ("a", "b"), ("red",))
    for label_of, furthest in (("image", 4), ("pixel", 0)):
        augmentation = settled(Augmentation(label_of=label_of), patches)
        moves = draw(augmentation, 500, (33, 33), np.random.default_rng(0))
        assert moves.down.abs().max() == moves.right.abs().max() == furthest


def test_a_shift_that_is_asked_for_has_no_direction():
    augmentation = Augmentation(label_of="pixel", crop=2, rotate=True)
    moves = draw(augmentation, 20_000, (8, 8), np.random.default_rng(0))
    moved, _ = move(only_the_labelled_pixel(20_000, 8, 8), moves)
    at = moved.mean(dim=(0, 1))
    assert at[4 - 2 : 4 + 3, 4 - 2 : 4 + 3].sum() == pytest.approx(1, abs=1e-4)
    for axis in (0, 1):
        middle = (at.sum(dim=1 - axis) * torch.arange(8)).sum().item()
        assert middle == pytest.approx(4, abs=0.05)


@settings(max_examples=12, deadline=None)
@given(
    size=st.integers(5, 10),
    padded=st.booleans(),
    label_of=st.sampled_from(["pixel", "image"]),
    seed=st.integers(0, 99),
)
@pytest.mark.parametrize("method", ["dense", "patches"])
def test_what_is_averaged_over_turns_turns_with_the_scene(method, size, padded, label_of, seed):
    size += 0 if padded else 20
    torch.manual_seed(seed)
    network = ResidualNet(depth=8, width=4, padding="zeros" if padded else "none")
    module, even = build(network, 1, 2).eval(), Normalisation((0.0,), (1.0,))
    one = Classifier(
        network, module, even,
        classes=("a", "b"), bands=("x",), size=(size, size), label_of=label_of,
    )  # fmt: skip
    predictor = Predictor((one,), method, tuple(FLIPS))
    above, left, below, right = predictor.margins
    assert (above, left) == (below, right)
    wanted = np.ones((4, 4), bool)
    pixels = np.random.default_rng(seed).normal(size=(1, *2 * (4 + 2 * above,)))
    pixels = pixels.astype("float32")
    with patch.object(outcrop.mapping.predictor, "_BATCH", 16):
        plain = predictor.predict(pixels, wanted, False).probabilities
        for turn in ("left-right", "turn 90", "transpose"):
            turned = predictor.predict(flip(pixels, turn), wanted, False)
            np.testing.assert_allclose(turned.probabilities, flip(plain, turn), atol=1e-5)


@pytest.mark.parametrize("size", [4, 5])
def test_a_patch_that_is_cut_anew_without_a_shift_is_itself_however_it_lies(tmp_path, size):
    pixels = np.random.default_rng(0).integers(1, 9_999, (2, 30, 40)).astype("uint16")
    scene = write_raster(tmp_path / "scene.tif", pixels)
    labels = write_raster(tmp_path / "labels.tif", 1 + (pixels[0] % 2).astype("uint8"))
    patches = cut(scene, labels, size=size, stride=3, edge="drop")
    names = tuple(FLIPS)
    column = Column(np.arange(len(patches)) % len(names), names)
    images = [flip(patches.images[k], names[column.codes[k]]) for k in range(len(patches))]
    patches = replace(patches, images=np.stack(images), columns={"flip": column})
    split = RandomSplit().assign(patches)
    with open_cutter(patches, split, Augmentation(neighbourhood=1)) as cutter:
        number = len(split.train)
        still = Shifts(np.zeros((number, 3), int), np.ones(number, bool))
        again = cutter.cut(np.arange(number), still)
    assert np.array_equal(again, patches.images[split.train])


# Maps

FIELD = 8
SHAPE = 80, 96
# No divisor of a field's side: with 2, no label would lie beside an edge on one of its sides.
STRIDE = 3
FAST = Recipe(epochs=6, machine=Machine(device="cpu"))


def checker(seed: int = 1) -> np.ndarray:
    """Square fields of two classes, 1 and 2."""
    height, width = SHAPE
    fields = np.random.default_rng(seed).random((height // FIELD, width // FIELD)) > 0.5
    return np.kron(fields, np.ones((FIELD, FIELD), int)) + 1


def displacement(truth: np.ndarray, said: np.ndarray) -> float:
    """By how many pixels edges lie further right in a map than they do in truth, in the mean."""
    found = []
    for row in (row for row in range(FIELD, len(truth) - FIELD) if row % FIELD in (2, 3, 4, 5)):
        steps, its = np.diff(truth[row]), np.diff(said[row])
        for edge in np.flatnonzero(steps)[1:-1]:
            near = its[edge - 3 : edge + 4]
            (at,) = np.nonzero(near == steps[edge])
            if len(at) == 1:
                found.append(at[0] - 3)
    assert len(found) > 30
    return float(np.mean(found))


def assert_exact(truth: np.ndarray, said: np.ndarray) -> None:
    assert (truth == said).mean() >= 0.98
    assert abs(displacement(truth, said)) <= 0.1
    assert abs(displacement(truth.T, said.T)) <= 0.1


@pytest.mark.parametrize(
    ("size", "padding", "augmentation"),
    [
        (8, "zeros", Augmentation()),
        (8, "zeros", Augmentation(flip=False, rotate=False)),
        (8, "zeros", Augmentation(rotate=False)),
        (9, "zeros", Augmentation()),
        (25, "none", Augmentation()),
        (26, "none", Augmentation()),
    ],
)
def test_a_map_has_its_edges_where_the_scene_has_them(tmp_path, size, padding, augmentation):
    truth = checker()
    noise = np.random.default_rng(0).normal(100, 3, (2, *SHAPE))
    scene = write_raster(tmp_path / "scene.tif", (noise + 50 * truth).astype("uint16"))
    labels = write_raster(tmp_path / "labels.tif", truth.astype("uint8"))
    patches = cut(scene, labels, size=size, stride=STRIDE)
    run = train(
        patches,
        RandomSplit().assign(patches),
        tmp_path / "run",
        ResidualNet(depth=8, width=4, padding=padding),
        replace(FAST, augmentation=augmentation),
        graph=False,
    )
    for tta in (False, True):
        output = tmp_path / f"map{tta}.tif"
        map_scene(run, scene, output, tta=tta)
        with rasterio.open(output) as opened:
            assert_exact(truth, opened.read(1))


@pytest.mark.parametrize("size", [8, 9])
def test_a_map_of_a_volume_has_its_edges_where_the_volume_has_them(tmp_path, size):
    truth = np.stack([checker()] * 3)
    noise = np.random.default_rng(0).normal(100, 3, truth.shape)
    np.save(tmp_path / "cube.npy", (noise + 50 * truth).astype("float32"))
    np.save(tmp_path / "classes.npy", truth.astype("uint8"))
    cube = tmp_path / "cube.npy"
    patches = cut_volume(cube, tmp_path / "classes.npy", 0, size, stride=STRIDE, slice_stride=3)
    run = train(
        patches,
        RandomSplit().assign(patches),
        tmp_path / "run",
        ResidualNet(depth=8, width=4),
        FAST,
        graph=False,
    )
    for tta in (False, True):
        map_volume(run, cube, 0, tmp_path / f"{tta}.npy", tta=tta)
        assert_exact(truth[1], np.load(tmp_path / f"{tta}.npy")[1])


def test_a_model_of_whole_images_says_that_its_map_lies_between_pixels(tmp_path, capfd):
    torch.manual_seed(0)
    network = ResidualNet(depth=8, width=4)
    scene = write_raster(tmp_path / "scene.tif", np.ones((1, 20, 30), "uint8"))

    def said(size: int, label_of: str, tta: bool) -> str:
        one = Classifier(
            network,
            build(network, 1, 2).eval(),
            Normalisation((0.0,), (1.0,)),
            classes=("a", "b"),
            bands=("x",),
            size=(size, size),
            label_of=label_of,
        )
        map_scene(one, scene, tmp_path / "map.tif", tta=tta, overwrite=True)
        return capfd.readouterr().err

    assert "half a pixel" in said(8, "image", tta=False)
    assert "half a pixel" not in said(8, "image", tta=True)
    assert "half a pixel" not in said(9, "image", tta=False)
    assert "half a pixel" not in said(8, "pixel", tta=False)
