import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from outcrop.errors import OutcropError
from outcrop.models import features
from outcrop.models.features import (
    FEATURES,
    LAGS,
    centre,
    of_pixels,
    statistics,
)


def statistic_names(bands, size):
    """The name of every column of `statistics` for patches of `size`, such as "red centre"."""
    measures = features._measure(np.zeros((1, 1, *size), np.float32), size)
    return tuple(f"{band} {measure}" for measure in measures for band in bands)


def direct_madogram(band, lag, axis):
    band = np.moveaxis(band, axis, 0)
    pairs = np.abs(band[lag:] - band[:-lag])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        value = np.nanmean(pairs) / 2
    return 0.0 if np.isnan(value) else value


def direct(patch):
    """The features of one patch by name, computed pixel by pixel."""
    found = {}
    _, height, width = patch.shape
    for b, band in enumerate(patch.astype(np.float64)):
        found[f"{b} centre"] = band[height // 2, width // 2]
        half_height, half_width = (height + 1) // 2, (width + 1) // 2
        top, left = height // 2 - half_height // 2, width // 2 - half_width // 2
        inner = band[top : top + half_height, left : left + half_width]
        for name, window in (("", band), ("inner ", inner)):
            found[f"{b} {name}mean"] = np.nanmean(window)
            found[f"{b} {name}deviation"] = np.nanstd(window)
            for direction, axis in (("down", 0), ("across", 1)):
                for lag in (lag for lag in LAGS if lag < window.shape[axis]):
                    found[f"{b} {name}texture {lag} {direction}"] = direct_madogram(
                        window, lag, axis
                    )
    return found


@given(
    seed=st.integers(0, 1000),
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    gaps=st.sampled_from([0.0, 0.3, 1.0]),
)
@settings(max_examples=60, deadline=None)
def test_statistics_are_those_of_numpy(seed, height, width, gaps):
    rng = np.random.default_rng(seed)
    images = rng.normal(100, 20, (3, 2, height, width)).astype(np.float32)
    empty = rng.random(images.shape) < gaps
    empty[:, :, height // 2, width // 2] = False
    images[empty] = np.nan
    names = statistic_names(["0", "1"], (height, width))
    found = statistics(images)
    assert found.dtype == np.float32
    for patch, row in zip(images, found, strict=True):
        expected = direct(patch)
        assert set(expected) == set(names)
        np.testing.assert_allclose(row, [expected[name] for name in names], rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16])
def test_integers_do_not_wrap(dtype):
    images = np.random.default_rng(0).integers(0, 256, (4, 3, 8, 8)).astype(dtype)
    for measure in FEATURES.values():
        np.testing.assert_array_equal(measure(images), measure(images.astype(np.float32)))


def test_parts_give_the_same_as_the_whole(monkeypatch):
    images = np.random.default_rng(0).normal(size=(23, 2, 6, 6)).astype(np.float32)
    whole = statistics(images)
    monkeypatch.setattr("outcrop.models.features._PART_PIXELS", 200)
    np.testing.assert_array_equal(statistics(images), whole)


@pytest.mark.parametrize("size", [1, 4, 5, 16])
def test_the_centre_pixel_follows_the_convention(size):
    images = np.zeros((2, 3, size, size))
    images[:, :, size // 2, size // 2] = [[1, 2, 3], [4, 5, 6]]
    np.testing.assert_array_equal(centre(images), [[1, 2, 3], [4, 5, 6]])
    np.testing.assert_array_equal(statistics(images)[:, :3], centre(images))


def test_stripes_have_texture_across_and_none_down():
    images = np.zeros((1, 1, 8, 8))
    images[..., ::2] = 2
    found = dict(zip(statistic_names(["b"], (8, 8)), statistics(images)[0], strict=True))
    assert found["b texture 1 across"] == 1
    assert found["b texture 2 across"] == 0
    assert found["b texture 1 down"] == 0


def test_no_patches_have_as_many_features():
    assert statistics(np.zeros((0, 2, 5, 5))).shape == (0, len(statistic_names("ab", (5, 5))))


def pixels_of(kind, seed, shape):
    """Typical pixels: reflectances, digital numbers, elevations, flat areas."""
    rng = np.random.default_rng(seed)
    if kind == "reflectance":
        return rng.beta(2, 20, shape).astype(np.float32)
    if kind == "numbers":
        return rng.integers(0, 65_536, shape).astype(np.uint16)
    if kind == "negative":
        return rng.integers(-2000, 2000, shape).astype(np.int16)
    if kind == "double":
        return rng.normal(1e4, 0.1, shape)
    if kind == "flat":
        return np.full(shape, rng.uniform(-1e5, 1e5), dtype=np.float32)
    return np.exp(rng.normal(0, 10, shape)).astype(np.float32)


@given(
    seed=st.integers(0, 1000),
    kind=st.sampled_from(["reflectance", "numbers", "negative", "double", "flat", "wide"]),
    size=st.tuples(st.integers(1, 18), st.integers(1, 18)),
    out=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    gaps=st.sampled_from([0.0, 0.02, 0.5, 1.0]),
    strip=st.sampled_from([1, 100, 1 << 17]),
)
@settings(max_examples=120, deadline=None)
def test_sliding_windows_give_the_bits_of_patches(seed, kind, size, out, gaps, strip):
    shape = (2, out[0] + size[0] - 1, out[1] + size[1] - 1)
    pixels = pixels_of(kind, seed, shape)
    if gaps:
        pixels = np.where(np.random.default_rng(seed).random(shape) < gaps, np.nan, pixels)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(features, "_STRIP_PIXELS", strip)
        found = {name: of_pixels(name, pixels, size) for name in FEATURES}
    windows = np.lib.stride_tricks.sliding_window_view(pixels, size, axis=(1, 2))
    patches = np.moveaxis(windows, 0, 2).reshape(-1, 2, *size)
    for name, measure in FEATURES.items():
        assert found[name].dtype == np.float32
        expected = measure(patches).T.reshape(-1, *out)
        np.testing.assert_array_equal(found[name], expected)
        one_by_one = np.concatenate([measure(patch[None]) for patch in patches[:3]])
        np.testing.assert_array_equal(one_by_one, measure(patches[:3]))


@given(value=st.floats(-1e6, 1e6, width=32), size=st.integers(1, 20))
@settings(max_examples=50, deadline=None)
def test_a_constant_patch_does_not_vary(value, size):
    found = dict(
        zip(
            statistic_names("b", (size, size)),
            statistics(np.full((1, 1, size, size), value, dtype=np.float32))[0],
            strict=True,
        )
    )
    assert found.pop("b centre") == np.float32(value)
    for name, measured in found.items():
        assert measured == (pytest.approx(value, rel=1e-6) if name.endswith("mean") else 0)


def test_small_variation_of_large_numbers_is_kept():
    images = 10_000 + np.random.default_rng(0).normal(0, 0.05, (20, 1, 9, 9))
    images = images.astype(np.float32)
    deviation = statistics(images)[:, statistic_names("b", (9, 9)).index("b deviation")]
    np.testing.assert_allclose(deviation, images.astype(float).std(axis=(1, 2, 3)), rtol=1e-4)


def test_a_patch_without_data_but_its_centre_has_finite_features():
    images = np.full((1, 2, 7, 7), np.nan, dtype=np.float32)
    images[:, :, 3, 3] = 5
    found = dict(zip(statistic_names("ab", (7, 7)), statistics(images)[0], strict=True))
    assert found["a mean"] == found["b inner mean"] == found["a centre"] == 5
    assert all(v == 0 for name, v in found.items() if "texture" in name or "deviation" in name)


def test_features_of_another_kind_are_refused():
    with pytest.raises(OutcropError, match="take one of centre pixel, patch statistics"):
        of_pixels("VAE code", np.zeros((1, 5, 5)), (3, 3))
