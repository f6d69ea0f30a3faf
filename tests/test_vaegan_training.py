"""A VAE-GAN from patches to a run: its files, and what its weights depend on."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.optim.swa_utils import AveragedModel

from outcrop.errors import OutcropError
from outcrop.generative.learner import VaeGanLearner
from outcrop.generative.reconstruction import relative_error
from outcrop.generative.run import VaeGanRun
from outcrop.generative.samples import frechet_distance
from outcrop.generative.settings import vaegan_recipe_of
from outcrop.generative.tables import vaegan_table
from outcrop.patches.patchset import read_patches
from outcrop.training.engine import train
from outcrop.training.run import Run
from tests.tiny import NETWORK, RECIPE, read_events
from tests.tiny_generative import (
    CPU,
    IMAGE_SPLIT,
    IMAGES,
    RICH_NETWORK,
    RICH_RECIPE,
    SIZE,
    STEPS,
    TINY_NETWORK,
    TINY_RECIPE,
    WAYS,
    assert_same_runs,
    assert_same_weights,
    differ,
    learn,
    some_images,
    vae_of,
    weights_of,
)

# Files of a run


def test_a_run_folder_has_all_files(learnt: dict[str, VaeGanRun]) -> None:
    run = learnt["rich"]
    assert {path.name for path in run.folder.iterdir()} == {
        "config.json",
        "split.json",
        "checkpoint.safetensors",
        "checkpoint-before.safetensors",
        "metrics.jsonl",
        "events",
        "model.safetensors",
        "model.json",
    }
    assert run.config["network"] == asdict(RICH_NETWORK)
    assert vaegan_recipe_of(run.config["recipe"]) == RICH_RECIPE
    np.testing.assert_array_equal(run.split.sides, IMAGE_SPLIT.sides)
    run.check_patches(IMAGES)
    with pytest.raises(OutcropError, match="are not those that"):
        run.check_patches(some_images(number=45))
    assert not any(module.training for module in run.model.networks.modules())


@pytest.mark.parametrize("way", WAYS)
def test_metrics_are_those_of_the_saved_model(learnt: dict[str, VaeGanRun], way: str) -> None:
    run = learnt[way]
    model, last = run.model, run.metrics[-1]
    assert [epoch.epoch for epoch in run.metrics] == [1, 2]
    images = IMAGES.take(IMAGE_SPLIT.validation)
    again = model.reconstruct(images)
    assert again.dtype == images.dtype
    error = relative_error(model.normalised(images), model.normalised(again), draws=1).value
    assert last.pixel_error == pytest.approx(error, rel=1e-5)
    features = relative_error(model.features(images), model.features(again), draws=1).value
    assert last.feature_error == pytest.approx(features, rel=1e-4)
    assert last.prior == pytest.approx(sum(last.divergence), rel=1e-6)
    assert len(last.divergence) == 4
    assert 0 <= last.right_of_sampled <= 1
    assert (last.frechet, last.precision, last.recall) == (None, None, None)
    expected = 1.0 if way == "plain" else 1.875 / 1.5
    assert last.prior_weight == min(1, expected)
    assert run.metrics[0].prior_weight == (1 if way == "plain" else 0.875 / 1.5)


def test_metrics_are_plain_json_and_tensorboard_shows_them(learnt: dict[str, VaeGanRun]) -> None:
    run = learnt["plain"]
    rows = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    assert [row["likeness"] for row in rows] == [epoch.likeness for epoch in run.metrics]
    assert isinstance(rows[0]["alarms"], list)
    events = read_events(run.folder)
    tags = events.Tags()
    assert set(tags["scalars"]) >= {
        "loss/prior",
        "loss/likeness",
        "loss/discriminator",
        "loss/decoder",
        "discriminator is right/of real",
        "discriminator is right/of reconstructed",
        "discriminator is right/of sampled",
        "pictures/pixel error",
        "pictures/feature error",
        "pictures/repeats",
        "code/dimensions awake",
        "training/alarms",
    }
    likeness = [(event.step, event.value) for event in events.Scalars("loss/likeness")]
    assert likeness == [(m.epoch, pytest.approx(m.likeness)) for m in run.metrics]
    for tag in ("samples", "reconstructions"):
        shown = events.Images(tag)
        assert [image.step for image in shown] == [1, 2]
        # Eight images in a row with gaps of two pixels; eight held out above reconstructions.
        rows_shown = 8 if tag == "samples" else 2
        assert shown[0].width == 8 * (SIZE + 2) - 2
        assert shown[0].height == rows_shown * (SIZE + 2) - 2
    assert "code/divergence by dimension" in tags["histograms"]


def test_a_judge_measures_samples_and_reconstructions(tmp_path: Path) -> None:
    judge = train(IMAGES, IMAGE_SPLIT, tmp_path / "judge", NETWORK, RECIPE)
    run = learn(tmp_path / "run", judge=judge)
    last, held_out = run.metrics[-1], IMAGES.take(IMAGE_SPLIT.validation)
    real, drawn, again = (
        judge.classifier.probabilities_and_features(images)[1]
        for images in (
            held_out,
            run.model.sample(1024, TINY_RECIPE.seed)[: len(held_out)],
            run.model.reconstruct(held_out),
        )
    )
    assert last.frechet == pytest.approx(frechet_distance(real, drawn), rel=1e-4)
    assert last.feature_error == pytest.approx(relative_error(real, again).value, rel=1e-4)
    assert run.judged
    assert not learn(tmp_path / "unjudged").judged
    assert_same_runs(run, learn(tmp_path / "run", judge=judge, resume=True))
    with pytest.raises(OutcropError, match=r"judge\.weights was \w{8}, is None; take the old"):
        learn(tmp_path / "run", resume=True)


def test_too_few_held_out_images_are_not_compared_with_samples(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    judge = train(IMAGES, IMAGE_SPLIT, tmp_path / "judge", NETWORK, RECIPE)
    sides = np.where(np.cumsum(IMAGE_SPLIT.sides == 1) > 3, 0, IMAGE_SPLIT.sides)
    run = learn(tmp_path / "run", split=replace(IMAGE_SPLIT, sides=sides), judge=judge)
    last = run.metrics[-1]
    assert (last.frechet, last.precision, last.recall) == (None, None, None)
    assert last.feature_error is not None
    vaegan_table(run)
    assert "samples:" not in capsys.readouterr().out


def test_a_judge_of_other_patches_raises_an_error(tmp_path: Path, run: Run) -> None:
    with pytest.raises(OutcropError, match=r"`judge`: was trained on 2 bands .* of 8 × 8 pixels"):
        learn(tmp_path / "run", judge=run)
    assert not list(tmp_path.iterdir())


# Seeds


@pytest.mark.parametrize("way", WAYS)
def test_the_weights_depend_on_the_seed_alone(
    learnt: dict[str, VaeGanRun], tmp_path: Path, way: str
) -> None:
    network, recipe = WAYS[way]
    torch.manual_seed(123)  # has no effect
    assert_same_runs(learnt[way], learn(tmp_path / "same", network, recipe))
    other = replace(recipe, seed=recipe.seed + 1)
    assert differ(learnt[way], learn(tmp_path / "other", network, other))


def test_images_read_in_batches_give_the_same_run(
    learnt: dict[str, VaeGanRun], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("outcrop.patches.patchset.RESIDENT_BYTES", 0)
    IMAGES.save(tmp_path / "patches.zarr")
    lazy = read_patches(tmp_path / "patches.zarr")
    assert_same_runs(learnt["plain"], learn(tmp_path / "run", patches=lazy))


def test_held_out_images_do_not_influence_the_training(
    learnt: dict[str, VaeGanRun], tmp_path: Path
) -> None:
    images = IMAGES.images.copy()
    images[IMAGE_SPLIT.validation] = 255 - images[IMAGE_SPLIT.validation]
    images[IMAGE_SPLIT.test] = 0
    other = learn(tmp_path / "run", patches=replace(IMAGES, images=images))
    assert_same_weights(learnt["plain"], other)
    assert other.model.scale == learnt["plain"].model.scale


def test_the_average_of_the_decoder_is_evaluated_and_saved(
    learnt: dict[str, VaeGanRun], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[dict[str, torch.Tensor]] = []
    original = AveragedModel.update_parameters

    def remember(average: AveragedModel, module: torch.nn.Module) -> None:
        steps.append({name: t.detach().clone() for name, t in module.state_dict().items()})
        original(average, module)

    monkeypatch.setattr(AveragedModel, "update_parameters", remember)
    averaged = learn(tmp_path / "run", recipe=replace(TINY_RECIPE, average=0.3))
    assert len(steps) == 2 * STEPS
    expected = steps[0]
    for k, step in enumerate(steps[1:], start=1):
        kept = min(0.3, (1 + k) / (10 + k))
        expected = {
            name: kept * tensor + (1 - kept) * step[name]
            for name, tensor in expected.items()
            if tensor.is_floating_point()
        }
    found, plain = weights_of(averaged), weights_of(learnt["plain"])
    for name, tensor in expected.items():
        torch.testing.assert_close(found[f"decoder.{name}"], tensor, rtol=1e-4, atol=1e-5)
    # The average does not influence the training.
    assert all(torch.equal(found[name], plain[name]) for name in found if name[:7] != "decoder")


@pytest.mark.parametrize(
    "change",
    [
        {"gamma": 0.5},
        {"decoder_loss": "minimax"},
        {"optimiser": "adam"},
        {"kl_warm_up": 2.0},
        {"learning_rate": 2e-3},
        {"augmentation": replace(TINY_RECIPE.augmentation, flip=False)},
    ],
    ids=lambda change: next(iter(change)),
)
def test_every_part_of_the_recipe_changes_the_weights(
    learnt: dict[str, VaeGanRun], tmp_path: Path, change: dict[str, Any]
) -> None:
    recipe = replace(TINY_RECIPE, **change)
    assert differ(learnt["plain"], learn(tmp_path / "run", recipe=recipe))


# Other kinds of networks


def test_each_kind_trains_and_has_its_metrics(tmp_path: Path) -> None:
    vae = learn(tmp_path / "vae", replace(TINY_NETWORK, parts="vae"))
    assert vae.metrics[-1].decoder is vae.metrics[-1].right_of_real is None
    assert vae.metrics[-1].likeness < vae.metrics[0].likeness
    with pytest.raises(OutcropError, match="has no discriminator"):
        vae.model.features(IMAGES.images[:2])

    gan = learn(tmp_path / "gan", replace(TINY_NETWORK, parts="gan"))
    last = gan.metrics[-1]
    assert last.prior is last.likeness is last.awake is last.pixel_error is None
    assert last.right_of_reconstructed is None
    assert last.divergence == ()
    assert set(read_events(gan.folder).Tags()["images"]) == {"samples"}
    with pytest.raises(OutcropError, match="a GAN has no encoder; train one with `parts='vaegan'`"):
        gan.model.encode(IMAGES.images[:2])


@pytest.mark.parametrize("way", WAYS)
def test_a_learned_metric_does_not_change(
    learnt: dict[str, VaeGanRun], tmp_path: Path, way: str
) -> None:
    gan, run = learnt[way], vae_of(learnt[way], tmp_path / "run")
    theirs, ours = (model.model.networks.discriminator.state_dict() for model in (gan, run))
    assert theirs.keys() == ours.keys()
    assert all(torch.equal(tensor, ours[name]) for name, tensor in theirs.items())
    assert run.metrics[-1].likeness is not None
    assert run.metrics[-1].discriminator is run.metrics[-1].right_of_real is None


def test_the_printed_error_names_the_discriminator_of_the_given_run(
    learnt: dict[str, VaeGanRun], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    vaegan_table(vae_of(learnt["plain"], tmp_path / "run"))
    assert "in features of the discriminator of the given run (0 is" in capsys.readouterr().out


# Precision, compilers and memory


def test_half_precision_trains(learnt: dict[str, VaeGanRun], tmp_path: Path) -> None:
    for way, (network, recipe) in WAYS.items():
        half = replace(recipe, machine=replace(CPU, precision="bf16-mixed"))
        run = learn(tmp_path / way, network, half)
        assert {t.dtype for t in weights_of(run).values()} == {torch.float32, torch.int64}
        assert differ(learnt[way], run)
        found, expected = run.metrics[-1], learnt[way].metrics[-1]
        assert found.likeness == pytest.approx(expected.likeness, rel=0.2)
        assert found.discriminator == pytest.approx(expected.discriminator, rel=0.1)


def test_compiled_networks_learn_from_batches_of_several_sizes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Steps of 8 and 7 images: the backward pass of the second size is compiled before its use.

    The backend generates no code, but differentiates as often.
    """
    from torch._functorch import config

    monkeypatch.setattr("outcrop.training.device._can_compile", lambda device: True)
    compiler = torch.compile
    monkeypatch.setattr(torch, "compile", lambda net, **how: compiler(net, backend="aot_eager"))
    network = replace(TINY_NETWORK, parts="gan")
    recipe = replace(TINY_RECIPE, batch=8, epochs=1)
    plain = learn(tmp_path / "plain", network, recipe)
    compiled = learn(
        tmp_path / "compiled", network, replace(recipe, machine=replace(CPU, compile="always"))
    )
    assert config.donated_buffer
    assert compiled.metrics[-1].decoder == pytest.approx(plain.metrics[-1].decoder, rel=1e-2)


@pytest.mark.parametrize(
    ("batch", "line"),
    [
        (
            10,
            "at a batch of 10; take `batch=5`, or `accumulate=2`, or `precision='bf16-mixed'`, or ",
        ),
        (4, "at a batch of 4; take `precision='bf16-mixed'`, or fewer `filters`, in a new folder"),
    ],
)
def test_full_memory_names_remedies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch: int, line: str
) -> None:
    def full(*anything: object) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(VaeGanLearner, "step", full)
    with pytest.raises(OutcropError, match=line):
        learn(tmp_path / "run", recipe=replace(TINY_RECIPE, batch=batch))
