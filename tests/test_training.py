import errno
import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.optim.swa_utils import AveragedModel

from outcrop.errors import OutcropError
from outcrop.metrics.calibration import tempered
from outcrop.models.architectures import ResidualNet
from outcrop.models.factory import build
from outcrop.patches.patchset import read_patches
from outcrop.training.classifier_loop import ScoreAccumulator
from outcrop.training.engine import train
from outcrop.training.log import open_log, score
from outcrop.training.normalise import learn_normalisation
from outcrop.training.recipe import Machine
from outcrop.training.run import Run, read_run
from tests.tiny import (
    CLASSES,
    DEVICE,
    NETWORK,
    PATCHES,
    RECIPE,
    SPLIT,
    assert_same,
    read_events,
    some_patches,
    some_split,
    weights,
)

BF16 = Machine(device=DEVICE, precision="bf16-mixed")


# Normalisation


def test_normalisation_is_that_of_the_valid_training_pixels(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("outcrop.training.normalise._CHUNK_PIXELS", 700)
    images = some_patches("float32").images
    images[:12, 1] = np.nan
    images[13, 0, 2:5] = np.nan
    images[14, 1, 0, 0] = np.inf
    patches = replace(PATCHES, images=images)
    found = learn_normalisation(patches, SPLIT.train)
    valid = np.where(np.isfinite(images), images, np.nan)[SPLIT.train].astype(np.float64)
    np.testing.assert_allclose(found.mean, np.nanmean(valid, axis=(0, 2, 3)), rtol=1e-6)
    np.testing.assert_allclose(found.std, np.nanstd(valid, axis=(0, 2, 3)), rtol=1e-6)

    normalised = found(torch.from_numpy(images[[13, 14]]))
    assert normalised.isfinite().all()
    assert (normalised[0, 0, 2:5] == 0).all()


def test_constant_band_has_std_1_and_an_empty_one_is_refused() -> None:
    images = some_patches("float32").images
    images[:, 1] = 7
    assert learn_normalisation(replace(PATCHES, images=images), SPLIT.train).std[1] == 1
    images[:, 1] = np.nan
    with pytest.raises(OutcropError, match="band 'nir': has no valid pixel"):
        learn_normalisation(replace(PATCHES, images=images), SPLIT.train)


def test_validation_images_have_no_influence_on_the_weights(run: Run, tmp_path: Path) -> None:
    images = PATCHES.images.copy()
    images[SPLIT.validation] = 255 - images[SPLIT.validation]
    images[SPLIT.test] = 0
    patches = replace(PATCHES, images=images)
    other = train(patches, some_split(patches), tmp_path / "run", NETWORK, RECIPE)
    assert other.classifier.normalisation == run.classifier.normalisation
    assert all(torch.equal(tensor, weights(other)[name]) for name, tensor in weights(run).items())


# Training


def test_a_run_learns_and_writes_all_files(run: Run) -> None:
    assert run.metrics[-1].train.loss < run.metrics[0].train.loss
    assert {path.name for path in run.folder.iterdir()} == {
        "config.json",
        "split.json",
        "checkpoint.safetensors",
        "checkpoint-before.safetensors",
        "metrics.jsonl",
        "events",
        "predictions.npz",
        "trust.safetensors",
        "model.safetensors",
        "model.json",
    }
    config = json.loads((run.folder / "config.json").read_text())
    assert config["network"] == asdict(NETWORK)
    assert config["recipe"]["augmentation"]["flip"] is True
    assert config["patches"]["fingerprint"] == PATCHES.fingerprint
    assert config["split"]["how"] == {"splitter": "by hand"}
    assert config["versions"]["torch"] == torch.__version__

    predictions = run.predictions
    np.testing.assert_array_equal(predictions.index, SPLIT.validation)
    np.testing.assert_array_equal(predictions.truth, PATCHES.labels[SPLIT.validation])
    again = run.classifier.predict_proba(PATCHES.take(SPLIT.validation), batch=5)
    np.testing.assert_allclose(run.calibrated.probabilities, again, atol=1e-6)
    found = predictions.probabilities.argmax(axis=1)
    assert run.metrics[-1].validation.accuracy == np.mean(found == predictions.truth)


def test_the_seed_decides(run: Run, tmp_path: Path) -> None:
    assert_same(run, train(PATCHES, SPLIT, tmp_path / "same", NETWORK, RECIPE))
    other = train(PATCHES, SPLIT, tmp_path / "other", NETWORK, replace(RECIPE, seed=1))
    assert not torch.equal(weights(run)["linear.weight"], weights(other)["linear.weight"])


def test_images_read_batch_by_batch_give_the_same_run(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("outcrop.patches.patchset.RESIDENT_BYTES", 0)
    PATCHES.save(tmp_path / "patches.zarr")
    lazy = read_patches(tmp_path / "patches.zarr")
    assert_same(run, train(lazy, SPLIT, tmp_path / "run", NETWORK, RECIPE))


@pytest.mark.parametrize("dtype", ["int16", "uint16", "float32"])
def test_every_dtype_gives_the_same_run(run: Run, tmp_path: Path, dtype: str) -> None:
    patches = replace(PATCHES, images=PATCHES.images.astype(dtype))
    assert_same(run, train(patches, some_split(patches), tmp_path / "run", NETWORK, RECIPE))


def test_gaps_and_half_precision_train(tmp_path: Path) -> None:
    images = PATCHES.images.astype(np.float32)
    images[::5, :, :3] = np.nan
    recipe = replace(RECIPE, epochs=1, machine=BF16, schedule="step")
    patches = replace(PATCHES, images=images)
    done = train(patches, some_split(patches), tmp_path / "run", NETWORK, recipe)
    assert np.isfinite(done.predictions.probabilities).all()
    assert {tensor.dtype for tensor in weights(done).values()} == {torch.float32, torch.int64}


def test_divergence_names_the_remedy(tmp_path: Path) -> None:
    recipe = replace(RECIPE, learning_rate=1e30, warm_up=0)
    with pytest.raises(OutcropError, match="take a learning rate below"):
        train(PATCHES, SPLIT, tmp_path / "run", NETWORK, recipe)


def test_a_training_that_cannot_start_writes_nothing(tmp_path: Path) -> None:
    images = np.full(PATCHES.images.shape, np.nan, dtype=np.float32)
    patches = replace(PATCHES, images=images)
    with pytest.raises(OutcropError, match="leave the band out"):
        train(patches, some_split(patches), tmp_path / "run", NETWORK, RECIPE)
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_explained_and_leaves_no_half_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, content: bytes) -> int:
        path.touch()
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(OutcropError, match="the disk is full"):
            train(PATCHES, SPLIT, tmp_path / "run", NETWORK, RECIPE)
    left = {path.name for path in (tmp_path / "run").iterdir()}
    assert left == {"config.json", "split.json", "metrics.jsonl", "events"}


def trained(folder: Path, **changes: object) -> Run:
    return train(PATCHES, SPLIT, folder, NETWORK, replace(RECIPE, **changes))


def test_a_batch_in_parts_has_the_gradients_of_the_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # With statistics that do not depend on the batch, parts and whole are the same function.
    monkeypatch.setattr(
        torch.nn.BatchNorm2d,
        "forward",
        lambda self, x: x * self.weight.view(1, -1, 1, 1) + self.bias.view(1, -1, 1, 1),
    )
    whole, parts = (
        trained(
            tmp_path / str(accumulate),
            machine=Machine(device=DEVICE, precision="32-true", accumulate=accumulate),
            learning_rate=0.001,
        )
        for accumulate in (1, 3)
    )
    for name, tensor in weights(whole).items():
        torch.testing.assert_close(tensor, weights(parts)[name], rtol=1e-3, atol=1e-6)


def test_recomputing_ends_with_the_same_weights(run: Run, tmp_path: Path) -> None:
    again = trained(tmp_path / "run", machine=Machine(device=DEVICE, recompute=1))
    assert all(torch.equal(tensor, weights(again)[name]) for name, tensor in weights(run).items())


def test_compiled_blocks_can_be_recomputed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Not compiled to machine code, but with the same kept and recomputed tensors.
    original = torch.compile
    monkeypatch.setattr(
        torch, "compile", lambda f, options, **rest: original(f, backend="aot_eager", **rest)
    )
    kept, again = (
        trained(
            tmp_path / str(recompute),
            epochs=1,
            machine=Machine(device=DEVICE, compile="always", recompute=recompute),
        )
        for recompute in (0, 1)
    )
    assert all(torch.equal(tensor, weights(again)[name]) for name, tensor in weights(kept).items())


def test_the_average_of_the_weights_is_evaluated_and_saved(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[dict[str, torch.Tensor]] = []
    original = AveragedModel.update_parameters

    def remember(average: AveragedModel, module: torch.nn.Module) -> None:
        steps.append({name: t.cpu().clone() for name, t in module.state_dict().items()})
        original(average, module)

    monkeypatch.setattr(AveragedModel, "update_parameters", remember)
    averaged = trained(tmp_path / "run", average=0.9)
    assert len(steps) == 15
    expected = steps[0]
    for step in steps[1:]:
        expected = {
            name: 0.9 * tensor + 0.1 * step[name]
            for name, tensor in expected.items()
            if tensor.is_floating_point()
        }
    for name, tensor in expected.items():
        torch.testing.assert_close(weights(averaged)[name], tensor, rtol=1e-4, atol=1e-5)
    kept = averaged.classifier.predict_proba(PATCHES.take(SPLIT.validation))
    np.testing.assert_allclose(averaged.calibrated.probabilities, kept, atol=1e-6)
    # The average has no effect on the trained weights.
    assert torch.equal(steps[-1]["linear.weight"], weights(run)["linear.weight"])


def test_evaluation_with_the_mirror_image(run: Run, tmp_path: Path) -> None:
    flipped = trained(tmp_path / "run", test_flip=True)
    images = PATCHES.take(SPLIT.validation)
    plain = replace(run.classifier, temperature=1.0)
    both = [plain.predict_proba(turned) for turned in (images, images[..., ::-1].copy())]
    np.testing.assert_allclose(flipped.predictions.probabilities, np.mean(both, 0), atol=1e-6)
    again = read_run(flipped.folder, DEVICE).classifier
    assert again.flip
    calibrated = tempered(np.mean(both, 0), again.temperature)
    np.testing.assert_allclose(again.predict_proba(images), calibrated, atol=1e-6)


def test_smoothed_labels_give_a_share_of_the_loss_to_every_class(tmp_path: Path) -> None:
    # The weights do not change and all images are in one batch: logits of the initial weights.
    def mean_losses(share: float, monkeypatch: pytest.MonkeyPatch) -> tuple[float, float]:
        seen: list[tuple[torch.Tensor, torch.Tensor]] = []
        original = ScoreAccumulator.add

        def remember(
            accumulator: ScoreAccumulator, loss: torch.Tensor, *rest: torch.Tensor
        ) -> None:
            seen.append((rest[0].detach().cpu(), rest[1].cpu()))
            original(accumulator, loss, *rest)

        monkeypatch.setattr(ScoreAccumulator, "add", remember)
        done = trained(
            tmp_path / str(share),
            epochs=1,
            learning_rate=1e-30,
            label_smoothing=share,
            machine=Machine(device=DEVICE, precision="32-true"),
        )
        logits = torch.cat([one for one, _ in seen]).log_softmax(1)
        labels = torch.cat([one for _, one in seen])
        right = -logits[torch.arange(len(labels)), labels].mean()
        expected = (1 - share) * right - share * logits.mean()
        return done.metrics[0].train.loss, expected.item()

    for share in (0.0, 0.3):
        with pytest.MonkeyPatch.context() as patch:
            found, expected = mean_losses(share, patch)
        assert found == pytest.approx(expected, rel=1e-5)


def test_compiling_needs_a_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(OutcropError, match="`compile`: needs a C"):
        trained(tmp_path / "run", machine=Machine(device=DEVICE, compile="always"))
    assert not list(tmp_path.iterdir())


def test_every_further_part_of_the_recipe_changes_the_weights(run: Run, tmp_path: Path) -> None:
    augmentation = replace(RECIPE.augmentation, noise=0.1)
    changes: dict[str, dict[str, object]] = {
        "nesterov": {"nesterov": True},
        "schedule": {"schedule": "one-cycle"},
        "smoothing": {"label_smoothing": 0.1},
        "noise": {"augmentation": augmentation},
        "cutout": {"augmentation": replace(RECIPE.augmentation, cutout=4)},
    }
    for name, change in changes.items():
        other = trained(tmp_path / name, **change)
        assert not torch.equal(weights(other)["linear.weight"], weights(run)["linear.weight"])


def test_stochastic_depth_follows_the_seed_and_reports_kept_blocks(tmp_path: Path) -> None:
    network = replace(NETWORK, depth=14, survival=0.4)
    one, same = (
        train(PATCHES, SPLIT, tmp_path / name, network, RECIPE) for name in ("one", "same")
    )
    assert_same(one, same)
    kept = [epoch.blocks_kept for epoch in one.metrics]
    assert all(0.3 < share < 1 for share in kept)
    assert len(set(kept)) > 1
    assert all(epoch.peak_memory > 1 << 26 for epoch in one.metrics)


# Metrics


def test_undefined_precision_and_recall_are_none() -> None:
    found = score(0.5, torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 1, 1]), CLASSES)
    assert found.accuracy == 0.75
    assert found.precision == pytest.approx(
        {"water": 1.0, "rice field": 2 / 3, "built-up": None}, abs=1e-6
    )
    assert found.recall == {"water": 0.5, "rice field": 1.0, "built-up": None}


def test_tensorboard_has_the_scalars_and_the_blocks_of_the_graph(run: Run) -> None:
    events = read_events(run.folder)
    tags = set(events.Tags()["scalars"])
    assert tags >= {"loss/train", "loss/validation", "accuracy/train", "accuracy/validation"}
    assert tags >= {"recall/rice field", "training/learning rate"}
    assert [drawn.step for drawn in events.Images("confusion/validation")] == [1, 2, 3]
    last = events.Scalars("loss/validation")[-1]
    assert (last.step, last.value) == (3, pytest.approx(run.metrics[-1].validation.loss))
    scopes = {node.name for node in events.Graph().node}
    for stage in range(3):
        assert any(
            f"ShortcutGroup[stage{stage + 1}]/ResidualBlock[block1]" in name for name in scopes
        )


def test_a_stochastic_block_of_the_graph_shows_its_two_paths(
    tmp_path: Path, pictures: None
) -> None:
    with open_log(tmp_path, 0) as log:
        network = build(ResidualNet(depth=8, width=4, survival=0.5), 2, 3).eval()
        log.graph(network, torch.zeros(1, 2, 8, 8))
        log.confusion(1, torch.tensor([0, 1, 2]), torch.tensor([0, 1, 1]), CLASSES)
    events = read_events(tmp_path)
    assert events.Tags()["images"] == ["confusion/validation"]
    nodes = {node.name: node for node in events.Graph().node}
    block = "ResidualNetwork/ShortcutGroup[stages]/ShortcutGroup[stage1]/ResidualBlock[block1]/"
    inside = {name: node for name, node in nodes.items() if name.startswith(block)}
    (total,) = (node for node in inside.values() if node.op in ("aten::add", "aten::add_"))
    (scaled,) = (node for node in inside.values() if node.op == "aten::mul")
    assert scaled.name in total.input
    assert any("Sequential[residual]" in name for name in scaled.input)
    assert any("[stem]" in name for name in total.input)
