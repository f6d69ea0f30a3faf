"""A training is weighted, followed and stopped from Python, and leaves a module and a transform."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from outcrop.errors import OutcropError
from outcrop.models.architectures import MultiScaleNet, ResidualNet
from outcrop.training.engine import train
from outcrop.training.log import EpochResult
from outcrop.training.parallel import make_learner, make_process_group
from outcrop.training.parallel.captured import CapturedLearner
from outcrop.training.recipe import Augmentation, Machine, Tuning
from outcrop.training.run import read_run
from tests.tiny import DEVICE, NETWORK, PATCHES, RECIPE, SPLIT, assert_same, weights

PLAIN = replace(RECIPE, augmentation=Augmentation(flip=False, crop=0))
N = len(PATCHES)
FLOAT32 = Machine(DEVICE, precision="32-true", compile="never")


# Weights in the loss


@pytest.mark.parametrize("network", [NETWORK, MultiScaleNet()], ids=lambda network: network.title)
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_a_patch_of_weight_two_counts_as_two(network, smoothing: float) -> None:
    rng = torch.Generator().manual_seed(0)
    shape = (5, 3) if network is NETWORK else (5, 4, 3)
    logits, labels = torch.randn(shape, generator=rng), torch.tensor([0, 1, 2, 0, 1])
    times = torch.tensor([2, 1, 0, 3, 1])
    recipe = replace(RECIPE, label_smoothing=smoothing)
    with make_process_group(network, recipe) as group:
        learner = make_learner(network, recipe, PATCHES, group)
        weighted = learner.loss(logits, labels, times / times.float().mean())
        repeated = learner.loss(
            logits.repeat_interleave(times, dim=0), labels.repeat_interleave(times)
        )
        equal = learner.loss(logits, labels, torch.ones(5))
        plain = learner.loss(logits, labels)
    torch.testing.assert_close(weighted, repeated)
    torch.testing.assert_close(equal, plain)
    if network is NETWORK:
        torch.testing.assert_close(
            plain, F.cross_entropy(logits, labels, label_smoothing=smoothing)
        )


def test_weights_reach_the_loss_of_every_patch(tmp_path: Path) -> None:
    """With a learning rate of nearly 0 the mean loss of an epoch is that of the first weights."""
    recipe = replace(PLAIN, epochs=1, learning_rate=1e-12, batch=N, machine=FLOAT32)
    given = np.random.default_rng(0).uniform(0, 3, N)
    given[SPLIT.train[:3]] = 0
    run = train(PATCHES, SPLIT, tmp_path / "run", NETWORK, recipe, sample_weight=given)
    index = SPLIT.train[3:]
    with torch.no_grad():
        images = run.transform(torch.from_numpy(PATCHES.images[index]))
        logits = run.module.train()(images)  # by the statistics of the batch
    each = F.cross_entropy(logits, torch.from_numpy(PATCHES.labels[index]), reduction="none")
    wanted = np.average(each.numpy(), weights=given[index])
    assert run.metrics[0].train.loss == pytest.approx(wanted, rel=1e-4)


def test_captured_steps_are_weighted_alike(tmp_path: Path, monkeypatch) -> None:
    given = np.linspace(0.5, 2, N)
    recipe = replace(PLAIN, machine=FLOAT32)
    found = []
    for name in ("plain", "captured"):
        if name == "captured":
            monkeypatch.setattr("outcrop.training.engine.make_learner", CapturedLearner)
        run = train(PATCHES, SPLIT, tmp_path / name, NETWORK, recipe, sample_weight=given)
        found.append(weights(run))
    for name, tensor in found[0].items():
        torch.testing.assert_close(found[1][name], tensor, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("given", "how", "message"),
    [
        (np.ones(N - 1), {}, "one number for each patch"),
        (np.full(N, -1.0), {}, "negative or infinite"),
        (np.full(N, np.nan), {}, "negative or infinite"),
        (np.zeros(N), {}, "0 for all training patches"),
        (np.ones(N), {"tuning": Tuning()}, "leave tuning out"),
    ],
)
def test_weights_that_cannot_be_used_leave_nothing(
    tmp_path: Path, given: np.ndarray, how: dict, message: str
) -> None:
    with pytest.raises(OutcropError, match=message):
        train(PATCHES, SPLIT, tmp_path / "run", NETWORK, RECIPE, sample_weight=given, **how)
    assert not list(tmp_path.iterdir())


def test_a_run_goes_on_with_the_same_weights_only(tmp_path: Path) -> None:
    given = np.linspace(0.5, 2, N)
    whole = train(PATCHES, SPLIT, tmp_path / "whole", NETWORK, RECIPE, sample_weight=given)

    def interrupt(result: EpochResult) -> None:
        if result.epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(
            PATCHES, SPLIT, tmp_path / "run", NETWORK, RECIPE,
            sample_weight=given, on_epoch=interrupt,
        )  # fmt: skip
    for other in (None, given**2):
        with pytest.raises(OutcropError, match="sample_weight was"):
            train(
                PATCHES, SPLIT, tmp_path / "run", NETWORK, RECIPE, resume=True, sample_weight=other
            )
    run = train(
        PATCHES, SPLIT, tmp_path / "run", NETWORK, RECIPE, resume=True, sample_weight=2 * given
    )
    assert_same(whole, run)


# A callback after every epoch


def test_a_callback_sees_every_epoch_and_changes_nothing(tmp_path: Path) -> None:
    seen: list[EpochResult] = []
    recipe = replace(RECIPE, average=0.5)
    run = train(PATCHES, SPLIT, tmp_path / "run", NETWORK, recipe, on_epoch=seen.append)
    assert [one.epoch for one in seen] == [1, 2, 3]
    assert tuple(one.metrics for one in seen) == run.metrics
    assert (seen[-1].train, seen[-1].validation) == (
        run.metrics[-1].train,
        run.metrics[-1].validation,
    )
    for name, tensor in run.module.state_dict().items():
        torch.testing.assert_close(seen[-1].module.state_dict()[name], tensor, msg=name)
    assert not torch.equal(seen[0].module.linear.weight, seen[1].module.linear.weight)
    images = run.transform(torch.from_numpy(PATCHES.images[SPLIT.validation]).to(DEVICE))
    for result in seen:
        assert isinstance(result.module, nn.Module)
        with torch.no_grad():
            predicted = result.module(images).argmax(1).cpu().numpy()
        right = np.mean(predicted == PATCHES.labels[SPLIT.validation])
        assert result.validation.accuracy == pytest.approx(right)
    unseen = train(PATCHES, SPLIT, tmp_path / "unseen", NETWORK, recipe)
    assert_same(unseen, run)


def test_a_callback_ends_the_training(tmp_path: Path) -> None:
    run = train(
        PATCHES, SPLIT, tmp_path / "run", NETWORK, RECIPE, on_epoch=lambda result: result.epoch == 2
    )
    assert len(run.metrics) == 2
    assert len(read_run(tmp_path / "run", DEVICE).metrics) == 2
    again = train(PATCHES, SPLIT, tmp_path / "run", NETWORK, RECIPE, resume=True)
    assert_same(run, again)


def test_a_resumed_run_calls_for_new_epochs_only(tmp_path: Path) -> None:
    seen: list[int] = []

    def interrupt(result: EpochResult) -> None:
        seen.append(result.epoch)
        if seen == [1, 2]:
            raise RuntimeError("of the user")

    with pytest.raises(RuntimeError, match="of the user"):
        train(PATCHES, SPLIT, tmp_path / "run", NETWORK, RECIPE, on_epoch=interrupt)
    run = train(PATCHES, SPLIT, tmp_path / "run", NETWORK, RECIPE, resume=True, on_epoch=interrupt)
    # The exception came before the checkpoint of the second epoch.
    assert seen == [1, 2, 2, 3]
    assert_same(train(PATCHES, SPLIT, tmp_path / "whole", NETWORK, RECIPE), run)


# What a run leaves for PyTorch


@pytest.mark.parametrize(
    "network", [NETWORK, ResidualNet(depth=8, width=4, seen=5), MultiScaleNet()]
)
def test_module_and_transform_give_the_probabilities(tmp_path: Path, network) -> None:
    recipe = replace(RECIPE, epochs=1)
    run = train(PATCHES, SPLIT, tmp_path / "run", network, recipe)
    images = PATCHES.images[:10]
    with torch.no_grad():
        logits = run.module.eval()(run.transform(torch.from_numpy(images).to(DEVICE)))
    probabilities = (logits / run.model.temperature).softmax(dim=1).cpu()
    np.testing.assert_allclose(probabilities, run.model.predict_proba(images), atol=1e-6)
