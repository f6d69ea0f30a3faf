"""Training on crops, as the benchmark of dense training does it."""

import numpy as np
import pytest
import torch

from benchmarks.crops import NO_LABEL, Ground, every_pixel, labelled_ground, phases
from outcrop.models.architectures import ResidualNet
from outcrop.models.dense import Dense
from outcrop.models.factory import build
from outcrop.patches.cut import cut
from outcrop.synthetic.coast import make_coast


@pytest.mark.parametrize("bottleneck", [False, True])
def test_every_pixel_gets_the_logits_of_its_patch(bottleneck):
    network = ResidualNet(11 if bottleneck else 8, 4, bottleneck=bottleneck, padding="none")
    torch.manual_seed(0)
    module = build(network, 3, 5)
    for _ in range(3):  # so that the normalisations have statistics
        module(torch.randn(8, 3, network.footprint, network.footprint))
    module.eval()
    images = torch.randn(2, 3, 7 + network.footprint, 7 + network.footprint)
    whole = Dense(module, (network.footprint,) * 2).logits(images)
    found = every_pixel(module, images)
    for k in range(5):
        torch.testing.assert_close(found[:, k], phases(whole[:, k], network), rtol=1e-4, atol=1e-5)


def test_gradients_reach_all_weights():
    network = ResidualNet(8, 4, padding="none")
    module = build(network, 3, 5).train()
    every_pixel(module, torch.randn(2, 3, 28, 28)).sum().backward()
    assert all(weight.grad is not None for weight in module.parameters())


@pytest.fixture(scope="module")
def coast(tmp_path_factory):
    return make_coast(tmp_path_factory.mktemp("crops") / "coast", 2, 96, seed=3)


def test_crops_hold_the_labels_of_their_pixels(coast):
    ground = labelled_ground(coast.scenes, coast.labels, 8, 11)
    pixels = cut(coast.scenes, coast.labels, "class", size=1)
    assert ground.classes == pixels.classes
    assert sum((labels != NO_LABEL).sum() for labels in ground.labels) == len(pixels)
    for (scene, row, column), patch in zip(ground.at, pixels.images, strict=True):
        assert np.array_equal(ground.scenes[scene][:, row, column], patch[:, 0, 0])


def test_a_crop_is_turned_with_its_labels(coast):
    ground = labelled_ground(coast.scenes, coast.labels, 8, 11)
    # A band that is the label: every pixel of a crop says its own.
    telling = [np.stack([labels.astype(np.float32)] * 2) for labels in ground.labels]
    told = Ground(telling, ground.labels, ground.at, ground.classes, 8, 5)
    images, labels = told.draw(40, 0.0, np.random.default_rng(0))
    assert images.shape == (40, 2, 18, 18)
    assert torch.equal(images[:, 0, 5:-5, 5:-5], labels.float())
    assert (labels != NO_LABEL).flatten(1).any(dim=1).all()
