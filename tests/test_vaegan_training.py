"""A VAE-GAN from patches to a run: the same bits each time, whatever comes between."""

import json
import signal
import subprocess
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.optim.swa_utils import AveragedModel

from outcrop.errors import OutcropError, Stopped
from outcrop.evaluation.reconstruction import relative_error
from outcrop.models.vaegan import VaeGan
from outcrop.patches.patchset import PatchSet, read_patches
from outcrop.splits import RandomSplit
from outcrop.splits.split import Split
from outcrop.training import loop, pictures
from outcrop.training.batches import Part, Step
from outcrop.training.checkpoint import Checkpoint, read_checkpoint, save_checkpoint
from outcrop.training.parallel.team import assemble
from outcrop.training.recipe import Machine
from outcrop.training.run import Run
from outcrop.training.vaegan.engine import train_vaegan
from outcrop.training.vaegan.learner import VaeGanLearner
from outcrop.training.vaegan.recipe import VaeGanRecipe, vaegan_recipe_of
from outcrop.training.vaegan.run import VaeGanRun, read_vaegan_run
from outcrop.training.vaegan.scale import learn_scale
from tests.command_line import ALONE, argv, start
from tests.tiny import read_events, some_split
from tests.tiny_pictures import (
    CPU,
    PICTURE_NETWORK,
    PICTURE_RECIPE,
    PICTURE_SPLIT,
    PICTURES,
    SIZE,
    assert_same_pictures,
    picture_weights,
    some_pictures,
    with_images,
)

STEPS = 4  # in an epoch

# All that has a state of its own.
RICH_NETWORK = replace(PICTURE_NETWORK, spectral=True)
RICH_RECIPE = replace(
    PICTURE_RECIPE, optimiser="adam", average=0.9, balance=0.6, kl_warm_up=1.5, seed=4
)
WAYS = {"plain": (PICTURE_NETWORK, PICTURE_RECIPE), "rich": (RICH_NETWORK, RICH_RECIPE)}


def learn(
    folder: Path,
    network: VaeGan = PICTURE_NETWORK,
    recipe: VaeGanRecipe = PICTURE_RECIPE,
    patches: PatchSet = PICTURES,
    split: Split = PICTURE_SPLIT,
    **further: Any,
) -> VaeGanRun:
    return train_vaegan(patches, split, folder, network, recipe, **further)


@pytest.fixture(scope="module")
def learnt(tmp_path_factory: pytest.TempPathFactory) -> dict[str, VaeGanRun]:
    """A finished run of each way, to be looked at only."""
    folder = tmp_path_factory.mktemp("learnt")
    return {name: learn(folder / name, *way) for name, way in WAYS.items()}


def assert_same_weights(one: VaeGanRun, other: VaeGanRun) -> None:
    for name, tensor in picture_weights(one).items():
        assert torch.equal(tensor, picture_weights(other)[name]), name


def differ(one: VaeGanRun, other: VaeGanRun) -> bool:
    name = "decoder.picture.weight"
    return not torch.equal(picture_weights(one)[name], picture_weights(other)[name])


# What a run leaves


def test_a_run_leaves_all_it_promises(learnt: dict[str, VaeGanRun]) -> None:
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
    np.testing.assert_array_equal(run.split.sides, PICTURE_SPLIT.sides)
    run.check_patches(PICTURES)
    with pytest.raises(OutcropError, match="are not those that"):
        run.check_patches(some_pictures(number=45))
    assert not any(module.training for module in run.model.networks.modules())


@pytest.mark.parametrize("way", WAYS)
def test_metrics_are_those_of_the_model_that_is_kept(
    learnt: dict[str, VaeGanRun], way: str
) -> None:
    run = learnt[way]
    model, last = run.model, run.metrics[-1]
    assert [epoch.epoch for epoch in run.metrics] == [1, 2]
    images = PICTURES.take(PICTURE_SPLIT.validation)
    again = model.reconstruct(images)
    assert again.dtype == images.dtype
    error = relative_error(model.in_range(images), model.in_range(again), draws=1).value
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
        assert [picture.step for picture in shown] == [1, 2]
        # Eight in a row, with two pixels between; eight held out, and beneath them their likes.
        rows_shown = 8 if tag == "samples" else 2
        assert shown[0].width == 8 * (SIZE + 2) - 2
        assert shown[0].height == rows_shown * (SIZE + 2) - 2
    assert "code/divergence by dimension" in tags["histograms"]


def test_a_judge_measures_samples_and_reconstructions(tmp_path: Path, run: Run) -> None:
    with pytest.raises(OutcropError, match="--judge: was trained on 2 bands of 8 × 8 pixels"):
        learn(tmp_path / "run", judge=run)
    assert not list(tmp_path.iterdir())


# Seeds


@pytest.mark.parametrize("way", WAYS)
def test_the_seed_decides(learnt: dict[str, VaeGanRun], tmp_path: Path, way: str) -> None:
    network, recipe = WAYS[way]
    torch.manual_seed(123)  # which is not asked
    assert_same_pictures(learnt[way], learn(tmp_path / "same", network, recipe))
    other = replace(recipe, seed=recipe.seed + 1)
    assert differ(learnt[way], learn(tmp_path / "other", network, other))


def test_pictures_read_batch_by_batch_give_the_same_run(
    learnt: dict[str, VaeGanRun], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pictures, "RESIDENT_BYTES", 0)
    PICTURES.save(tmp_path / "patches.zarr")
    lazy = read_patches(tmp_path / "patches.zarr")
    assert_same_pictures(learnt["plain"], learn(tmp_path / "run", patches=lazy))


def test_held_out_pictures_teach_nothing(learnt: dict[str, VaeGanRun], tmp_path: Path) -> None:
    images = PICTURES.images.copy()
    images[PICTURE_SPLIT.validation] = 255 - images[PICTURE_SPLIT.validation]
    images[PICTURE_SPLIT.test] = 0
    other = learn(tmp_path / "run", patches=replace(PICTURES, images=images))
    assert_same_weights(learnt["plain"], other)
    assert other.model.scale == learnt["plain"].model.scale


def test_the_average_of_the_decoder_is_looked_at_and_kept(
    learnt: dict[str, VaeGanRun], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[dict[str, torch.Tensor]] = []
    original = AveragedModel.update_parameters

    def remember(average: AveragedModel, module: torch.nn.Module) -> None:
        steps.append({name: t.detach().clone() for name, t in module.state_dict().items()})
        original(average, module)

    monkeypatch.setattr(AveragedModel, "update_parameters", remember)
    averaged = learn(tmp_path / "run", recipe=replace(PICTURE_RECIPE, average=0.8))
    assert len(steps) == 2 * STEPS
    expected = steps[0]
    for step in steps[1:]:
        expected = {
            name: 0.8 * tensor + 0.2 * step[name]
            for name, tensor in expected.items()
            if tensor.is_floating_point()
        }
    kept, plain = picture_weights(averaged), picture_weights(learnt["plain"])
    for name, tensor in expected.items():
        torch.testing.assert_close(kept[f"decoder.{name}"], tensor, rtol=1e-4, atol=1e-5)
    # What is trained does not feel that it is averaged.
    assert all(torch.equal(kept[name], plain[name]) for name in kept if name[:7] != "decoder")


@pytest.mark.parametrize(
    "change",
    [
        {"gamma": 0.5},
        {"decoder_loss": "minimax"},
        {"optimiser": "adam"},
        {"kl_warm_up": 2.0},
        {"learning_rate": 2e-3},
        {"augmentation": replace(PICTURE_RECIPE.augmentation, flip=False)},
    ],
    ids=lambda change: next(iter(change)),
)
def test_every_part_of_the_recipe_changes_the_weights(
    learnt: dict[str, VaeGanRun], tmp_path: Path, change: dict[str, Any]
) -> None:
    recipe = replace(PICTURE_RECIPE, **change)
    assert differ(learnt["plain"], learn(tmp_path / "run", recipe=recipe))


# The other kinds of networks


def test_each_kind_trains_and_tells_what_it_has(tmp_path: Path) -> None:
    vae = learn(tmp_path / "vae", replace(PICTURE_NETWORK, parts="vae"))
    assert vae.metrics[-1].decoder is vae.metrics[-1].right_of_real is None
    assert vae.metrics[-1].likeness < vae.metrics[0].likeness
    with pytest.raises(OutcropError, match="has no discriminator"):
        vae.model.features(PICTURES.images[:2])

    gan = learn(tmp_path / "gan", replace(PICTURE_NETWORK, parts="gan"))
    last = gan.metrics[-1]
    assert last.prior is last.likeness is last.awake is last.pixel_error is None
    assert last.right_of_reconstructed is None
    assert last.divergence == ()
    assert set(read_events(gan.folder).Tags()["images"]) == {"samples"}
    with pytest.raises(OutcropError, match="a GAN has no encoder; train `--model vaegan`"):
        gan.model.encode(PICTURES.images[:2])


def vae_of(gan: VaeGanRun, folder: Path, **changes: Any) -> VaeGanRun:
    network = replace(gan.model.network, parts="vae-dis", latent=3)
    return learn(folder, network, replace(PICTURE_RECIPE, **changes), similarity=gan)


@pytest.mark.parametrize("way", WAYS)
def test_a_learned_metric_stays_as_it_was(
    learnt: dict[str, VaeGanRun], tmp_path: Path, way: str
) -> None:
    gan, run = learnt[way], vae_of(learnt[way], tmp_path / "run")
    theirs, ours = (model.model.networks.discriminator.state_dict() for model in (gan, run))
    assert theirs.keys() == ours.keys()
    assert all(torch.equal(tensor, ours[name]) for name, tensor in theirs.items())
    assert run.metrics[-1].likeness is not None
    assert run.metrics[-1].discriminator is run.metrics[-1].right_of_real is None


# Stopping and going on


def interrupt(
    monkeypatch: pytest.MonkeyPatch, folder: Path, way: str, times: int, place: str
) -> None:
    """Train, and end it before so many calls."""
    owner = {"step": VaeGanLearner, "save_checkpoint": loop}[place]
    original, calls = getattr(owner, place), []

    def interrupted(*arguments: Any) -> Any:
        calls.append(None)
        if len(calls) == times:
            raise KeyboardInterrupt
        return original(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(owner, place, interrupted)
        with pytest.raises(KeyboardInterrupt):
            learn(folder, *WAYS[way])


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("place", "times", "done"),
    [("step", 2, None), ("step", STEPS + 3, (1, 0)), ("save_checkpoint", 2, (1, 0))],
)
def test_a_stopped_run_goes_on_to_the_same_end(
    learnt: dict[str, VaeGanRun],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    way: str,
    place: str,
    times: int,
    done: tuple[int, int] | None,
) -> None:
    folder = tmp_path / "run"
    interrupt(monkeypatch, folder, way, times, place)
    with pytest.raises(OutcropError, match="is not finished"):
        read_vaegan_run(folder)
    reached = read_checkpoint(folder)
    assert (reached.epoch, reached.step) == (done or (0, 0))
    assert_same_pictures(learnt[way], learn(folder, *WAYS[way], resume=True))
    assert [event.step for event in read_events(folder).Images("samples")] == [1, 2]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("steps", [2, STEPS + 3, 2 * STEPS])
def test_a_request_to_stop_is_obeyed_after_the_step_and_nothing_is_lost(
    learnt: dict[str, VaeGanRun],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    way: str,
    steps: int,
) -> None:
    folder, calls, original = tmp_path / "run", [], VaeGanLearner.step

    def ask(*arguments: Any) -> None:
        original(*arguments)
        calls.append(None)
        if len(calls) == steps:
            signal.raise_signal(signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(VaeGanLearner, "step", ask)
        with pytest.raises(Stopped, match="stopped after epoch"):
            learn(folder, *WAYS[way])
    assert len(calls) == steps
    reached = read_checkpoint(folder)
    assert (reached.epoch, reached.step) == divmod(steps, STEPS)
    assert_same_pictures(learnt[way], learn(folder, *WAYS[way], resume=True))


def test_a_learned_metric_goes_on_from_the_checkpoint(
    learnt: dict[str, VaeGanRun], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = vae_of(learnt["rich"], tmp_path / "whole", average=0.9)
    original, calls = VaeGanLearner.step, []

    def ask(*arguments: Any) -> None:
        original(*arguments)
        calls.append(None)
        if len(calls) == STEPS + 2:
            signal.raise_signal(signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(VaeGanLearner, "step", ask)
        with pytest.raises(Stopped):
            vae_of(learnt["rich"], tmp_path / "parts", average=0.9)
    again = learn(
        tmp_path / "parts",
        whole.model.network,
        replace(PICTURE_RECIPE, average=0.9),
        similarity=learnt["rich"],
        resume=True,
    )
    assert_same_pictures(whole, again)


def test_a_finished_run_is_returned_and_a_missing_one_begins(
    learnt: dict[str, VaeGanRun], tmp_path: Path
) -> None:
    run = learnt["plain"]
    changed = (run.folder / "model.safetensors").stat().st_mtime_ns
    elsewhere = replace(PICTURE_RECIPE, machine=replace(CPU, device="auto"))
    assert_same_pictures(run, learn(run.folder, recipe=elsewhere, resume=True))
    assert (run.folder / "model.safetensors").stat().st_mtime_ns == changed
    assert_same_pictures(run, learn(tmp_path / "new", resume=True))


def test_only_the_same_run_goes_on(learnt: dict[str, VaeGanRun], run: Run, tmp_path: Path) -> None:
    folder = learnt["plain"].folder
    with pytest.raises(OutcropError, match=r"exists already; .* --resume"):
        learn(folder)
    with pytest.raises(OutcropError, match=r"recipe\.gamma was 0\.001, is 0\.1"):
        learn(folder, recipe=replace(PICTURE_RECIPE, gamma=0.1), resume=True)
    with pytest.raises(OutcropError, match=r"network\.latent was 4, is 5"):
        learn(folder, replace(PICTURE_NETWORK, latent=5), resume=True)
    with pytest.raises(OutcropError, match="is a run of a classifier, and a VAE-GAN is wanted"):
        learn(run.folder, resume=True)
    with pytest.raises(OutcropError, match="does not exist"):
        learn(tmp_path / "no" / "run")


def test_a_checkpoint_of_other_networks_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    learn(folder, recipe=replace(PICTURE_RECIPE, epochs=1))
    (folder / "model.json").unlink()
    save_checkpoint(folder, Checkpoint(1, 0, {"networks.decoder.picture.weight": torch.ones(3)}))
    with pytest.raises(OutcropError, match="belongs to another network"):
        learn(folder, recipe=replace(PICTURE_RECIPE, epochs=1), resume=True)


# Through the command line, in processes of their own

TRAIN = (
    "train {0}/patches.zarr --split {0}/split.json --model {1} --output {2} --filters 4 --latent 4 "
    "--epochs {3} --batch 10 --learning-rate 1e-3 --balance 0 --device cpu --precision 32-true "
)
RICH = "--spectral --optimiser adam --average 0.9 --balance 0.6 --kl-warm-up 1.5 --seed 4 "


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    PICTURES.save(folder / "patches.zarr")
    PICTURE_SPLIT.save(folder / "split.json")
    return folder


def test_a_killed_run_goes_on(folder: Path, learnt: dict[str, VaeGanRun]) -> None:
    run = folder / "killed"
    command = TRAIN.format(folder, "vaegan", run, 200) + RICH
    with subprocess.Popen(
        argv(command), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=ALONE
    ) as process:
        while process.poll() is None and not (run / "checkpoint.safetensors").exists():
            time.sleep(0.01)
        process.kill()
    assert process.returncode == -signal.SIGKILL
    done = read_checkpoint(run).epoch
    assert 0 < done < 200
    # As far as it would have come: the epochs do not know how many there are.
    config = json.loads((run / "config.json").read_text())
    config["recipe"]["epochs"] = done + 1
    (run / "config.json").write_text(json.dumps(config))
    recipe = replace(RICH_RECIPE, epochs=done + 1)
    whole = learn(folder / "whole", RICH_NETWORK, recipe)
    assert_same_pictures(whole, learn(run, RICH_NETWORK, recipe, resume=True))


def test_two_processes_do_what_one_does(folder: Path) -> None:
    in_parts = replace(RICH_RECIPE, machine=replace(CPU, accumulate=2))
    alone = learn(folder / "alone", RICH_NETWORK, in_parts)
    done = start(TRAIN.format(folder, "vaegan", folder / "together", 2) + RICH + "--devices 2")
    assert done.returncode == 0, done.stderr
    run = read_vaegan_run(folder / "together", "cpu")
    for one, other in zip(alone.metrics, run.metrics, strict=True):
        for name in ("prior", "likeness", "discriminator", "decoder", "right_of_real"):
            assert getattr(other, name) == pytest.approx(getattr(one, name), rel=1e-3), name
    for name, weight in picture_weights(alone).items():
        if not name.endswith("num_batches_tracked"):
            torch.testing.assert_close(picture_weights(run)[name], weight, rtol=1e-3, atol=1e-4)


def test_two_processes_leave_a_learned_metric_as_it_was(
    learnt: dict[str, VaeGanRun], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen from the first of them, which adds what the other brings to what is shared."""
    theirs = learnt["plain"].model.networks.discriminator.state_dict()
    with assemble(CPU, lambda world: None) as team:  # type: ignore[arg-type, return-value]
        monkeypatch.setattr(team, "world", 2)
        monkeypatch.setattr(torch.distributed, "all_reduce", lambda shared: shared.mul_(2))
        network = replace(PICTURE_NETWORK, parts="vae-dis")
        learner = VaeGanLearner(network, PICTURE_RECIPE, 2, SIZE, team, theirs)
        learner.train()
        moving = learner.networks.encoder.wide[1].running_mean.clone()
        parts = iter([Part(torch.rand(8, 2, SIZE, SIZE), torch.zeros(8), 0.5)])
        learner.step(0, Step(0, None, parts), 1.0, lambda seen: None)
    assert not torch.equal(moving, learner.networks.encoder.wide[1].running_mean)
    ours = learner.networks.discriminator.state_dict()
    assert all(torch.equal(tensor, ours[name]) for name, tensor in theirs.items())


# Precision, compilers and memory


def test_half_precision_trains(learnt: dict[str, VaeGanRun], tmp_path: Path) -> None:
    for way, (network, recipe) in WAYS.items():
        half = replace(recipe, machine=replace(CPU, precision="bf16-mixed"))
        run = learn(tmp_path / way, network, half)
        assert {t.dtype for t in picture_weights(run).values()} == {torch.float32, torch.int64}
        assert differ(learnt[way], run)
        found, expected = run.metrics[-1], learnt[way].metrics[-1]
        assert found.likeness == pytest.approx(expected.likeness, rel=0.2)
        assert found.discriminator == pytest.approx(expected.discriminator, rel=0.1)


def test_compiled_networks_learn_from_batches_of_several_sizes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Steps of 8 and 7: for the second size the backward pass is compiled before it is needed.

    By a compiler that writes no code: what is differentiated, and how often, is the same.
    """
    from torch._functorch import config

    monkeypatch.setattr("outcrop.training.device._can_compile", lambda device: True)
    compiler = torch.compile
    monkeypatch.setattr(torch, "compile", lambda net, **how: compiler(net, backend="aot_eager"))
    network = replace(PICTURE_NETWORK, parts="gan")
    recipe = replace(PICTURE_RECIPE, batch=8, epochs=1)
    plain = learn(tmp_path / "plain", network, recipe)
    compiled = learn(
        tmp_path / "compiled", network, replace(recipe, machine=replace(CPU, compile="always"))
    )
    assert config.donated_buffer
    assert compiled.metrics[-1].decoder == pytest.approx(plain.metrics[-1].decoder, rel=1e-2)


def test_full_memory_names_remedies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*anything: object) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(VaeGanLearner, "step", full)
    with pytest.raises(OutcropError, match=r"full at a batch of 10; take --batch 5, --accumulate"):
        learn(tmp_path / "run")


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
        ({"machine": Machine(strategy="fsdp")}, "--strategy: is fsdp; a VAE-GAN takes ddp"),
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
