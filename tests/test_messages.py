"""Log messages of a training before it starts."""

import numpy as np
import pytest
import torch

from outcrop.models.architectures import ResidualNet
from outcrop.patches.patchset import PatchSet
from outcrop.training.messages import log_class_balance, log_training
from outcrop.training.recipe import Machine


@pytest.mark.parametrize(
    ("network", "hinted"),
    [
        (ResidualNet(depth=110), True),
        (ResidualNet(depth=602, survival=0.5), True),
        (ResidualNet(depth=110, zero_init=True), False),
        (ResidualNet(depth=110, order="pre-activation"), False),
        (ResidualNet(depth=56), False),
    ],
)
def test_very_deep_networks_get_a_hint(
    network: ResidualNet, hinted: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    patches = PatchSet(
        np.zeros((4, 3, 16, 16), np.uint8), np.arange(4) % 2, ("a", "b"), ("r", "g", "b")
    )
    log_training(network, patches, Machine(), torch.device("cpu"))
    told = capsys.readouterr().err
    assert told.startswith(f"training {network.title}: ")
    assert ("`zero_init=True`" in told) == hinted


def test_repeats_of_rare_classes_are_logged(capsys: pytest.CaptureFixture[str]) -> None:
    labels = np.repeat([0, 1, 2], [60, 3, 30])
    patches = PatchSet(np.zeros((93, 1, 8, 8)), labels, ("sea", "rock", "sand"), ("red",))
    training = labels[labels != 2]  # sand is on the other side alone
    log_class_balance("none", training, patches)
    assert capsys.readouterr().err == ""
    log_class_balance("full", training, patches)
    told = " ".join(capsys.readouterr().err.split())
    assert "an epoch draws 31 to 32 patches of a class" in told
    assert "each of the 3 of rock some 10.3 times" in told
