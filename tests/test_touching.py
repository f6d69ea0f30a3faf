"""Adjacent patches share no pixel, whatever the CRS of the scene."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.transform import from_origin

from outcrop.auditing.distances import gaps
from outcrop.patches.samples import positions_of
from outcrop.sources.geodesy import metric_systems
from outcrop.sources.labels import LabelledPixels
from outcrop.sources.opening import open_scene
from outcrop.splits.ground import near
from tests.rasters import write_raster

SIDE = 400


def positions(folder, crs, corner, pixel, row, column, size):
    pixels = np.zeros((1, SIDE, SIDE), "uint8")
    path = write_raster(
        folder / "s.tif", pixels, crs=crs, transform=from_origin(*corner, pixel, pixel)
    )
    scene = open_scene(path)
    row, column = np.array(row), np.array(column)
    at = LabelledPixels(row, column, np.zeros_like(row), np.arange(len(row)))
    return positions_of(scene, at, 0, size, metric_systems([scene])[0], 0)


@settings(deadline=None, max_examples=25)
@given(
    longitude=st.floats(-170, 160),
    latitude=st.floats(-70, 75),
    size=st.integers(4, 40),
    row=st.integers(60, 300),
    column=st.integers(60, 300),
)
def test_adjacent_patches_in_degrees_do_not_overlap(
    tmp_path_factory, longitude, latitude, size, row, column
):
    folder = tmp_path_factory.mktemp("touch")

    def around(steps):
        rows, columns = np.array([(0, 0), *steps]).T
        corner = longitude, latitude
        return positions(folder, "EPSG:4326", corner, 1e-4, row + rows, column + columns, size)

    at = around([(0, size), (size, 0), (size, size), (-size, size), (0, -size)])
    assert not near(at[:1], at[1:], 0.0).any()
    assert gaps(at[:1], at[1:])[0][0] >= 0
    # One pixel closer, they do.
    at = around([(0, size - 1), (size - 1, 0), (1 - size, 0)])
    assert near(at[1:], at[:1], 0.0).all()


@pytest.mark.parametrize("crs", ["EPSG:32648", "EPSG:3035"])
def test_adjacent_patches_in_metres_do_not_overlap(tmp_path, crs):
    rows, columns = np.indices((6, 6)).reshape(2, -1) * 33 + 20
    at = positions(tmp_path, crs, (4_300_000.3, 3_100_000.7), 9.7, rows, columns, 33)
    for k in range(len(at)):
        one, others = at[np.array([k])], at[np.delete(np.arange(len(at)), k)]
        assert not near(one, others, 0.0).any()
