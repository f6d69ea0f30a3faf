"""The networks of the reference loop, which shares no code with the library, are the library's."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from benchmarks import plain_runs
from benchmarks.reference import networks, plain
from benchmarks.throughput import Round, bound
from outcrop.models.architectures import ResidualNet
from outcrop.models.cost import cost_of
from outcrop.models.factory import build
from outcrop.models.residual import draw_kept
from outcrop.workflow.published import read_published

THEIRS = {
    "stem.conv": "conv",
    "stem.norm": "bn",
    "linear": "fc",
    "norm": "layers.{end}",
    "stages.shortcut.conv": "around_all.0",
    "stages.shortcut.norm": "around_all.1",
}


def theirs(ours: str, network: ResidualNet) -> str:
    """What the reference calls a weight or statistic of ours."""
    name, _, kind = ours.rpartition(".")
    wide = network.order == "pre-activation"
    if wide and name == "stem.conv":
        return f"layers.0.{kind}"
    if name in THEIRS:
        return f"{THEIRS[name]}.{kind}".format(end=3 * network.blocks + 1)
    if found := re.fullmatch(r"stages\.stage(\d)\.shortcut\.(conv|norm)", name):
        return f"around.{int(found[1]) - 1}.{['conv', 'norm'].index(found[2])}.{kind}"
    found = re.fullmatch(r"stages\.stage(\d)\.block(\d+)\.(.*)", name)
    assert found
    stage, block = int(found[1]) - 1, int(found[2]) - 1
    inside = found[3].replace("activate.norm", "bn1").replace("residual.", "")
    inside = inside.replace("norm", "bn").replace("shortcut", "projection")
    where = f"layers.{stage * network.blocks + block + 1}" if wide else f"stages.{stage}.{block}"
    return f"{where}.{inside}.{kind}"


def pair(name: str) -> tuple[ResidualNet, nn.Module, nn.Module]:
    """A network of ours and the reference's, with the same random weights and statistics."""
    network = ResidualNet.named(name)
    torch.manual_seed(0)
    ours, reference = build(network, 3, 10), networks.NETWORKS[name]()
    for key, tensor in ours.state_dict().items():
        if key.endswith("running_var"):
            tensor.uniform_(0.5, 2)
        elif key.endswith(("bias", "running_mean")):
            tensor.normal_(0, 0.1)
    state: dict[str, Tensor] = {theirs(k, network): t for k, t in ours.state_dict().items()}
    reference.load_state_dict(state)
    return network, ours, reference


@pytest.mark.parametrize("name", [n for n in networks.NETWORKS if n != "wrn28-10"])
def test_logits_are_the_same(name: str) -> None:
    _, ours, reference = pair(name)
    pictures = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(
            ours.eval()(pictures), reference.eval()(pictures), rtol=1e-3, atol=1e-3
        )


def test_wide_networks_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    network = ResidualNet.named("wrn28-10")
    with torch.device("meta"):
        whole = networks.NETWORKS["wrn28-10"]()
    assert cost_of(network, 3, (32, 32), 10).parameters == sum(
        p.numel() for p in whole.parameters()
    )
    monkeypatch.setitem(networks.NETWORKS, "wrn16-4", lambda: networks.WideResNet(16, 4))
    test_logits_are_the_same("wrn16-4")


def test_blocks_are_dropped_with_the_same_chance(monkeypatch: pytest.MonkeyPatch) -> None:
    network, ours, reference = pair("resnet110-sd")
    draws = np.random.default_rng(0).random(len(network.survivals)).tolist()
    left = iter(draws)
    monkeypatch.setattr(torch, "rand", lambda *shape: torch.tensor([next(left)]))
    pictures = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        theirs = reference.train()(pictures)
        found = ours.train()(pictures, draw_kept(network, draws))
    torch.testing.assert_close(found, theirs, rtol=1e-3, atol=1e-3)


def test_the_loop_learns_by_its_schedule(monkeypatch: pytest.MonkeyPatch) -> None:
    rates = []
    step = torch.optim.SGD.step

    def remember(optimiser: torch.optim.SGD, *rest: object) -> None:
        rates.append(optimiser.param_groups[0]["lr"])
        step(optimiser)

    monkeypatch.setattr(torch.optim.SGD, "step", remember)
    random = np.random.default_rng(0)
    labels = np.arange(24) % 3
    images = random.integers(0, 60, (24, 3, 32, 32)) + 90 * labels[:, None, None, None]
    pictures = plain.Pictures(images.astype(np.uint8), labels, augment=True)
    still = plain.Pictures(images.astype(np.uint8), labels, augment=False)
    torch.manual_seed(0)
    schedule = plain.Schedule(epochs=8, batch=12, warm_up=1)
    result = plain.train(networks.ResNet(8), pictures, still, schedule, workers=0)
    assert rates == pytest.approx([0.01] * 2 + [0.1] * 6 + [0.01] * 4 + [0.001] * 4)
    assert len(result.images_per_second) == 8
    assert result.accuracy[-1] > 0.6


def test_schedules_are_those_of_the_recipes() -> None:
    deep = plain_runs.schedule_of(read_published("resnet110"), None)
    assert (deep.epochs, deep.warm_up, deep.warm_up_rate) == (164, 1, pytest.approx(0.01))
    stochastic = plain_runs.schedule_of(read_published("resnet110-sd"), 20)
    assert (stochastic.epochs, stochastic.nesterov, stochastic.decay) == (20, True, 1e-4)
    assert stochastic.milestones == (0.5, 0.75)


def test_the_limit_is_what_allows_least() -> None:
    speeds = {"plain loop": 1.0, "ours, auto": 2.0}
    one = Round("resnet20", "a machine", "32-true", 1e12, 1e15, speeds, "a command")
    # ResNet-20 has 40.6 million multiply-adds, two operations each, thrice with the backward pass.
    assert bound(one) == (pytest.approx(1e12 / (6 * 40.6e6), rel=1e-2), "matrix product")
    kept = cost_of(ResidualNet(20), 3, (32, 32), 10).activations
    by_copy = replace(one, copy=1e9)
    assert bound(by_copy) == (pytest.approx(1e9 / (4 * kept)), "memory")
    half = bound(replace(by_copy, precision="bf16-mixed"))
    assert half[0] == pytest.approx(2 * bound(by_copy)[0])
    assert (
        bound(replace(by_copy, network="resnet110-sd"))[0]
        > bound(replace(by_copy, network="resnet110"))[0]
    )
