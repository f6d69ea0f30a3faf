"""Images and recipes that a VAE-GAN takes, and those that raise an error."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from outcrop.errors import OutcropError
from outcrop.generative.run import VaeGanRun
from outcrop.generative.settings import VaeGanRecipe
from outcrop.generative.training import learn_scale
from outcrop.splits import RandomSplit
from outcrop.training.recipe import Machine
from tests.tiny import read_events, some_split
from tests.tiny_generative import (
    CPU,
    IMAGE_SPLIT,
    IMAGES,
    SIZE,
    TINY_NETWORK,
    TINY_RECIPE,
    assert_same_weights,
    learn,
    some_images,
    weights_of,
    with_images,
)

# Images of all kinds


@pytest.mark.parametrize("dtype", ["int16", "uint16", "float32"])
def test_every_type_of_pixel_gives_the_same_weights(
    learnt: dict[str, VaeGanRun], tmp_path: Path, dtype: str
) -> None:
    patches = replace(IMAGES, images=IMAGES.images.astype(dtype))
    run = learn(tmp_path / "run", patches=patches)
    assert_same_weights(learnt["plain"], run)
    assert run.model.sample(3).dtype == dtype


@pytest.mark.parametrize("bands", [1, 3, 7])
def test_images_of_any_number_of_bands_are_learnt(tmp_path: Path, bands: int) -> None:
    patches = some_images(bands=bands)
    recipe = replace(TINY_RECIPE, epochs=1)
    run = learn(tmp_path / "run", recipe=recipe, patches=patches, split=some_split(patches))
    assert run.model.sample(2).shape == (2, bands, SIZE, SIZE)


def test_gaps_count_as_the_middle_of_the_range(tmp_path: Path) -> None:
    def with_gaps(images: np.ndarray) -> np.ndarray:
        images[::3, :, :9] = np.nan
        images[7, 1] = np.inf
        return images

    run = learn(tmp_path / "run", patches=with_images(with_gaps))
    assert all(tensor.isfinite().all() for tensor in weights_of(run).values())
    assert np.isfinite(run.model.reconstruct(with_images(with_gaps).images)).all()
    # The range is that of the valid pixels.
    assert run.model.scale == learn_scale(with_images(with_gaps), IMAGE_SPLIT.train)
    middle = np.asarray(run.model.scale.mean, np.float32)
    filled = np.where(
        np.isfinite(with_images(with_gaps).images),
        with_images(with_gaps).images,
        middle[:, None, None],
    )
    found, expected = (run.model.encode(x) for x in (with_images(with_gaps).images, filled))
    np.testing.assert_allclose(found[0], expected[0], atol=1e-5)


def test_patches_of_a_single_class_are_learnt(tmp_path: Path) -> None:
    patches = replace(IMAGES, labels=np.zeros(len(IMAGES), np.int64), classes=("sea",))
    split = RandomSplit().assign(patches)
    run = learn(tmp_path / "run", patches=patches, split=split)
    assert run.metrics[-1].pixel_error is not None
    split.save(tmp_path / "split.json")
    with pytest.raises(OutcropError, match="leaves fewer than two classes to train on"):
        split.check(patches)


def test_without_held_out_images_samples_are_compared_with_training_images(tmp_path: Path) -> None:
    sides = np.zeros(len(IMAGES), np.int8)
    run = learn(tmp_path / "run", split=replace(IMAGE_SPLIT, sides=sides))
    assert run.metrics[-1].pixel_error is None
    assert run.metrics[-1].repeats is not None
    assert set(read_events(run.folder).Tags()["images"]) == {"samples"}


def test_the_range_of_a_band_excludes_its_tails_and_held_out_images() -> None:
    images = np.random.default_rng(0).uniform(-5, 15, (48, 1, SIZE, SIZE)).astype(np.float32)
    images[1, 0, 0, :5] = 1e6
    images[IMAGE_SPLIT.validation] = 1e3
    patches = replace(IMAGES, images=images, bands=("grey",))
    scale = learn_scale(patches, IMAGE_SPLIT.train)
    assert scale.mean[0] == pytest.approx(5, abs=0.05)
    assert scale.std[0] == pytest.approx(10, abs=0.05)


# Bad input


def constant(images: np.ndarray) -> np.ndarray:
    images[:] = 10 * (1 + np.arange(len(images)))[:, None, None, None]
    return images


NARROW = replace(IMAGES, images=IMAGES.images[..., :30])

REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "odd size": (
        {"patches": NARROW, "split": some_split(NARROW)},
        "patches: are of 32 × 30 pixels; generative networks take squares",
    ),
    "constant images": (
        {"patches": with_images(constant)},
        "patches: each has a single value; there is nothing to learn",
    ),
    "an empty band": (
        {"patches": with_images(lambda x: np.stack([x[:, 0], x[:, 1] * np.nan], axis=1))},
        "band 'nir': has no valid pixel on the training side",
    ),
    "another split": (
        {"split": some_split(some_images(number=45))},
        "`split`: was made for another patch set",
    ),
    "no training side": (
        {"split": replace(IMAGE_SPLIT, sides=np.ones(48, np.int8))},
        "`split`: leaves no training patches",
    ),
    "parts of one image": (
        {"recipe": replace(TINY_RECIPE, machine=replace(CPU, accumulate=9))},
        "batch: 9 patches in 9 parts are too few for batch normalisation",
    ),
    "a metric that is missing": (
        {"network": replace(TINY_NETWORK, parts="vae-dis")},
        "`similarity`: is missing; a VAE with a learned metric needs a run with",
    ),
    "several processes": (
        {"recipe": replace(TINY_RECIPE, machine=replace(CPU, devices=2))},
        "`devices`: 2 are wanted, this is one process",
    ),
    "patches without positions": (
        {
            "recipe": replace(
                TINY_RECIPE,
                augmentation=replace(TINY_RECIPE.augmentation, neighbourhood=4),
            )
        },
        "`neighbourhood`: needs patches with positions",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_training_that_cannot_start_leaves_no_files(tmp_path: Path, case: str) -> None:
    settings, line = REFUSED[case]
    with pytest.raises(OutcropError) as caught:
        learn(tmp_path / "run", **settings)
    assert str(caught.value).startswith(line)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_a_similarity_run_of_another_kind_raises_an_error(
    learnt: dict[str, VaeGanRun], tmp_path: Path
) -> None:
    gan = learnt["plain"]
    network = replace(TINY_NETWORK, parts="vae-dis")
    for wrong in (replace(network, filters=8), replace(network, spectral=True)):
        with pytest.raises(OutcropError, match="take a run with the same `filters` and `spectral`"):
            learn(tmp_path / "run", wrong, similarity=gan)
    with pytest.raises(OutcropError, match="`similarity`: is not used by a VAE-GAN"):
        learn(tmp_path / "run", similarity=gan)
    others = some_images(number=45)
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
        ({"machine": Machine(strategy="pipeline")}, "`strategy`: is pipeline; a VAE-GAN takes"),
        ({"machine": Machine(recompute=1)}, "`recompute`: does not work with a VAE-GAN"),
    ],
    ids=str,
)
def test_a_recipe_out_of_range_raises_an_error(wrong: dict[str, Any], line: str) -> None:
    with pytest.raises(OutcropError, match=line):
        VaeGanRecipe(**wrong)


@pytest.mark.parametrize("kind", ["vaegan", "vae"])
@pytest.mark.parametrize("batch", [10, 36])  # in the last step of an epoch there is no next loss
def test_divergence_names_the_remedy(tmp_path: Path, kind: str, batch: int) -> None:
    recipe = replace(TINY_RECIPE, learning_rate=1e30, batch=batch, epochs=1)
    network = replace(TINY_NETWORK, parts=kind)
    with pytest.raises(OutcropError, match=r"not finite") as caught:
        learn(tmp_path / "run", network, recipe)
    assert "learning" in str(caught.value)
    assert not (tmp_path / "run" / "model.json").exists()
