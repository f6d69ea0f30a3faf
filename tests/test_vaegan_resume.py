"""An interrupted VAE-GAN, or one trained by two processes, ends with the same weights."""

import json
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from outcrop.errors import OutcropError, Stopped
from outcrop.files import write_json
from outcrop.generative.learner import VaeGanLearner
from outcrop.generative.run import VaeGanRun, read_vaegan_run
from outcrop.training import loop
from outcrop.training.batches import Part, Step
from outcrop.training.checkpoint import Checkpoint, read_checkpoint, save_checkpoint
from outcrop.training.parallel.process_group import open_process_group
from outcrop.training.run import Run
from tests.command_line import Command, start_python
from tests.tiny import read_events
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
    learn,
    vae_of,
    weights_of,
)

# Interrupting and resuming


def interrupt(
    monkeypatch: pytest.MonkeyPatch, folder: Path, way: str, times: int, place: str
) -> None:
    """Interrupt a training at a call."""
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


@contextmanager
def stopped_after(steps: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A block in which a training gets SIGTERM in one of its steps, and ends after it."""
    original, calls = VaeGanLearner.step, []

    def ask(*arguments: Any) -> None:
        original(*arguments)
        calls.append(None)
        if len(calls) == steps:
            signal.raise_signal(signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(VaeGanLearner, "step", ask)
        with pytest.raises(Stopped, match="stopped after epoch"):
            yield
    assert len(calls) == steps


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("place", "times", "done"),
    [("step", 2, None), ("step", STEPS + 3, (1, 0)), ("save_checkpoint", 2, (1, 0))],
)
def test_an_interrupted_run_resumes_to_the_same_end(
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
    assert_same_runs(learnt[way], learn(folder, *WAYS[way], resume=True))
    assert [event.step for event in read_events(folder).Images("samples")] == [1, 2]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("steps", [2, STEPS + 3, 2 * STEPS])
def test_sigterm_stops_after_the_step_without_loss(
    learnt: dict[str, VaeGanRun],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    way: str,
    steps: int,
) -> None:
    folder = tmp_path / "run"
    with stopped_after(steps, monkeypatch):
        learn(folder, *WAYS[way])
    reached = read_checkpoint(folder)
    assert (reached.epoch, reached.step) == divmod(steps, STEPS)
    assert_same_runs(learnt[way], learn(folder, *WAYS[way], resume=True))


def test_a_vae_with_a_learned_metric_resumes_from_the_checkpoint(
    learnt: dict[str, VaeGanRun], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = vae_of(learnt["rich"], tmp_path / "whole", average=0.9)
    with stopped_after(STEPS + 2, monkeypatch):
        vae_of(learnt["rich"], tmp_path / "parts", average=0.9)
    network, recipe = whole.model.network, replace(TINY_RECIPE, average=0.9)
    other = learn(tmp_path / "other", *WAYS["rich"][:1], replace(WAYS["rich"][1], seed=99))
    with pytest.raises(OutcropError, match=r"similarity\.weights was \w{8}, is \w{8};"):
        learn(tmp_path / "parts", network, recipe, similarity=other, resume=True)
    again = learn(tmp_path / "parts", network, recipe, similarity=learnt["rich"], resume=True)
    assert_same_runs(whole, again)


def test_resume_returns_a_finished_run_and_starts_a_missing_one(
    learnt: dict[str, VaeGanRun], tmp_path: Path
) -> None:
    run = learnt["plain"]
    changed = (run.folder / "model.safetensors").stat().st_mtime_ns
    elsewhere = replace(TINY_RECIPE, machine=replace(CPU, device="auto"))
    assert_same_runs(run, learn(run.folder, recipe=elsewhere, resume=True))
    assert (run.folder / "model.safetensors").stat().st_mtime_ns == changed
    assert_same_runs(run, learn(tmp_path / "new", resume=True))


def test_resume_needs_the_same_run(learnt: dict[str, VaeGanRun], run: Run, tmp_path: Path) -> None:
    folder = learnt["plain"].folder
    with pytest.raises(OutcropError, match=r"exists already; .* `resume=True`"):
        learn(folder)
    with pytest.raises(OutcropError, match=r"recipe\.gamma was None, is 0\.1"):
        learn(folder, recipe=replace(TINY_RECIPE, gamma=0.1), resume=True)
    with pytest.raises(OutcropError, match=r"network\.latent was 4, is 5"):
        learn(folder, replace(TINY_NETWORK, latent=5), resume=True)
    with pytest.raises(OutcropError, match="is a run of a classifier, and a VAE-GAN is wanted"):
        learn(run.folder, resume=True)
    with pytest.raises(OutcropError, match="does not exist"):
        learn(tmp_path / "no" / "run")


def test_a_checkpoint_of_other_networks_raises_an_error(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    learn(folder, recipe=replace(TINY_RECIPE, epochs=1))
    (folder / "model.json").unlink()
    save_checkpoint(folder, Checkpoint(1, 0, {"networks.decoder.picture.weight": torch.ones(3)}))
    with pytest.raises(OutcropError, match="belongs to another network"):
        learn(folder, recipe=replace(TINY_RECIPE, epochs=1), resume=True)


# On the command line, in separate processes

TRAIN = (
    "generative train {0}/patches.zarr --split {0}/split.json --model {1} --output {2} "
    "--filters 4 --latent 4 --epochs {3} --batch 10 --learning-rate 1e-3 --balance 0 "
    "--device cpu --precision 32-true "
)
RICH = "--spectral --optimiser adam --average 0.9 --balance 0.6 --kl-warm-up 1.5 --seed 4 "


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    IMAGES.save(folder / "patches.zarr")
    IMAGE_SPLIT.save(folder / "split.json")
    return folder


def test_a_killed_run_resumes(folder: Path, learnt: dict[str, VaeGanRun]) -> None:
    run = folder / "killed"
    command = TRAIN.format(folder, "vaegan", run, 200) + RICH
    process = Command(command)
    while process.poll() is None and not (run / "checkpoint.safetensors").exists():
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    done = read_checkpoint(run).epoch
    assert 0 < done < 200
    # An epoch does not depend on the number of epochs.
    config = json.loads((run / "config.json").read_text())
    config["recipe"]["epochs"] = done + 1
    write_json(run / "config.json", config)
    recipe = replace(RICH_RECIPE, epochs=done + 1)
    whole = learn(folder / "whole", RICH_NETWORK, recipe)
    assert_same_runs(whole, learn(run, RICH_NETWORK, recipe, resume=True))


def test_two_processes_and_one_give_the_same_result(folder: Path) -> None:
    in_parts = replace(RICH_RECIPE, machine=replace(CPU, accumulate=2))
    alone = learn(folder / "alone", RICH_NETWORK, in_parts)
    done = start_python(
        TRAIN.format(folder, "vaegan", folder / "together", 2) + RICH + "--devices 2"
    )
    assert done.returncode == 0, done.stderr
    run = read_vaegan_run(folder / "together", "cpu")
    for one, other in zip(alone.metrics, run.metrics, strict=True):
        for name in ("prior", "likeness", "discriminator", "decoder", "right_of_real"):
            assert getattr(other, name) == pytest.approx(getattr(one, name), rel=1e-3), name
    for name, weight in weights_of(alone).items():
        if not name.endswith("num_batches_tracked"):
            torch.testing.assert_close(weights_of(run)[name], weight, rtol=1e-3, atol=1e-4)


def test_two_processes_do_not_change_a_learned_metric(
    learnt: dict[str, VaeGanRun], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first process; the sum over processes is replaced by a factor of 2."""
    theirs = learnt["plain"].model.networks.discriminator.state_dict()
    with open_process_group(CPU, lambda world: None) as group:  # type: ignore[arg-type, return-value]
        monkeypatch.setattr(group, "world", 2)
        monkeypatch.setattr(torch.distributed, "all_reduce", lambda shared: shared.mul_(2))
        network = replace(TINY_NETWORK, parts="vae-dis")
        learner = VaeGanLearner(network, TINY_RECIPE, 2, SIZE, group, theirs)
        learner.train()
        moving = learner.networks.encoder.wide[1].running_mean.clone()
        parts = iter([Part(torch.rand(8, 2, SIZE, SIZE), torch.zeros(8), 0.5)])
        learner.step(0, Step(0, None, parts), 1.0, lambda result: None)
    assert not torch.equal(moving, learner.networks.encoder.wide[1].running_mean)
    ours = learner.networks.discriminator.state_dict()
    assert all(torch.equal(tensor, ours[name]) for name, tensor in theirs.items())
