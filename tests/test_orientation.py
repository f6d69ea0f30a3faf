"""A model is used like it was trained: axis, orientation, range of values."""

from __future__ import annotations

import re
from dataclasses import asdict, replace

import numpy as np
import pytest

from outcrop.errors import OutcropError
from outcrop.mapping.volume import map_volume
from outcrop.models.baselines import BASELINES
from outcrop.patches.flips import flip
from outcrop.patches.patchset import Column, PatchSet
from outcrop.patches.positions import Source
from outcrop.sources.volumes import open_volume
from outcrop.splits import RandomSplit
from outcrop.training.fit import fit_classical
from outcrop.training.origin import origin_of
from outcrop.training.run import Run
from outcrop.typed import typed
from outcrop.workflow.evaluate import evaluate
from tests.command_line import run
from tests.cubes import write_segy
from tests.synthetic import cut_volume, smooth
from tests.test_cf import write_netcdf4

SHAPE, N = (24, 40, 48), 600
FOREST = next(b for b in BASELINES if b.name == "decision tree" and b.features == "centre pixel")


def layered(seed: int = 0) -> np.ndarray:
    """Two neighbouring rocks that differ in amplitude."""
    samples = smooth((2, 2, 2), seed, SHAPE)
    samples[:, SHAPE[1] // 2 :] += 4
    return (1000 * (samples - 2)).astype(np.float32)


def patches_of(samples: np.ndarray, axis: int = 0) -> PatchSet:
    rng = np.random.default_rng(1)
    shape = [length for k, length in enumerate(samples.shape) if k != axis]
    index = rng.integers(samples.shape[axis], size=N)
    row, column = (rng.integers(4, length - 4, N) for length in shape)
    labels = np.moveaxis(samples, axis, 0)[index, row, column] > 0
    return cut_volume(samples, axis, index, row, column, labels.astype(int))


def turned(patches: PatchSet, name: str, share: float = 1.0) -> PatchSet:
    codes = (np.arange(len(patches)) < share * len(patches)).astype(int)
    images = np.stack(
        [
            flip(image, name) if code else image
            for image, code in zip(patches.images, codes, strict=True)
        ]
    )
    return replace(patches, images=images, columns={"flip": Column(codes, ("none", name))})


@pytest.fixture
def fitted(tmp_path):
    def fit(patches: PatchSet) -> Run:
        np.save(tmp_path / "cube.npy", layered())
        return fit_classical(patches, RandomSplit().assign(patches), tmp_path / "run", FOREST)

    return fit


def test_axis_and_flips_of_the_training_patches_are_stored(fitted):
    model = fitted(turned(patches_of(layered(), 1), "transpose")).model
    assert model.trained_on.axes == (1,)
    assert model.trained_on.flips == ("transpose",)
    assert typed(type(model.trained_on), asdict(model.trained_on)) == model.trained_on
    assert origin_of(patches_of(layered(), 2), np.arange(N)).flips == ("none",)
    unknown = replace(patches_of(layered()), positions=None, sources=())
    assert (origin_of(unknown, np.arange(N)).axes, origin_of(unknown, np.arange(N)).flips) == (
        (),
        (),
    )


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_slices_across_another_axis_are_refused_with_the_right_axis(fitted, tmp_path, axis, capfd):
    model = fitted(patches_of(layered(), axis))
    for other in {0, 1, 2} - {axis}:
        with pytest.raises(OutcropError, match=f"across axis {axis}; pass `axis={axis}`"):
            map_volume(model, tmp_path / "cube.npy", other, tmp_path / "map.npy")
    map_volume(model, tmp_path / "cube.npy", None, tmp_path / "map.npy")
    said = capfd.readouterr().err
    note = f"note: slices are across axis {axis}, like those of the training\n"
    assert re.findall("note: .*\n", said) == [note]
    right = (layered() > 0) + 1 == np.load(tmp_path / "map.npy")
    assert right.mean() > 0.99


def test_a_model_of_flipped_patches_cannot_map(fitted, tmp_path):
    model = fitted(turned(patches_of(layered()), "transpose"))
    with pytest.raises(OutcropError, match=r"flipped relative to their source \(transpose\)"):
        map_volume(model, tmp_path / "cube.npy", 0, tmp_path / "map.npy")
    assert not (tmp_path / "map.npy").exists()


def test_a_model_of_flipped_and_upright_patches_can_map(fitted, tmp_path):
    model = fitted(turned(patches_of(layered()), "transpose", share=0.5))
    map_volume(model, tmp_path / "cube.npy", 0, tmp_path / "map.npy")


def test_an_evaluation_notes_another_orientation(fitted, capfd):
    model = fitted(patches_of(layered(), 0))
    evaluate(model, patches_of(layered(), 0))
    assert "note" not in capfd.readouterr().err
    evaluate(model, turned(patches_of(layered(), 2), "up-down"))
    said = capfd.readouterr().err
    assert "patches are slices across axis 2, but the model was trained on 0" in said
    assert "flipped relative to their source by up-down, but the model was trained on none" in said


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda samples: samples, None),
        (lambda samples: samples * 1.1, None),
        (lambda samples: samples / 10, "are scale and offset those of the training data"),
        (lambda samples: samples * 2, "% of the values of amplitude lie outside the"),
        (lambda samples: samples + 9000, "lie outside the"),
    ],
    ids=["same", "a little louder", "quieter", "louder", "shifted"],
)
def test_another_range_of_values_gives_a_note(fitted, tmp_path, capfd, change, words):
    model = fitted(patches_of(layered()))
    np.save(tmp_path / "other.npy", change(layered(1)).astype(np.float32))
    map_volume(model, tmp_path / "other.npy", 0, tmp_path / "map.npy")
    said = capfd.readouterr().err
    assert ("note:" in said) == (words is not None)
    assert words is None or words in said


def test_many_pixels_outside_the_area_of_applicability_give_a_note(fitted, tmp_path, capfd):
    model = fitted(patches_of(layered()))
    strange = layered()
    strange[:, :, :30] += 20_000
    np.save(tmp_path / "other.npy", strange)
    map_volume(model, tmp_path / "other.npy", 0, tmp_path / "map.npy")
    assert "of the pixels are outside the model's area" in capfd.readouterr().err
    assert run(f"map {tmp_path}/run {tmp_path}/other.npy -o {tmp_path}/b.npy") == 0
    assert "of the pixels are outside the model's area" in capfd.readouterr().err


INLINES, CROSSLINES = range(100, 124), range(300, 340)


@pytest.fixture
def named(tmp_path):
    """A model of slices across the inlines of a SEG-Y file."""
    write_segy(tmp_path / "a.sgy", layered(), inlines=INLINES, crosslines=CROSSLINES)
    volume = open_volume(tmp_path / "a.sgy")
    patches = patches_of(layered(), 0)
    patches = replace(patches, sources=(Source.of(volume),))
    return fit_classical(patches, RandomSplit().assign(patches), tmp_path / "run", FOREST)


def test_names_of_axes_take_precedence(named, tmp_path, capfd):
    assert named.model.trained_on.planes == (("inline", "crossline", "sample"),)
    lines = {"twt": 2.0 * np.arange(48), "xline": np.array(CROSSLINES), "iline": np.array(INLINES)}
    swapped, upended = layered().transpose(1, 0, 2), layered().transpose(2, 1, 0)
    write_netcdf4(tmp_path / "b.nc", swapped, {}, ("xline", "iline", "twt"), lines)
    map_volume(named, tmp_path / "b.nc", None, tmp_path / "map.npy")
    assert "slices are across axis 1, like those of the training" in capfd.readouterr().err
    right = (swapped > 0) + 1 == np.load(tmp_path / "map.npy")
    assert right.mean() > 0.99
    with pytest.raises(OutcropError, match=r"slices across crossline .*; pass `axis=1`"):
        map_volume(named, tmp_path / "b.nc", 0, tmp_path / "c.npy")
    write_netcdf4(tmp_path / "c.nc", upended, {}, ("twt", "xline", "iline"), lines)
    for axis in range(3):
        with pytest.raises(OutcropError, match="in the order inline, crossline, sample"):
            map_volume(named, tmp_path / "c.nc", axis, tmp_path / "c.npy")
