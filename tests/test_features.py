import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from outcrop.models.features import FEATURES, LAGS, centre, statistic_names, statistics


def direct_madogram(band, lag, axis):
    band = np.moveaxis(band, axis, 0)
    pairs = np.abs(band[lag:] - band[:-lag])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        value = np.nanmean(pairs) / 2
    return 0.0 if np.isnan(value) else value


def direct(patch):
    """The features of one patch, pixel by pixel as the docstring says, by name."""
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
def test_statistics_are_what_they_say(seed, height, width, gaps):
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
    for features in FEATURES.values():
        np.testing.assert_array_equal(features(images), features(images.astype(np.float32)))


def test_pieces_make_the_whole(monkeypatch):
    images = np.random.default_rng(0).normal(size=(23, 2, 6, 6)).astype(np.float32)
    whole = statistics(images)
    monkeypatch.setattr("outcrop.models.features._CHUNK_PIXELS", 200)
    np.testing.assert_array_equal(statistics(images), whole)


@pytest.mark.parametrize("size", [1, 4, 5, 16])
def test_centre_pixel_is_the_one_of_the_convention(size):
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
