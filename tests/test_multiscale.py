"""The multi-scale network: views, dense form, order of bands, training."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from outcrop.errors import OutcropError
from outcrop.models.architectures import MultiScaleNet
from outcrop.models.factory import build
from outcrop.training.engine import train
from outcrop.training.recipe import Machine, Recipe
from outcrop.training.run import read_run
from tests.tiny import PATCHES, SPLIT, weights

RECIPE = Recipe(epochs=3, batch=16, machine=Machine(device="cpu"))


def network(bands=3, size=(33, 33), classes=4, seed=0):
    torch.manual_seed(seed)
    made = build(MultiScaleNet(hidden=8), bands, classes, size)
    some = torch.randn(40, bands, *size)
    made.learn_scale(lambda: some.split(16))
    return made.eval()


@settings(deadline=None, max_examples=20)
@given(
    st.integers(1, 30), st.integers(1, 34), st.integers(1, 34), st.integers(1, 9), st.integers(1, 9)
)
def test_a_window_gives_the_results_of_its_patches(bands, tall, wide, height, width):
    made = network(bands, (tall, wide))
    pixels = torch.randn(1, bands, height + tall - 1, width + wide - 1)
    with torch.inference_mode():
        logits, features = made.dense(pixels, height, width)
        row, column = height // 2, width - 1
        patch = pixels[:, :, row : row + tall, column : column + wide]
        its, inner = made.logits_and_features(patch)
    torch.testing.assert_close(logits[:, row, column], its[0], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(features[:, row, column], inner[0], atol=1e-5, rtol=1e-4)
    assert inner.shape == (1, made.channels)


@pytest.mark.parametrize("bands", [2, 24, 25])
def test_bands_in_another_order(bands):
    made, order = network(bands), np.random.default_rng(0).permutation(bands)
    back = np.argsort(order)
    images = torch.randn(5, bands, 33, 33)
    turned = made.in_order(back.tolist())
    with torch.inference_mode():
        torch.testing.assert_close(turned(images[:, back]), made(images), atol=1e-5, rtol=1e-4)


def test_windows_that_a_patch_does_not_hold_are_left_out():
    sides = {size: network(size=(size, size)).windows for size in (1, 3, 8, 9, 24, 25, 26)}
    assert sides == {
        1: (), 3: (3,), 8: (3,), 9: (3, 9), 24: (3, 9), 25: (3, 9, 25), 26: (3, 9, 25)
    }  # fmt: skip


def test_no_view_rules_a_class_out():
    made = network()
    with torch.no_grad():
        for view in made.views.values():
            view.biases[-1][:, :, 0] = -1000
    with torch.inference_mode():
        likely = made(torch.randn(6, 3, 33, 33)).softmax(dim=1)
    # Three of four views give probability 0, which counts as 0.001.
    assert (likely[:, 0] > 1e-3).all()


def test_constant_surroundings_are_finite():
    made = network()
    with torch.inference_mode():
        assert made(torch.zeros(2, 3, 33, 33)).isfinite().all()
    made.learn_scale(lambda: [torch.zeros(4, 3, 33, 33)])
    with torch.inference_mode():
        assert made(torch.zeros(2, 3, 33, 33)).isfinite().all()


def test_a_seed_gives_the_same_network_and_a_run_is_read_again(tmp_path):
    one = train(PATCHES, SPLIT, tmp_path / "one", MultiScaleNet(hidden=8), RECIPE)
    other = train(PATCHES, SPLIT, tmp_path / "other", MultiScaleNet(hidden=8), RECIPE)
    for name, tensor in weights(one).items():
        assert torch.equal(tensor, weights(other)[name]), name
    images = PATCHES.take(np.arange(7))
    again = read_run(tmp_path / "one", "cpu").model
    np.testing.assert_array_equal(again.predict_proba(images), one.model.predict_proba(images))


def test_every_member_learns_from_its_own_loss():
    made = network(size=(9, 9)).train()
    logits = made(torch.randn(6, 3, 9, 9))
    assert logits.shape == (6, 4, 4)
    assert made.eval()(torch.randn(6, 3, 9, 9)).shape == (6, 4)


@pytest.mark.parametrize("views", [("pixel", "waves"), ("windows", "near"), ("waves",)])
def test_some_views_give_the_same_as_in_a_network_of_all(views):
    made = network()
    made.used = views
    some = build(MultiScaleNet(hidden=8, views=views), 3, 4, (33, 33)).eval()
    kept = {name: made.state_dict()[name] for name in some.state_dict()}
    if some.windows:
        some.load_state_dict(kept)
    else:
        some.load_state_dict({k: v for k, v in kept.items() if k not in ("shift", "scale")}, False)
    images = torch.randn(5, 3, 33, 33)
    with torch.inference_mode():
        torch.testing.assert_close(some(images), made(images))
        logits, features = some.dense(images[:1], 1, 1)
        torch.testing.assert_close(logits[:, 0, 0], some(images[:1])[0])
    assert features.shape[0] == some.channels


def test_views_have_one_order_and_near_needs_another():
    assert MultiScaleNet(views=("waves", "pixel")) == MultiScaleNet(views=("pixel", "waves"))
    assert "pixel, waves" in MultiScaleNet(views=("waves", "pixel")).title
    with pytest.raises(OutcropError, match="near goes beside"):
        MultiScaleNet(views=("near",))
    with pytest.raises(OutcropError, match="add pixel"):
        MultiScaleNet(views=("windows", "near")).check_size((2, 2))
