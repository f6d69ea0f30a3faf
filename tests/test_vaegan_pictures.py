"""Which pictures and recipes a VAE-GAN takes, and which it refuses."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from outcrop.errors import OutcropError
from outcrop.generative.recipe import VaeGanRecipe
from outcrop.generative.run import VaeGanRun
from outcrop.generative.training.scale import learn_scale
from outcrop.splits import RandomSplit
from outcrop.training.recipe import Machine
from tests.tiny import read_events, some_split
from tests.tiny_pictures import (
    CPU,
    PICTURE_NETWORK,
    PICTURE_RECIPE,
    PICTURE_SPLIT,
    PICTURES,
    SIZE,
    assert_same_weights,
    learn,
    picture_weights,
    some_pictures,
    with_images,
)

# Pictures of all kinds


@pytest.mark.parametrize("dtype", ["int16", "uint16", "float32"])
def test_every_type_of_pixel_gives_the_same_weights(
    learnt: dict[str, VaeGanRun], tmp_path: Path, dtype: str
) -> None:
    patches = replace(PICTURES, images=PICTURES.images.astype(dtype))
    run = learn(tmp_path / "run", patches=patches)
    assert_same_weights(learnt["plain"], run)
    assert run.model.sample(3).dtype == dtype


@pytest.mark.parametrize("bands", [1, 3, 7])
def test_pictures_of_any_number_of_bands_are_learnt(tmp_path: Path, bands: int) -> None:
    patches = some_pictures(bands=bands)
    recipe = replace(PICTURE_RECIPE, epochs=1)
    run = learn(tmp_path / "run", recipe=recipe, patches=patches, split=some_split(patches))
    assert run.model.sample(2).shape == (2, bands, SIZE, SIZE)


def test_gaps_are_learnt_as_the_middle_of_the_range(tmp_path: Path) -> None:
    def with_gaps(images: np.ndarray) -> np.ndarray:
        images[::3, :, :9] = np.nan
        images[7, 1] = np.inf
        return images

    run = learn(tmp_path / "run", patches=with_images(with_gaps))
    assert all(tensor.isfinite().all() for tensor in picture_weights(run).values())
    assert np.isfinite(run.model.reconstruct(with_images(with_gaps).images)).all()
    # The range is that of the pixels that there are.
    assert run.model.scale == learn_scale(with_images(with_gaps), PICTURE_SPLIT.train)
    middle = np.asarray(run.model.scale.mean, np.float32)
    filled = np.where(
        np.isfinite(with_images(with_gaps).images),
        with_images(with_gaps).images,
        middle[:, None, None],
    )
    found, expected = (run.model.encode(x) for x in (with_images(with_gaps).images, filled))
    np.testing.assert_allclose(found[0], expected[0], atol=1e-5)


def test_patches_of_a_single_class_are_learnt(tmp_path: Path) -> None:
    patches = replace(PICTURES, labels=np.zeros(len(PICTURES), np.int64), classes=("sea",))
    split = RandomSplit().assign(patches)
    run = learn(tmp_path / "run", patches=patches, split=split)
    assert run.metrics[-1].pixel_error is not None
    split.save(tmp_path / "split.json")
    with pytest.raises(OutcropError, match="leaves fewer than two classes to train on"):
        split.check(patches)


def test_without_held_out_pictures_those_learnt_are_compared(tmp_path: Path) -> None:
    sides = np.zeros(len(PICTURES), np.int8)
    run = learn(tmp_path / "run", split=replace(PICTURE_SPLIT, sides=sides))
    assert run.metrics[-1].pixel_error is None
    assert run.metrics[-1].repeats is not None
    assert set(read_events(run.folder).Tags()["images"]) == {"samples"}


def test_the_range_of_a_band_leaves_out_its_tails_and_all_that_is_held_out() -> None:
    images = np.random.default_rng(0).uniform(-5, 15, (48, 1, SIZE, SIZE)).astype(np.float32)
    images[1, 0, 0, :5] = 1e6
    images[PICTURE_SPLIT.validation] = 1e3
    patches = replace(PICTURES, images=images, bands=("grey",))
    scale = learn_scale(patches, PICTURE_SPLIT.train)
    assert scale.mean[0] == pytest.approx(5, abs=0.05)
    assert scale.std[0] == pytest.approx(10, abs=0.05)


# Bad input


def constant(images: np.ndarray) -> np.ndarray:
    images[:] = 10 * (1 + np.arange(len(images)))[:, None, None, None]
    return images


NARROW = replace(PICTURES, images=PICTURES.images[..., :30])

REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "odd size": (
        {"patches": NARROW, "split": some_split(NARROW)},
        "patches: are of 32 × 30 pixels; networks that learn pictures take squares",
    ),
    "constant pictures": (
        {"patches": with_images(constant)},
        "patches: every one is of a single value; there is nothing to be learnt",
    ),
    "an empty band": (
        {"patches": with_images(lambda x: np.stack([x[:, 0], x[:, 1] * np.nan], axis=1))},
        "band 'nir': has no valid pixel on the training side",
    ),
    "another split": (
        {"split": some_split(some_pictures(number=45))},
        "split: was made for another patch set",
    ),
    "no training side": (
        {"split": replace(PICTURE_SPLIT, sides=np.ones(48, np.int8))},
        "split: leaves no training patches",
    ),
    "parts of one picture": (
        {"recipe": replace(PICTURE_RECIPE, machine=replace(CPU, accumulate=9))},
        "batch: 9 patches in 9 parts are too few to normalise by",
    ),
    "a metric that is missing": (
        {"network": replace(PICTURE_NETWORK, parts="vae-dis")},
        "--similarity: is missing: a VAE with a learned metric needs a run of",
    ),
    "several processes": (
        {"recipe": replace(PICTURE_RECIPE, machine=replace(CPU, devices=2))},
        "devices: 2 are wanted, this is one process",
    ),
    "places that are not known": (
        {
            "recipe": replace(
                PICTURE_RECIPE,
                augmentation=replace(PICTURE_RECIPE.augmentation, neighbourhood=4),
            )
        },
        "--neighbourhood: needs patches with positions",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_learnt_leaves_nothing(tmp_path: Path, case: str) -> None:
    settings, line = REFUSED[case]
    with pytest.raises(OutcropError) as caught:
        learn(tmp_path / "run", **settings)
    assert str(caught.value).startswith(line)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_a_metric_of_another_kind_is_refused(learnt: dict[str, VaeGanRun], tmp_path: Path) -> None:
    gan = learnt["plain"]
    network = replace(PICTURE_NETWORK, parts="vae-dis")
    for wrong in (replace(network, filters=8), replace(network, spectral=True)):
        with pytest.raises(OutcropError, match="take a run with the same --filters and --spectral"):
            learn(tmp_path / "run", wrong, similarity=gan)
    with pytest.raises(OutcropError, match="--similarity: has no meaning for a VAE-GAN"):
        learn(tmp_path / "run", similarity=gan)
    others = some_pictures(number=45)
    with pytest.raises(OutcropError, match=r"are not those that .* was trained on"):
        learn(
            tmp_path / "run",
            network,
            patches=others,
            split=some_split(others),
            similarity=gan,
        )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("wrong", "line"),
    [
        ({"epochs": 0}, "epochs is 0; take 1 or more"),
        ({"batch": 2}, "batch is 2; take 4 or more"),
        ({"learning_rate": 0.0}, r"learning_rate is 0\.0; take above 0"),
        ({"optimiser": "sgd"}, "optimiser is sgd; take rmsprop or adam"),
        ({"gamma": -1.0}, "gamma is -1.0; take 0 or more"),
        ({"decoder_loss": "hinge"}, "decoder_loss is hinge; take minimax or non-saturating"),
        ({"balance": 0.3}, "balance is 0.3; take 0 .off., or from 0.5 to 1"),
        ({"average": 1.0}, "average is 1.0; take 0 .off. to below 1"),
        ({"kl_warm_up": -1.0}, "kl_warm_up is -1.0; take 0"),
        ({"machine": Machine(strategy="pipeline")}, "--strategy: is pipeline; a VAE-GAN takes"),
        ({"machine": Machine(recompute=1)}, "--recompute: has no meaning for a VAE-GAN"),
    ],
    ids=str,
)
def test_a_recipe_out_of_range_is_refused(wrong: dict[str, Any], line: str) -> None:
    with pytest.raises(OutcropError, match=line):
        VaeGanRecipe(**wrong)


@pytest.mark.parametrize("kind", ["vaegan", "vae"])
@pytest.mark.parametrize("batch", [10, 36])  # in the last step of an epoch there is no next loss
def test_divergence_names_the_remedy(tmp_path: Path, kind: str, batch: int) -> None:
    recipe = replace(PICTURE_RECIPE, learning_rate=1e30, batch=batch, epochs=1)
    network = replace(PICTURE_NETWORK, parts=kind)
    with pytest.raises(OutcropError, match=r"no number|no longer a number") as caught:
        learn(tmp_path / "run", network, recipe)
    assert "learning" in str(caught.value)
    assert not (tmp_path / "run" / "model.json").exists()
