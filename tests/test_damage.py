from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from outcrop.errors import OutcropError
from outcrop.patches.flips import FLIPS, KEEP_SHAPE, flip, unflip
from outcrop.synthetic.damage import damage

NUMPY = {
    "none": lambda image: image,
    "left-right": np.fliplr,
    "up-down": np.flipud,
    "turn 90": np.rot90,
    "turn 180": lambda image: np.rot90(image, 2),
    "turn 270": lambda image: np.rot90(image, 3),
    "transpose": np.transpose,
    "anti-transpose": lambda image: np.rot90(np.transpose(image), 2),
}


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(0)
    smooth = gaussian_filter(rng.standard_normal((40, 24, 24)), 2, axes=(1, 2))
    return (1e3 * smooth * rng.uniform(0.5, 2, (40, 1, 1))).astype(np.float32)


@pytest.fixture(scope="module")
def labels():
    return np.random.default_rng(1).integers(0, 4, 40)


def restored(damaged, truth):
    """The originals in their order, restored by means of the truth."""
    images = np.empty(damaged.shape)
    for k, source in enumerate(truth.order):
        grey = unflip(damaged[k], truth.flip[k])
        images[source] = (grey - truth.offset[k]) / truth.gain[k]
    return images


@given(st.sampled_from(sorted(FLIPS)), st.integers(1, 5), st.integers(1, 5), st.integers(0, 3))
def test_a_flip_can_be_undone(name, height, width, bands):
    shape = (bands, height, width) if bands else (height, width)
    image = np.random.default_rng(0).standard_normal(shape)
    np.testing.assert_array_equal(unflip(flip(image, name), name), image)
    np.testing.assert_array_equal(flip(unflip(image, name), name), image)
    assert name not in KEEP_SHAPE or flip(image, name).shape == image.shape


@pytest.mark.parametrize("name", FLIPS)
def test_flips_are_those_of_numpy(name):
    image = np.arange(12).reshape(3, 4)
    np.testing.assert_array_equal(flip(image, name), NUMPY[name](image))
    np.testing.assert_array_equal(flip(np.stack([image, image]), name)[1], NUMPY[name](image))


def test_there_are_eight_flips_and_two_in_a_row_are_one_of_them():
    assert list(FLIPS) == list(NUMPY)
    image = np.arange(9).reshape(3, 3)
    turned = {flip(image, name).tobytes() for name in FLIPS}
    assert len(turned) == 8
    assert {flip(flip(image, a), b).tobytes() for a in FLIPS for b in FLIPS} == turned


@pytest.mark.parametrize("per", ["patch", "set"])
@pytest.mark.parametrize("flips", [False, True])
@pytest.mark.parametrize(("bits", "kind"), [(5, np.uint8), (8, np.uint8), (16, np.uint16)])
def test_the_truth_undoes_everything_except_rounding(images, labels, per, flips, bits, kind):
    before = images.copy()
    damaged, relabelled, truth = damage(images, labels, 3, per=per, flips=flips, bits=bits)
    assert (damaged.dtype, damaged.shape) == (kind, images.shape)
    assert damaged.max() < 2**bits
    np.testing.assert_array_equal(images, before)
    np.testing.assert_array_equal(relabelled, labels[truth.order])
    assert sorted(truth.order) == list(range(40))
    assert (
        len(np.unique(truth.gain)) == len(np.unique(truth.offset)) == (40 if per == "patch" else 1)
    )
    assert (len(set(truth.flip)) > 4) == flips
    half_a_step = 0.5 / truth.gain.min()
    np.testing.assert_allclose(restored(damaged, truth), images, atol=1.01 * half_a_step)


def test_a_seed_gives_the_same_damage_and_options_are_independent(images, labels):
    everything = {"flips": True, "noise_db": 10, "blur": 0.7, "jpeg_quality": 80, "clip": (1, 99)}
    one, _, truth = damage(images, labels, 5, **everything)
    same, _, again = damage(images, labels, 5, **everything)
    other, _, changed = damage(images, labels, 6, **everything)
    _, _, plain = damage(images, labels, 5)
    np.testing.assert_array_equal(one, same)
    np.testing.assert_array_equal(truth.flip, again.flip)
    assert (one != other).any()
    assert (changed.order != truth.order).any()
    np.testing.assert_array_equal(plain.order, truth.order)
    assert (plain.flip == "none").all()


def test_patches_are_shuffled_sorted_or_in_order(images, labels):
    _, kept, truth = damage(images, labels, 0, order="kept")
    np.testing.assert_array_equal(truth.order, np.arange(40))
    np.testing.assert_array_equal(kept, labels)
    _, in_order, truth = damage(images, labels, 0, order="sorted")
    np.testing.assert_array_equal(in_order, np.sort(labels))
    for k in range(4):
        assert (np.diff(truth.order[in_order == k]) > 0).all()
    assert (damage(images, labels, 0)[2].order != np.arange(40)).any()


@pytest.mark.parametrize("noise_db", [0.0, 10.0, 20.0])
def test_noise_has_the_requested_power(images, labels, noise_db):
    damaged, _, truth = damage(images, labels, 0, noise_db=noise_db, bits=16, contrast=(0.1, 0.2))
    noise = restored(damaged, truth) - images
    ratios = images.var(axis=(1, 2)) / noise.var(axis=(1, 2))
    assert 10 * np.log10(np.median(ratios)) == pytest.approx(noise_db, abs=0.3)
    assert 10 * np.log10(ratios.max() / ratios.min()) < 2


def test_blur_is_gaussian(images, labels):
    damaged, _, truth = damage(images, labels, 0, blur=1.5, bits=16)
    blurred = gaussian_filter(images, 1.5, axes=(1, 2), mode="nearest")
    np.testing.assert_allclose(restored(damaged, truth), blurred, atol=1 / truth.gain.min())


def test_ends_are_clipped_at_the_percentiles_of_the_set(images, labels):
    damaged, _, truth = damage(images, labels, 0, clip=(5, 90), bits=16)
    low, high = np.percentile(images, (5, 90))
    clipped = np.clip(images, low, high)
    np.testing.assert_allclose(restored(damaged, truth), clipped, atol=1 / truth.gain.min())
    full, _, _ = damage(images, labels, 0, clip=(5, 90), contrast=(1, 1), brightness=(0, 0))
    assert (full == 0).mean() == pytest.approx(0.05, abs=0.005)
    assert (full == 255).mean() == pytest.approx(0.10, abs=0.005)


def test_jpeg_loses_more_at_lower_quality(images, labels):
    whole, _, _ = damage(images, labels, 0)
    errors = [
        np.abs(damage(images, labels, 0, jpeg_quality=quality)[0].astype(float) - whole).mean()
        for quality in (95, 50, 10)
    ]
    assert 0 < errors[0] < errors[1] < errors[2] < 20


def test_contrast_and_brightness_are_shares_of_the_grey_scale(images, labels):
    damaged, _, truth = damage(images, labels, 0, contrast=(0.4, 0.4), brightness=(0.1, 0.1))
    assert damaged.max() - damaged.min() == pytest.approx(0.4 * 255, abs=1)
    assert (int(damaged.max()) + int(damaged.min())) / 2 == pytest.approx(0.6 * 255, abs=1)
    assert truth.gain[0] == pytest.approx(0.4 * 255 / np.ptp(images))


def test_bands_share_one_damage(images, labels):
    stack = np.stack([images, 2 * images, images[:, ::-1]], axis=1)
    damaged, _, truth = damage(stack, labels, 0, flips=True, jpeg_quality=95)
    assert damaged.shape == (40, 3, 24, 24)
    np.testing.assert_allclose(restored(damaged, truth), stack, atol=8 / truth.gain.min())


def test_patches_that_are_not_square_keep_their_shape(images, labels):
    damaged, _, truth = damage(images[:, :20], labels, 0, flips=True)
    assert set(truth.flip) == set(KEEP_SHAPE)
    np.testing.assert_allclose(
        restored(damaged, truth), images[:, :20], atol=0.51 / truth.gain.min()
    )


def test_constant_patches_stay_constant():
    flat = np.full((3, 8, 8), 7.0)
    damaged, _, _ = damage(flat, np.arange(3), 0, noise_db=10, blur=1)
    assert (damaged == damaged[:, :1, :1]).all()


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"bits": 0}, "not from 1 to 16"),
        ({"bits": 17}, "not from 1 to 16"),
        ({"clip": (99, 1)}, "not percentiles in rising order"),
        ({"clip": (-1, 99)}, "not percentiles in rising order"),
        ({"bits": 16, "jpeg_quality": 80}, "a JPEG holds 8 bits"),
        ({"jpeg_quality": 0}, "not from 1 to 95"),
    ],
)
def test_wrong_options_raise_an_error(images, labels, options, line):
    with pytest.raises(OutcropError, match=line) as error:
        damage(images, labels, 0, **options)
    assert "\n" not in str(error.value)


def test_a_missing_label_raises_an_error(images, labels):
    with pytest.raises(OutcropError, match="39 for 40 patches"):
        damage(images, labels[1:], 0)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_patches_with_gaps_raise_an_error(images, labels, value):
    broken = images.copy()
    broken[3, 2, 1] = value
    with pytest.raises(OutcropError, match="not finite"):
        damage(broken, labels, 0)
