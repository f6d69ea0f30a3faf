"""Errors of the generative commands, and of other commands with a generative run."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from outcrop.errors import OutcropError
from outcrop.files import write_json
from outcrop.generative.run import read_vaegan, read_vaegan_run
from outcrop.generative.training import train_vaegan
from outcrop.training.classifier import read_classifier
from outcrop.training.run import Run
from tests.command_line import check_refused, run
from tests.tiny import PATCHES, SPLIT
from tests.tiny_generative import IMAGE_SPLIT, IMAGES, TINY_NETWORK, TINY_RECIPE

LEARN = (
    "generative train {} --filters 4 --latent 4 --epochs 1 --batch 10 --device cpu -o x "
).format
PATCH_SET = LEARN("pictures.zarr --split pictures.json")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, run: Run) -> Path:
    """Patches, collections, a classifier run and a generative run."""
    folder = tmp_path_factory.mktemp("bad")
    IMAGES.save(folder / "pictures.zarr")
    IMAGE_SPLIT.save(folder / "pictures.json")
    PATCHES.save(folder / "patches.zarr")
    SPLIT.save(folder / "split.json")
    shutil.copytree(run.folder, folder / "classifier")
    train_vaegan(IMAGES, IMAGE_SPLIT, folder / "vaegan", TINY_NETWORK, TINY_RECIPE)
    images, labels = IMAGES.images[:, 0], IMAGES.labels
    delivered = {"labels": labels, "sides": np.arange(len(labels)) % 4 // 3}
    np.savez(folder / "flat.npz", images=images, **delivered)
    np.savez(folder / "odd.npz", images=images[:, :30], **delivered)
    np.savez(folder / "vectors.npz", images=images[:, 0], **delivered)
    np.savez(folder / "constant.npz", images=np.full_like(images, 7), **delivered)
    one_class = delivered | {"labels": 0 * labels}
    np.savez(folder / "one-class.npz", images=images, **one_class)
    return folder


REFUSED: dict[str, tuple[str, ...]] = {
    # images
    "odd size": (LEARN("odd.npz"), "30 × 32 pixels", "squares of 32, 64 or 128"),
    "small patches": (LEARN("patches.zarr --split split.json"), "8 × 8 pixels", "--size"),
    "vectors": (LEARN("vectors.npz"), "vectors.npz: has images of the shape (48, 32)"),
    "constant images": (LEARN("constant.npz"), "patches: each has a single value"),
    # numbers and words
    "no code": (PATCH_SET + "--latent 0", "--latent: is 0; take 1 or more"),
    "unknown networks": (PATCH_SET + "--model flow", "--model: there is no 'flow'", "vae-dis"),
    "spectral norms without a GAN": (PATCH_SET + "--model vae --spectral", "--spectral"),
    "a pipeline": (PATCH_SET + "--strategy pipeline --devices 2", "--strategy", "takes ddp"),
    "recomputing": (PATCH_SET + "--recompute 1", "--recompute: does not work with a VAE-GAN"),
    "a classifier's depth": (PATCH_SET + "--depth 8", "there is no option 'depth'"),
    # a run of a classifier instead of a VAE-GAN
    "a metric of a classifier": (
        PATCH_SET + "--model vae-dis --similarity classifier", "classifier", "a VAE-GAN is wanted",
    ),
    "going on with a classifier": (
        PATCH_SET.replace("-o x", "-o classifier --resume"), "classifier", "a VAE-GAN is wanted",
    ),
    # a VAE-GAN instead of a classifier
    "a VAE-GAN as a judge": (
        PATCH_SET + "--judge vaegan", "vaegan: is a run of a VAE-GAN", "a classifier is wanted",
    ),
    "a judge of other patches": (
        PATCH_SET + "--judge classifier",
        "--judge: was trained on 2 bands (red, nir) of 8 × 8 pixels",
    ),
    "going on with a VAE-GAN": (
        "train pictures.zarr --split pictures.json --depth 8 -o vaegan --resume",
        "vaegan: is a run of a VAE-GAN", "a classifier is wanted",
    ),
    "evaluate": ("evaluate vaegan pictures.zarr", "vaegan: is a run of a VAE-GAN"),
    "map": ("map vaegan scene.tif -o map.tif", "vaegan: is a run of a VAE-GAN"),
    "map with dissimilarity": (
        "map vaegan scene.tif -o map.tif --dissimilarity t.tif", "vaegan: is a run of a"),
    "export": ("export vaegan -o model.onnx", "vaegan: is a run of a VAE-GAN"),
    "compare": (
        "compare pictures.zarr --split pictures.json --runs vaegan,vaegan -o c",
        "vaegan: is a run of a VAE-GAN",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_a_wrong_input_gives_one_line_and_leaves_no_files(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    case: str,
) -> None:
    command, *pieces = REFUSED[case]
    check_refused(folder, monkeypatch, capfd, command, *pieces)


@pytest.mark.parametrize("name", ["flat", "one-class"])
def test_grey_images_and_a_single_class_are_learnt(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(LEARN(folder / f"{name}.npz")) == 0
    learnt = read_vaegan_run(tmp_path / "x", "cpu")
    assert learnt.model.sample(2).shape == (2, 1, 32, 32)


def damaged(folder: Path, target: Path, name: str, old: str, new: str) -> Path:
    shutil.copytree(folder / "vaegan", target)
    path = target / name
    text = path.read_text()
    assert old in text
    changed = text.replace(old, new, 1)
    if path.suffix == ".json":
        write_json(path, json.loads(changed))  # with a checksum that fits
    else:
        path.write_text(changed)
    return target


@pytest.mark.parametrize(
    ("name", "old", "new", "line"),
    [
        ("model.json", '"version": 1', '"version": 2', "is not a model of this outcrop"),
        ("model.json", '"latent": 4', '"latent": 0', "is not a model of this outcrop"),
        ("model.json", '"latent": 4', '"latent": 5', "holds the weights of another model"),
        ("model.json", '"size": 32', '"size": 33', "is not a model of this outcrop"),
        ("model.json", '"red"', '"red", "green"', "differ in number"),
        ("metrics.jsonl", '"epoch"', '"epic"', "is damaged"),
        ("metrics.jsonl", "{", "", "is damaged"),
        ("config.json", "outcrop picture run", "outcrop poem", "is not a run of outcrop"),
    ],
)
def test_a_damaged_run_raises_an_error(
    folder: Path, tmp_path: Path, name: str, old: str, new: str, line: str
) -> None:
    run = damaged(folder, tmp_path / "run", name, old, new)
    with pytest.raises(OutcropError, match=line):
        read_vaegan_run(run, "cpu")


def test_a_truncated_file_of_weights_raises_an_error(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "vaegan", tmp_path / "run")
    weights = tmp_path / "run" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-50])
    with pytest.raises(OutcropError, match="is not the weights of this model"):
        read_vaegan_run(tmp_path / "run", "cpu")
    weights.unlink()
    with pytest.raises(OutcropError, match="no such weights"):
        read_vaegan_run(tmp_path / "run", "cpu")


def test_a_model_of_the_other_kind_raises_an_error(folder: Path) -> None:
    with pytest.raises(OutcropError, match="is a run of a VAE-GAN, and a classifier is wanted"):
        read_classifier(folder / "vaegan", "cpu")
    with pytest.raises(OutcropError, match="is a run of a classifier, and a VAE-GAN is wanted"):
        read_vaegan(folder / "classifier", "cpu")
    with pytest.raises(OutcropError, match=r"no such run; make one with `outcrop\.train_vaegan"):
        read_vaegan_run(folder / "nowhere")
